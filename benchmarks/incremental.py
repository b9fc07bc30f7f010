"""What one network more costs a comparison: with the pairs that are kept, and from scratch.

    python -m benchmarks.incremental

Of synthetic runs, probed with halves, by where concepts fire and by one measure of features.
Each comparison is a process of its own, on one core, all in turn. Prints medians over repeats:
processor seconds from scratch, of one network more, and of the same again; the ratio of the
first two in each repeat; the pairs computed, bytes on disk for each pair, and the most memory
that a comparison added to its process, also where pairs are kept in memory.
"""

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cores import keep_to
from benchmarks.own_process import Stopwatch, in_own_process
from benchmarks.synthetic_runs import write_synthetic_runs
from cavalcade.cli import run
from cavalcade.comparing.comparison import compare
from cavalcade.report.tables import print_table
from cavalcade.runs import load_run

IMAGES, LAYERS, CONCEPTS = 60, 8, 3
AGAINST = ("cka",)


def main() -> None:
    """Compare more and more networks, from scratch and with one more."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument(
        "--networks",
        type=at_least_one,
        nargs="+",
        default=[5, 10, 20],
        help="compared before one more comes",
    )
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        sizes: dict[str, Any] = {"images": IMAGES, "layers": LAYERS, "concepts": CONCEPTS}
        runs = write_synthetic_runs(root, max(args.networks) + 1, **sizes)
        for count in args.networks:
            found = [measured(runs[: count + 1], root / "pairs") for _ in range(args.repeats)]
            middle = {key: statistics.median(each[key] for each in found) for key in found[0]}
            ratio = statistics.median(each["one more"] / each["scratch"] for each in found)
            rows.append(row(count, middle, ratio))
    title = f"{LAYERS} layers, {CONCEPTS} concepts, {IMAGES} images, {', '.join(AGAINST)}"
    print_table(title, pd.DataFrame(rows))


def row(count: int, middle: dict[str, float], ratio: float) -> dict[str, str]:
    """A row of the table, for one number of networks."""
    return {
        "networks": f"{count} + 1",
        "all, s": f"{middle['scratch']:.1f}",
        "more, s": f"{middle['one more']:.1f}",
        "again, s": f"{middle['again']:.1f}",
        "more / all": f"{ratio:.2f}",
        "pairs": f"{count + 1} of {(count + 1) * (count + 2) // 2}",
        "each, kB": f"{middle['bytes'] / 1000:.0f}",
        "peak, MB": f"{middle['peak'] / 1000:.0f}",
        "in memory": f"{middle['peak in memory'] / 1000:.0f}",
    }


def measured(runs: list[Path], cache: Path) -> dict[str, float]:
    """All but the last run, then all of them, and again; all from scratch, and without cache."""
    shutil.rmtree(cache, ignore_errors=True)
    in_own_process(compared, runs[:-1], cache)
    one_more, _ = in_own_process(compared, runs, cache)
    again, _ = in_own_process(compared, runs, cache)
    sizes = [path.stat().st_size for path in cache.rglob("*.safetensors")]
    shutil.rmtree(cache)
    scratch, peak = in_own_process(compared, runs, cache)
    _, peak_in_memory = in_own_process(compared, runs, None)
    pairs = len(runs) * (len(runs) + 1) // 2
    return {
        "scratch": scratch,
        "one more": one_more,
        "again": again,
        "bytes": sum(sizes) / pairs,
        "peak": peak,
        "peak in memory": peak_in_memory,
    }


def compared(runs: list[Path], cache: Path | None) -> float:
    """Processor seconds of a comparison, on one core."""
    keep_to(1)  # comparing has a thread for each
    watch = Stopwatch()
    compare([load_run(run) for run in runs], against=AGAINST, cache=cache)
    return watch.lap().processor


if __name__ == "__main__":
    run(main)
