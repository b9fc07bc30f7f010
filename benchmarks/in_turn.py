"""What benchmarks share: kinds of work timed in turn, and their medians in one table."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from cavalcade.report.tables import print_table

Seconds = Mapping[str, Sequence[float]]


def in_turn(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Seconds of each work in each repeat, in which all have their turn, so that they share luck.

    Args:
        works: by their names.
        repeats: how often each is timed.
        warm_up: have a first round that is not counted; works of minutes need none.
        clock: `time.process_time` where a few per cent matter and others use the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(0 if warm_up else 1, repeats + 1):
        for name, work in works.items():
            start = clock()
            work()
            if repeat:
                seconds[name].append(clock() - start)
    return seconds


def ratio_table(seconds: Seconds, base: str) -> pd.DataFrame:
    """A row for each work: median seconds, and its ratio to `base` with the range of the repeats.

    Ratios are taken within a repeat.
    """
    rows = []
    for name, own in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(own, seconds[base], strict=True)]
        rows.append(
            {
                "": name,
                "seconds": np.format_float_positional(
                    statistics.median(own), precision=3, fractional=False
                ),
                f"times {base}": statistics.median(ratios),
                "from": min(ratios),
                "to": max(ratios),
            }
        )
    return pd.DataFrame(rows)


def print_ratios(title: str, seconds: Seconds, base: str) -> None:
    """Print what `ratio_table` gives."""
    repeats = len(seconds[base])
    print_table(f"{title}: medians of {repeats}", ratio_table(seconds, base))
