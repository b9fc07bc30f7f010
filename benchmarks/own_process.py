"""Measures some work in a process of its own."""

import logging
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from cavalcade.cli import prepare_process

Result = TypeVar("Result")


def in_own_process(work: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:  # noqa: ANN401
    """What some work returns, and the kilobytes of memory that it added to its process.

    torch has one thread there; the process has all cores, unless the work keeps to some of them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cavalcade.comparing.comparison_folder", "benchmarks.synthetic_runs"]
    )
    with context.Pool(1) as pool:
        found = pool.apply(_prepared, (work, arguments))
        pool.close()
        pool.join()
    return found


def _prepared(work: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[Result, float]:
    logging.disable(logging.WARNING)
    prepare_process()
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = work(*arguments)
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


class Seconds(NamedTuple):
    """How long some work took, and how long all cores together were busy with it."""

    wall: float
    processor: float


class Stopwatch:
    """Seconds since it was made, or asked last."""

    def __init__(self) -> None:
        self.last = self._now()

    def lap(self) -> Seconds:
        """The seconds."""
        before, self.last = self.last, self._now()
        return Seconds(self.last.wall - before.wall, self.last.processor - before.processor)

    @staticmethod
    def _now() -> Seconds:
        return Seconds(time.perf_counter(), time.process_time())
