"""A progress bar that says what is being done."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only
from tqdm.auto import tqdm

Item = TypeVar("Item")
DELAY = 0.5  # seconds, before which nobody has begun to wait


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Go through `items` under a bar that says what is being done, how far, and how long it takes.

    What is done at once has no bar, nor have other processes than the first.
    """
    disable = getattr(rank_zero_only, "rank", 0) != 0
    yield from tqdm(items, desc=what, total=total, leave=True, delay=DELAY, disable=disable)
