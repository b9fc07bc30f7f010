"""What a comparison costs as networks become many: pairs, tables, memory, disk.

    python -m benchmarks.many_networks
    python -m benchmarks.many_networks --networks 10 30 100 --images 1000 --grid 56 --layers 10 \
        --concepts 10 --no-halves --no-tables       # an hour of processor time; 8 GB of disk
    python -m benchmarks.many_networks --growth growth.png

Of synthetic runs; without pictures and measures of features. Each comparison is a process of its
own, on all cores. Prints, for all pairs, for each, and for the tables of all, how long they took
and then the processor seconds of all cores together; the memory that the process has added, and
what lies on the disk. The runs were written just before, so that their masks are read from the
page cache of the system: a disk takes its time on top, unless it has them there too.

With `--growth` the pairs alone, as networks, layers and images grow from a comparison of a middling
size, against what the operations predict: of pairs of masks, chance takes as many whatever the
images, meetings as many as there are images; and each mask of each network is read once for each
group that it is compared with. The processor seconds that each kind of operation takes come from
all but the largest points, and the picture shows how far those lie from that.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import nnls

from benchmarks.own_process import Seconds, Stopwatch, in_own_process
from benchmarks.synthetic_runs import write_synthetic_runs
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparison import compare
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.concept_counts import ConceptCounts
from cavalcade.comparing.pair_store import PairsOnDisk
from cavalcade.report.tables import print_table
from cavalcade.runs import ProbedRun, load_run
from cavalcade.similarity import repaired_orders

MIDDLING = {"networks": 12, "layers": 6, "images": 400}
GROWTH = {
    "networks": (6, 12, 24, 48),
    "layers": (3, 6, 12, 24),
    "images": (100, 400, 1600, 6400),
}
Size = Mapping[str, int]


def main() -> None:
    """Compare more and more networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--concepts", type=int, default=11)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--halves", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tables", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, help="for runs and pairs; temporary if not given")
    parser.add_argument("--growth", type=Path, help="the picture to write, instead of the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        if args.growth is not None:
            growth(Path(place), args.growth)
            return
        names = ("images", "layers", "concepts", "grid", "halves")
        sizes = {name: getattr(args, name) for name in names}
        runs = write_synthetic_runs(Path(place), max(args.networks), **sizes)
        rows = [row(runs[:n], Path(place) / f"of-{n}", args.tables) for n in args.networks]
    title = f"{args.layers} layers, {args.concepts} concepts, {args.images} images"
    print_table(f"{title} on a grid of {args.grid} x {args.grid}", pd.DataFrame(rows))


def row(runs: list[Path], place: Path, with_tables: bool) -> dict[str, str]:
    """A row of the table, for some networks."""
    work = measured if with_tables else measured_pairs
    (compared, tables, largest), peak = in_own_process(work, runs, place)
    pairs = len(runs) * (len(runs) + 1) // 2
    written = sum(path.stat().st_size for path in (place / "comparison").rglob("*.*"))
    kept = sum(path.stat().st_size for path in (place / "pairs").rglob("*.safetensors"))
    return {
        "networks": str(len(runs)),
        "pairs": str(pairs),
        "all pairs": wall_first(compared, "{:.1f} s"),
        "a pair": wall_first(Seconds(*(1000 * s / pairs for s in compared)), "{:.0f} ms"),
        "kB a pair": f"{kept / 1000 / pairs:.0f}",
        "tables": wall_first(tables, "{:.1f} s") if with_tables else "",
        "peak": f"{peak / 1000:.0f} MB",
        "folder": f"{written / 1e6:.1f} MB",
        "largest table": largest,
    }


def wall_first(seconds: Seconds, form: str) -> str:
    """How long it took, and the processor's time in brackets."""
    return f"{form.format(seconds.wall)} ({form.format(seconds.processor)})"


def measured(runs: list[Path], place: Path) -> tuple[Seconds, Seconds, str]:
    """Seconds of the pairs, of the tables, and the table of most rows."""
    loaded = [load_run(run) for run in runs]
    watch = Stopwatch()
    analysis = Analysis(compare(loaded, against=(), cache=place / "pairs"))
    pairs = watch.lap()
    tables = tables_of(analysis)
    write_comparison(analysis, loaded, place / "comparison", tables, pictures=0)
    rows, name = max((len(table), name) for name, table in tables.items())
    return pairs, watch.lap(), f"{name}: {rows:,} rows"


def measured_pairs(runs: list[Path], place: Path) -> tuple[Seconds, Seconds, str]:
    """Seconds of counting the pairs and keeping them, without what is made of them."""
    loaded = [run for run in map(load_run, runs) if isinstance(run, ProbedRun)]
    watch = Stopwatch()
    keys = [(i, j) for i in range(len(loaded)) for j in range(i, len(loaded))]
    orders = repaired_orders(np.array(loaded[0].truth.blocks), 16)
    ConceptCounts(loaded, keys, orders, PairsOnDisk(place / "pairs"))
    return watch.lap(), Seconds(0.0, 0.0), ""


def growth(place: Path, picture: Path) -> None:
    """Measure all points, print them and draw them."""
    found: list[dict[str, Any]] = []
    for grows, counts in GROWTH.items():
        for count in counts:
            size = MIDDLING | {grows: count}
            folder = place / f"{grows}-{count}"
            sizes = {"images": size["images"], "layers": size["layers"]}
            runs = write_synthetic_runs(
                folder, size["networks"], **sizes, concepts=2, grid=56, halves=False
            )
            (seconds, *_), peak = in_own_process(measured_pairs, runs, folder)
            times = {"wall": seconds.wall, "processor": seconds.processor}
            found.append(size | {"grows": grows, **times, "MB": peak / 1000})
            said = wall_first(seconds, "{:.1f} s")
            print(f"{grows} {count}: {said}, {peak / 1000:.0f} MB", flush=True)
    table = pd.DataFrame(found)
    table["predicted"] = predicted(found)
    print_table("growth of the pairs", table.round(1))
    draw(table).savefig(picture, dpi=150)


def operations(size: Size) -> list[float]:
    """Of chance, of meetings, and of reading; and what every comparison does."""
    rows = size["networks"] * size["layers"]
    pairs = size["layers"] ** 2 * size["networks"] * (size["networks"] + 1) / 2
    return [pairs, pairs * size["images"], rows * size["images"], 1.0]


def predicted(points: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Seconds of all points, from all but the largest: of least error in proportion."""
    work = np.array([operations(point) for point in points])
    seconds = np.array([point["processor"] for point in points])
    small = np.array([point[point["grows"]] in GROWTH[point["grows"]][:3] for point in points])
    rates, _ = nnls(work[small] / seconds[small, None], np.ones(small.sum()))
    return work @ rates


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each that grows: seconds against the prediction, and memory below."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(2, 3, sharey="row", sharex="col", height_ratios=(2, 1))
    for (grows, points), (above, below) in zip(
        table.groupby("grows", sort=False), axes.T, strict=True
    ):
        x = points[grows]
        above.plot(x, points["predicted"], color="0.6", label="predicted by all but the last")
        above.plot(x, points["processor"], "o", color="C0", label="measured")
        below.plot(x, points["MB"], "o-", color="C1")
        fixed = ", ".join(f"{n} {name}" for name, n in MIDDLING.items() if name != grows)
        above.set(xscale="log", yscale="log", title=f"{grows}\n({fixed})")
        below.set(xlabel=grows, ylim=(0, 1.15 * table["MB"].max()))
        below.set_xticks(x, [f"{count:,}" for count in x])
        below.minorticks_off()
        for axis in (above, below):
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.3)
    axes[0, 0].set_yticks([0.5, 1, 2, 5, 10])
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    axes[0, 0].minorticks_off()
    axes[0, 0].set_ylabel("processor seconds of all pairs")
    axes[1, 0].set_ylabel("memory added (MB)")
    axes[0, 0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
