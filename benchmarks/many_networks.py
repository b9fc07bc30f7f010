"""What a comparison costs as networks become many: pairs, tables, memory, disk.

    python -m benchmarks.many_networks
    python -m benchmarks.many_networks --images 1000 --grid 64 --networks 4 8    # dear pairs

Of synthetic runs, probed with halves; without pictures and measures of features. Each comparison
is a process of its own, on one core. Prints processor seconds for each pair and for the tables
of all, the memory that the process has added, and what lies on the disk.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.own_process import Stopwatch, in_own_process
from benchmarks.synthetic_runs import write_synthetic_runs
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparison import compare
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.report.tables import print_table
from cavalcade.runs import load_run


def main() -> None:
    """Compare more and more networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--concepts", type=int, default=11)
    parser.add_argument("--grid", type=int, default=32)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        sizes = {name: getattr(args, name) for name in ("images", "layers", "concepts", "grid")}
        runs = write_synthetic_runs(root, max(args.networks), **sizes)
        for count in args.networks:
            rows.append(row(runs[:count], root / f"of-{count}"))
    title = f"{args.layers} layers, {args.concepts} concepts, {args.images} images"
    print_table(f"{title} on a grid of {args.grid} x {args.grid}", pd.DataFrame(rows))


def row(runs: list[Path], place: Path) -> dict[str, str]:
    """A row of the table, for some networks."""
    (compared, tables, largest), peak = in_own_process(measured, runs, place)
    pairs = len(runs) * (len(runs) + 1) // 2
    written = sum(path.stat().st_size for path in (place / "comparison").rglob("*.*"))
    kept = sum(path.stat().st_size for path in (place / "pairs").rglob("*.safetensors"))
    return {
        "networks": str(len(runs)),
        "pairs": str(pairs),
        "seconds a pair": f"{compared / pairs:.2f}",
        "kB a pair": f"{kept / 1000 / pairs:.0f}",
        "tables": f"{tables:.1f} s",
        "peak": f"{peak / 1000:.0f} MB",
        "folder": f"{written / 1e6:.1f} MB",
        "largest table": largest,
    }


def measured(runs: list[Path], place: Path) -> tuple[float, float, str]:
    """Seconds of the pairs, of the tables, and the table of most rows."""
    loaded = [load_run(run) for run in runs]
    watch = Stopwatch()
    analysis = Analysis(compare(loaded, against=(), cache=place / "pairs"))
    pairs = watch.lap()
    tables = tables_of(analysis)
    write_comparison(analysis, loaded, place / "comparison", tables, pictures=0)
    rows, name = max((len(table), name) for name, table in tables.items())
    return pairs, watch.lap(), f"{name}: {rows:,} rows"


if __name__ == "__main__":
    main()
