"""What the tests run in two processes: python several_processes.py FOLDER."""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cavalcade import processes
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import Labels
from cavalcade.data.contents import read_splits
from cavalcade.errors import InputError
from cavalcade.visiting.trainers import Trainers
from tiny import (
    PlantedSquares,
    Squares,
    quiet_trainer,
    small_device,
    streamed,
    tiny_backbone,
    tiny_data,
    tiny_faces,
    tiny_visit,
)


@dataclass(kw_only=True)
class RareSquares(PlantedSquares):
    """Only the first two images of a split have a green square: one process sees none."""

    def open(self, split):
        return Rare(self.size, self.counts[split], ["train", "val", "test"].index(split))


class Rare(Squares):
    def labels(self, index):
        masks = super().labels(index).masks
        masks[1] &= index < 2
        return Labels(masks, torch.ones_like(masks))


@dataclass(kw_only=True)
class DamagedSquares(PlantedSquares):
    """Some images cannot be read; with `by_process`, the second process can read one less."""

    by_process: bool = False

    def open(self, split):
        damaged = {2, 3 + processes.rank()} if self.by_process else {2}
        return Damaged(self.size, self.counts[split], damaged)


class Damaged(Squares):
    def __init__(self, size, count, damaged):
        super().__init__(size, count, 0)
        self.damaged = damaged

    def image(self, index):
        if index in self.damaged:
            raise InputError(f"{self.ids[index]} cannot be read")
        return super().image(index)


METHODS = {
    "probes": Probes(),
    "drawn": Probes(rows=300, images="containing"),
    "stream": streamed(),
    "quantile": streamed(epochs=1, input="quantile", images="containing"),
    "nmf": Factorisation(num_concepts=3, rows=500, restarts=2),
    "pca": Factorisation(method="pca", num_concepts=3, rows=500, restarts=2),
}


def visits(folder: Path, trainers: Trainers) -> dict[str, Path]:
    """Visits with batches that processes cannot share evenly, one for each method.

    Of two processes the second has little memory, in some.
    """
    found = {}
    for name, method in METHODS.items():
        backbone = tiny_backbone()
        # validation batches: one for two processes, or two for the first and one for the other
        data = tiny_faces(train=13, val=9 if name in ("probes", "stream") else 3, test=9)
        loader = tiny_data(backbone, data, splits=method.splits)
        found[name] = tiny_visit(
            folder / name, backbone, data=loader, method=method, trainers=trainers
        )
    for name in ("probes", "stream"):
        place = folder / f"halved {name}"
        backbone = small_device(1) if processes.rank() == 1 else tiny_backbone()
        found[place.name] = tiny_visit(place, backbone, method=METHODS[name], trainers=trainers)
        assert processes.rank() == 0 or backbone.images_at_once == 1
        place = folder / f"rare {name}"
        backbone = tiny_backbone()
        loader = tiny_data(backbone, RareSquares(counts={"train": 9, "val": 5, "test": 24}))
        found[place.name] = tiny_visit(
            place, backbone, data=loader, method=METHODS[name], trainers=trainers
        )
    return found


def fail(item: int) -> int:
    if item == 3:  # an item of the second process
        raise InputError(f"item {item} cannot be had")
    return item * item


class UnportableError(Exception):
    def __init__(self, path: Path, line: int) -> None:  # so pickle cannot make it again
        super().__init__(f"{path}, line {line}")


def fail_unportably(item: int) -> int:
    raise UnportableError(Path("a.txt"), item)


def exchanges() -> None:
    """What one process finds, all of them have; its errors too."""
    assert processes.count() == 2
    assert processes.from_first(lambda: f"made by {processes.rank()}") == "made by 0"
    assert processes.shared_out(lambda item: item * item, range(5), "squaring") == [0, 1, 4, 9, 16]
    found = processes.gathered(processes.rank(), to=1)
    assert found == ([0, 1] if processes.rank() == 1 else None)
    for attempt in (
        lambda: processes.shared_out(fail, range(5), "failing"),
        lambda: processes.from_first(lambda: fail(3)),
    ):
        with pytest.raises(InputError, match="item 3 cannot be had"):
            attempt()
    arrives = UnportableError if processes.rank() == 1 else RuntimeError
    with pytest.raises(arrives, match=r"a.txt, line"):
        processes.shared_out(
            lambda item: fail_unportably(item) if item == 1 else item, range(2), "failing"
        )


def leaves_out() -> None:
    """Processes leave out the same images, or stop together."""
    found = read_splits(DamagedSquares(on_error="skip"), ["train", "test"])
    assert [each.id for each in found["train"].left_out] == ["0-2"]
    with pytest.raises(InputError, match="process 1 can read other train images"):
        read_splits(DamagedSquares(on_error="skip", by_process=True), ["train", "test"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.start({"accelerator": "cpu", "devices": 2})
    exchanges()
    leaves_out()
    visits(
        Path(sys.argv[1]),
        Trainers(functools.partial(quiet_trainer, devices=2, strategy="ddp")),
    )
