"""Rows that a pass keeps of every layer, until one process asks for all of them."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.concepts.passes import copied, taken


@runtime_checkable
class OfImages(Protocol):
    """A dataclass of tensors, rows first, that tells which image each row is of."""

    @property
    def images(self) -> Int[Tensor, " rows"]:
        """Position of the image that each row is of."""


Origins = TypeVar("Origins", bound=OfImages)
Group = Hashable
"""Layers whose rows have the same origins."""


class KeptRows(Generic[Origins]):
    """What a process keeps of each layer, part by part: activations, and where they come from.

    All is written into one piece of memory for each layer and group: parts that are joined in the
    end would be there twice for a moment, and many small pieces keep memory from being used again.

    Args:
        groups: of each layer.
        expected: about how many rows the layers of each group will have.
    """

    def __init__(self, groups: Mapping[str, Group], expected: Mapping[Group, int]) -> None:
        self._groups = dict(groups)
        self._origins = {group: _Table(expected[group]) for group in self._groups.values()}
        self._activations = {name: _Rows(expected[group]) for name, group in groups.items()}

    def add(
        self,
        origins: Mapping[Group, Origins],
        activations: Mapping[str, Float[Tensor, "_ _"]],
    ) -> None:
        """Keep some rows (rows, channels) more of every layer."""
        for group, own in origins.items():
            self._origins[group].add(own)
        for layer, rows in activations.items():
            self._activations[layer].add(rows)

    def gather(self) -> None:
        """Bring the rows of each layer together in the process that is its owner."""
        if processes.count() == 1:
            return
        owners = {layer: processes.owner(k) for k, layer in enumerate(self._groups)}
        for group, table in self._origins.items():
            own = table.all()
            theirs = {owners[name] for name, its in self._groups.items() if its == group}
            for owner in sorted(theirs):
                parts = processes.gathered(own and copied(own), owner)
                if parts is not None:
                    self._origins[group] = _Table.of(parts)
        for layer, rows in self._activations.items():
            own = rows.all()
            parts = processes.gathered(None if own is None else own.clone(), owners[layer])
            self._activations[layer] = _Rows.of(parts or ())

    def of(self, layer: str) -> tuple[Origins, Float[Tensor, "rows channels"]] | None:
        """What was kept of a layer, in the order of the images; can be asked for once.

        None for a layer of which nothing is kept, and, after `gather`, but in its owner.

        Raises:
            KeyError: if it is asked for again.
        """
        if layer not in self._groups:
            return None
        origins = self._origins[self._groups[layer]].all()
        activations = self._activations.pop(layer).all()
        if origins is None or activations is None:
            return None
        if bool((origins.images.diff() >= 0).all()):
            return origins, activations
        order = origins.images.argsort(stable=True)
        return taken(origins, order), activations[order]


class _Table:
    """A dataclass of tensors that rows are added to."""

    def __init__(self, expected: int) -> None:
        self._columns: dict[str, _Rows] = defaultdict(lambda: _Rows(expected))
        self._kind: type | None = None

    @classmethod
    def of(cls, parts: Sequence[Any]) -> "_Table":
        there = [part for part in parts if part is not None]
        table = cls(sum(len(part.images) for part in there))
        for part in there:
            table.add(part)
        return table

    def add(self, rows: Any) -> None:  # noqa: ANN401
        self._kind = type(rows)
        for name, column in vars(rows).items():
            self._columns[name].add(column)

    def all(self) -> Any:  # noqa: ANN401
        """None of no rows."""
        if self._kind is None:
            return None
        return self._kind(**{name: column.all() for name, column in self._columns.items()})


class _Rows:
    """A tensor that rows are added to."""

    def __init__(self, expected: int) -> None:
        self._expected, self._count = expected, 0
        self._memory: Tensor | None = None

    @classmethod
    def of(cls, parts: Sequence[Tensor | None]) -> "_Rows":
        there = [part for part in parts if part is not None]
        rows = cls(sum(map(len, there)))
        for part in there:
            rows.add(part)
        return rows

    def add(self, rows: Tensor) -> None:
        if self._memory is None:
            self._memory = rows.new_empty(max(self._expected, len(rows)), *rows.shape[1:])
        last = self._count + len(rows)
        if last > len(self._memory):
            more = rows.new_empty(last + last // 4, *rows.shape[1:])
            more[: self._count] = self._memory[: self._count]
            self._memory = more
        self._memory[self._count : last] = rows
        self._count = last

    def all(self) -> Tensor | None:
        """None of no rows."""
        return None if self._memory is None else self._memory[: self._count]
