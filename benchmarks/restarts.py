"""What refits for stability cost: a fit with ten of them, in turn with a fit with one, on one core.

    python -m benchmarks.restarts

Of the rows of nmf.py, drawn again by images that are drawn with replacement. Prints medians of
the pairwise ratio, and the seconds of each.
"""

import statistics
import time

import torch

from benchmarks.arguments import parser_of
from benchmarks.cores import keep_to
from benchmarks.nmf import CONCEPTS, IMAGES, activations
from cavalcade.cli import run
from cavalcade.concepts.nmf import factorise, refit

MANY = 10


def main() -> None:
    """Fit again and again, in turn with many refits and with one."""
    parser = parser_of(__doc__, repeats=5)
    repeats = parser.parse_args().repeats
    rows = activations()
    keep_to(1)
    weights = bootstraps(len(rows))
    seconds_of_fit(rows, weights)  # warms up
    pairs = [
        (seconds_of_fit(rows, weights[:1]), seconds_of_fit(rows, weights)) for _ in range(repeats)
    ]
    for what, found in (
        ("seconds with 1", [one for one, _ in pairs]),
        (f"seconds with {MANY}", [many for _, many in pairs]),
        (f"with {MANY} / with 1", [many / one for one, many in pairs]),
    ):
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"{what:17} {middle:.2f}  (of {repeats}: {low:.2f} to {high:.2f})")


def bootstraps(rows: int) -> torch.Tensor:
    """How often each of so many bootstraps draws each row: as often as its image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(IMAGES, (rows,), generator=generator)
    drawn = torch.randint(IMAGES, (MANY, IMAGES), generator=generator)
    times = torch.zeros(MANY, IMAGES).scatter_add_(1, drawn, torch.ones(MANY, IMAGES))
    return times[:, image]


def seconds_of_fit(rows: torch.Tensor, weights: torch.Tensor) -> float:
    """The main fit, and a refit for each weighting."""
    start = time.perf_counter()
    factorise(rows, CONCEPTS)
    refit(rows, CONCEPTS, weights)
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)
