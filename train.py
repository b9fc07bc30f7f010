"""Reduces networks on a data set to run folders: python train.py --help."""

from cavalcade.programs.train import run

if __name__ == "__main__":
    run()
