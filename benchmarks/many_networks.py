r"""What a comparison costs as networks become many: pairs, tables, memory, disk.

    python -m benchmarks.many_networks
    python -m benchmarks.many_networks --networks 10 30 100 --images 1000 --grid 56 --layers 10 \
        --concepts 10 --no-halves --no-tables       # an hour of processor time; 8 GB of disk
    python -m benchmarks.many_networks --growth growth.png

Of synthetic runs; without pictures and measures of features. Each comparison is a process of its
own, on all cores. Prints, for all pairs and for the tables of all, how long they took and the
processor seconds of all cores together; the memory that the process has added, and what lies on
the disk, pairs and tables. The runs were written just before, so that their masks are read from the
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

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.own_process import Seconds, Stopwatch, in_own_process
from benchmarks.synthetic_runs import write_synthetic_runs
from cavalcade.cli import run
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
    parser = parser_of(__doc__)
    parser.add_argument(
        "--networks", type=at_least_one, nargs="+", default=[8, 16, 32], help="of each comparison"
    )
    parser.add_argument("--images", type=at_least_one, default=60, help="of the test split")
    parser.add_argument("--layers", type=at_least_one, default=5, help="of each network")
    parser.add_argument("--concepts", type=at_least_one, default=11, help="at each layer")
    parser.add_argument("--grid", type=at_least_one, default=32, help="rows and columns of a mask")
    parser.add_argument(
        "--halves",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="two more probes for each",
    )
    parser.add_argument(
        "--tables",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="and write what a comparison writes",
    )
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
    (compared, tables), peak = in_own_process(work, runs, place)
    pairs = len(runs) * (len(runs) + 1) // 2
    written = sum(path.stat().st_size for path in (place / "comparison").rglob("*.*"))
    kept = sum(path.stat().st_size for path in (place / "pairs").rglob("*.safetensors"))
    return {
        "networks": str(len(runs)),
        "pairs": str(pairs),
        "all pairs, s": wall_first(compared),
        "each, ms": f"{1000 * compared.wall / pairs:.0f}",
        "each, kB": f"{kept / 1000 / pairs:.0f}",
        "tables, s": wall_first(tables) if with_tables else "",
        "tables, MB": f"{written / 1e6:.1f}",
        "peak, MB": f"{peak / 1000:.0f}",
    }


def wall_first(seconds: Seconds) -> str:
    """How long it took, and the processor's time in brackets."""
    return f"{seconds.wall:.1f} ({seconds.processor:.1f})"


def measured(runs: list[Path], place: Path) -> tuple[Seconds, Seconds]:
    """Seconds of the pairs and of the tables."""
    loaded = [load_run(run) for run in runs]
    watch = Stopwatch()
    analysis = Analysis(compare(loaded, against=(), cache=place / "pairs"))
    pairs = watch.lap()
    tables = tables_of(analysis)
    write_comparison(analysis, loaded, place / "comparison", tables, pictures=0, report=False)
    return pairs, watch.lap()


def measured_pairs(runs: list[Path], place: Path) -> tuple[Seconds, Seconds]:
    """Seconds of counting the pairs and keeping them, without what is made of them."""
    loaded = [run for run in map(load_run, runs) if isinstance(run, ProbedRun)]
    watch = Stopwatch()
    keys = [(i, j) for i in range(len(loaded)) for j in range(i, len(loaded))]
    orders = repaired_orders(np.array(loaded[0].truth.blocks), 16)
    ConceptCounts(loaded, keys, orders, PairsOnDisk(place / "pairs"))
    return watch.lap(), Seconds(0.0, 0.0)


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
            said = wall_first(seconds)
            print(f"{grows} {count}: {said} s, {peak / 1000:.0f} MB", flush=True)
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
    run(main)
