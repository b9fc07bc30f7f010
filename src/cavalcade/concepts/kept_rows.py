"""Rows that a pass keeps of every layer, until one process asks for all of them."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from cavalcade import processes
from cavalcade.concepts.passes import joined, taken


@runtime_checkable
class OfImages(Protocol):
    """A dataclass of tensors, rows first, that tells which image each row is of."""

    @property
    def images(self) -> Int[Tensor, " rows"]:
        """Position of the image that each row is of."""


Rows = TypeVar("Rows", bound=OfImages)


class KeptRows(Generic[Rows]):
    """What a process keeps of each layer, part by part."""

    def __init__(self, layers: Iterable[str]) -> None:
        self.parts: dict[str, list[Rows]] = {name: [] for name in layers}

    def add(self, layer: str, parts: Iterable[Rows]) -> None:
        """Keep some rows more."""
        self.parts[layer] += parts

    def gather(self) -> None:
        """Bring the rows of each layer together in the process that is its owner."""
        if processes.count() == 1:
            return
        for number, layer in enumerate(self.parts):
            parts = self.parts[layer]
            own = joined(parts) if parts else None
            parts.clear()  # no two copies of all layers are held
            everything = processes.gathered(own, processes.owner(number))
            self.parts[layer] = [part for part in everything or () if part is not None]

    def of(self, layer: str) -> Rows | None:
        """What was kept of a layer, in the order of the images; can be asked for once.

        None for a layer of which nothing is kept, and, after `gather`, but in its owner.
        """
        parts = self.parts.pop(layer, [])
        if not parts:
            return None
        rows = joined(parts)
        del parts
        if bool((rows.images.diff() >= 0).all()):
            return rows
        return taken(rows, rows.images.argsort(stable=True))
