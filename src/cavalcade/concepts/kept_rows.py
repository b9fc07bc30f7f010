"""Rows that a pass keeps of every layer, until one process asks for all of them."""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.concepts.passes import joined, taken


@runtime_checkable
class OfImages(Protocol):
    """A dataclass of tensors, rows first, that tells which image each row is of."""

    @property
    def images(self) -> Int[Tensor, " rows"]:
        """Position of the image that each row is of."""


Origins = TypeVar("Origins", bound=OfImages)


class KeptRows(Generic[Origins]):
    """What a process keeps of each layer, part by part: activations, and where they come from.

    Activations are written into one piece of memory for each layer, so that no second copy is
    ever made of all of them. Origins that layers share are kept once.

    Args:
        expected: about how many rows of each layer there will be.
    """

    def __init__(self, expected: Mapping[str, int]) -> None:
        self._origins: dict[str, list[Origins]] = {name: [] for name in expected}
        self._activations = {name: _Rows(count) for name, count in expected.items()}

    def add(
        self, layer: str, origins: Origins, activations: Float[Tensor, "rows channels"]
    ) -> None:
        """Keep some rows more."""
        self._origins[layer].append(origins)
        self._activations[layer].add(activations)

    def gather(self) -> None:
        """Bring the rows of each layer together in the process that is its owner."""
        if processes.count() == 1:
            return
        for number, layer in enumerate(list(self._origins)):
            everything = processes.gathered(self.of(layer), processes.owner(number))
            self._origins[layer], self._activations[layer] = [], _Rows(0)
            parts = [part for part in everything or () if part is not None]
            if parts:
                self.add(layer, *(joined(each) for each in zip(*parts, strict=True)))

    def of(self, layer: str) -> tuple[Origins, Float[Tensor, "rows channels"]] | None:
        """What was kept of a layer, in the order of the images; can be asked for once.

        None for a layer of which nothing is kept, and, after `gather`, but in its owner.
        """
        parts = self._origins.pop(layer, [])
        if not parts:
            return None
        origins, activations = joined(parts), self._activations.pop(layer).all()
        if bool((origins.images.diff() >= 0).all()):
            return origins, activations
        order = origins.images.argsort(stable=True)
        return taken(origins, order), activations[order]


class _Rows:
    """A tensor that rows are added to."""

    def __init__(self, expected: int) -> None:
        self._expected, self._count = expected, 0
        self._memory: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        if self._memory is None:
            self._memory = rows.new_empty(max(self._expected, len(rows)), *rows.shape[1:])
        last = self._count + len(rows)
        if last > len(self._memory):
            more = rows.new_empty(last + last // 4, *rows.shape[1:])
            more[: self._count] = self.all()
            self._memory = more
        self._memory[self._count : last] = rows
        self._count = last

    def all(self) -> Tensor:
        assert self._memory is not None
        return self._memory[: self._count]
