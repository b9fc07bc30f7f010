"""The same work for many pairs at once: one thread for each core, each on one core."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What some work makes of each item, in their order.

    Matrices of tens of layers are too small for linear algebra to share among cores: its own
    threads are kept to one, and the items are shared instead.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores) as pool:
        yield from pool.map(work, items)
