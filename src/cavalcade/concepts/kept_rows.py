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

    def of(self, layer: str, process: int = 0) -> Rows | None:
        """What all processes kept of a layer, in the order of the images; can be asked for once.

        None but in one process.
        """
        parts = self.parts.pop(layer)
        own = joined(parts) if parts else None
        del parts  # no two copies of all layers are held
        everything = processes.gathered(own, process)
        if everything is None:
            return None
        rows = joined([part for part in everything if part is not None])
        return taken(rows, rows.images.argsort(stable=True))
