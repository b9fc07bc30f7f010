"""Compares finished runs, layer by layer: python compare.py --help."""

from cavalcade.programs.compare import run

if __name__ == "__main__":
    run()
