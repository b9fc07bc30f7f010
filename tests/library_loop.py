"""Many jobs in one process, as a program of a user calls them; says what is left after each.

    python library_loop.py FOLDER

prints a line of JSON for each job: its kind, and what is in the process afterwards.
"""

import functools
import json
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import get_worker_info

from cavalcade import Analysis, InputError, compare, load_run
from cavalcade.backbones import FrozenBackbone
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.pictures import print_comparison
from cavalcade.concepts import ActivationCache, Factorisation, Probes
from cavalcade.report.tracking import Tracker
from tiny import PlantedSquares, Squares, streamed, tiny_backbone, tiny_data, tiny_model, tiny_visit
from watched import hooks_of, in_this_process

JOBS = 20
BALLAST = 1000  # thousand numbers in each network: 4 MB that are seen if one is kept
METHODS: tuple[Callable[[], Probes | Factorisation], ...] = (
    Probes,
    streamed,
    functools.partial(Factorisation, num_concepts=3, rows=200, restarts=1),
)
SMOOTH = nullcontext()
FAILING = 1000  # and above: the numbers of visits that fail, those that warm up too
WARM_UP = {"visit": 10, "compare": 4, "fail": 5}
LATER = 5  # images of a pass, before anything goes wrong


class Gone:
    """Counts objects that somebody still has."""

    def __init__(self) -> None:
        self.watched: list[weakref.ref[object]] = []

    def watch(self, *objects: object) -> None:
        self.watched += [weakref.ref(each) for each in objects]

    def left(self) -> list[str]:
        return sorted(type(found).__name__ for ref in self.watched if (found := ref()) is not None)


class Loop:
    """Calls jobs, each in the same folder; what each leaves is printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects, self.hooks = Gone(), 0

    def visit(self, number: int, accident: AbstractContextManager[object] = SMOOTH) -> None:
        """A network of its own: probed, by stream or mined; cached, tracked, with a worker."""
        backbone = self._backbone(number)
        data = tiny_data(backbone, squares(), num_workers=int(has_worker(number)))
        self.objects.watch(backbone, backbone.model, data)
        make = functools.partial(WandbLogger, offline=True, save_dir=self.folder)
        tracker = Tracker(make if number % 4 == 1 else None)
        cache = ActivationCache(self.folder / "cache", 1e-4) if number % 3 == 1 else None
        status = "failed"
        try:
            with accident:
                tiny_visit(
                    self.folder / "runs",
                    backbone,
                    data=data,
                    method=METHODS[number % 3](),
                    tracker=tracker,
                    cache=cache,
                )
            status = "success"
        finally:
            tracker.finish(status)
            self.hooks += hooks_of(backbone.model)

    def compare(self, number: int) -> None:
        """Two networks of one method, in numbers, pictures and a page."""
        method = ("probes", "nmf")[number % 4 == 3]
        runs = [load_run(path) for path in self.runs(method)[:2]]
        cache = self.folder / "pairs" if number % 2 else None
        comparison = compare(runs, against=["cka"], repairings=2, cache=cache)
        analysis = Analysis(comparison)
        self.objects.watch(*runs, comparison, analysis)
        place = self.folder / f"comparisons/{number}"
        write_comparison(analysis, runs, place, tables_of(analysis), pictures=number % 2)
        print_comparison(analysis, place)

    def fail(self, number: int) -> None:
        """A visit in the middle of which something happens; called again it ends well."""
        error, happens = ACCIDENTS[number % len(ACCIDENTS)]
        calls = iter(range(sys.maxsize))
        image = Squares.image

        def failing(dataset: Squares, index: int) -> torch.Tensor:
            if next(calls) == LATER:  # once: a second signal would interrupt the tidying up
                happens()
            return image(dataset, index)

        number += FAILING + WARM_UP["fail"]
        try:
            self.visit(number, patch.object(Squares, "image", failing))
        except error:
            pass
        else:
            raise AssertionError(f"accident {happens.__name__} did not happen")
        self.visit(number)

    def runs(self, method: str) -> list[Path]:
        return sorted(self.folder.glob(f"runs/*/{method}/[!.]*"))

    def say(self, kind: str, number: int) -> None:
        found = in_this_process(self.folder)
        found |= {"hooks of the network": self.hooks, "objects": self.objects.left()}
        print(json.dumps({"kind": kind, "job": number, **found}), file=sys.__stdout__, flush=True)

    @staticmethod
    def _backbone(number: int) -> FrozenBackbone:
        model = tiny_model(number)
        model.register_buffer("ballast", torch.full((BALLAST, 1000), float(number)))
        return tiny_backbone(("2", "6"), model=model, label=f"net{number}")


def has_worker(number: int) -> bool:
    """Whether a visit has a process that loads its images: of those that fail, one that is killed.

    A signal while another process loads comes at any moment; in one of 80, it was when Python had
    opened a socket to that process and nobody had it yet.
    """
    return number % len(ACCIDENTS) == 2 or (number % 7 == 3 and number < FAILING)


def squares() -> PlantedSquares:
    return PlantedSquares(grid=(16, 16), counts={"train": 8, "val": 4, "test": 20})


def wrong_image() -> None:
    raise InputError("an image that cannot be read")


def bug() -> None:
    raise ZeroDivisionError


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


def told_to_end() -> None:
    signal.raise_signal(signal.SIGTERM)


def killed_worker() -> None:
    if get_worker_info() is None:
        raise InputError("no worker to kill")
    os.kill(os.getpid(), signal.SIGKILL)


ACCIDENTS: tuple[tuple[type[BaseException], Callable[[], None]], ...] = (
    (InputError, wrong_image),
    (ZeroDivisionError, bug),
    (InputError, killed_worker),
    (KeyboardInterrupt, interrupted),
    (SystemExit, told_to_end),
)


def main(folder: Path) -> None:
    """Visits, comparisons, and visits that fail."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in the background
    warnings.simplefilter("ignore")
    loop = Loop(folder)
    with redirect_stdout(sys.stderr):
        loop.say("before", 0)
        for kind in sys.argv[2:] or WARM_UP:
            for number in range(-WARM_UP[kind], JOBS):
                getattr(loop, kind)(number)
                loop.say(kind, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
