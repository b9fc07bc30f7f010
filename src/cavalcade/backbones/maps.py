"""How the output of a layer is read as a map: channels first, channels last, or tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Order = Literal["channels_first", "channels_last", "tokens"]
MOST_PREFIX_TOKENS = 8


@dataclass(frozen=True)
class MapLayout:
    """How the output of a layer is read as a map.

    Attributes:
        order: of the output's dimensions: (images, channels, rows, columns), (images, rows,
            columns, channels), or (images, tokens, channels), the tokens row by row.
        channels: of the map.
        grid: height and width of the map in cells.
        prefix: tokens before the first cell: of the class, of distillation, registers.
    """

    order: Order
    channels: int
    grid: tuple[int, int]
    prefix: int = 0

    def read(self, output: object) -> Float[Tensor, "images channels rows columns"]:
        """The map in an output; a view where it can be one."""
        tensor = as_tensor(output)
        assert tensor is not None
        if self.order == "channels_last":
            return tensor.permute(0, 3, 1, 2)
        if self.order == "tokens":
            return tensor[:, self.prefix :].mT.reshape(len(tensor), self.channels, *self.grid)
        return tensor


def as_tensor(output: object) -> Tensor | None:
    """The tensor of an output: itself, or the first of a tuple, list or mapping."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def possible_layouts(output: object, input_size: tuple[int, int]) -> list[MapLayout]:
    """How an output for one image may be read as a map that has the input's aspect.

    The likeliest come first; two of them only where the numbers alone cannot tell, as with
    (1, 96, 96, 96). Parts of an image (windows of attention) look like several images, and
    are no map.
    """
    tensor = as_tensor(output)
    if tensor is None or tensor.shape[:1] != (1,):
        return []
    if tensor.ndim == 3:
        return _tokens(tensor.shape[1], tensor.shape[2], input_size)
    if tensor.ndim != 4:
        return []
    _, first, second, last = tensor.shape
    layouts = [
        MapLayout("channels_first", first, (second, last)),
        MapLayout("channels_last", last, (first, second)),
    ]
    misfits = [_misfit(layout.grid, input_size) for layout in layouts]
    best = min(misfits)
    return [
        layout
        for layout, misfit in zip(layouts, misfits, strict=True)
        if misfit == best and misfit <= _tolerance(layout.grid, input_size)
    ]


def _tokens(tokens: int, channels: int, input_size: tuple[int, int]) -> list[MapLayout]:
    """Grids of the input's very aspect that hold all tokens but a few at the start.

    The fewest prefix tokens count; from 5 x 5 cells up no other number of them fits.
    """
    for prefix in range(min(MOST_PREFIX_TOKENS + 1, tokens)):
        cells = tokens - prefix
        rows = round((cells * input_size[0] / input_size[1]) ** 0.5)
        if rows and cells % rows == 0 and _misfit((rows, cells // rows), input_size) == 0:
            return [MapLayout("tokens", channels, (rows, cells // rows), prefix)]
    return []


def _columns(rows: int, input_size: tuple[int, int]) -> float:
    """How many columns a grid of so many rows has if its aspect is that of the input."""
    return rows * input_size[1] / input_size[0]


def _tolerance(grid: tuple[int, int], input_size: tuple[int, int]) -> float:
    """By how many columns a map may miss the input's aspect: convolutions cut off margins.

    They cut the same off both sides, so that a square input has square maps.
    """
    square = input_size[0] == input_size[1]
    return 0.0 if square else 1 + 0.1 * _columns(grid[0], input_size)


def _misfit(grid: tuple[int, int], input_size: tuple[int, int]) -> float:
    return abs(grid[1] - _columns(grid[0], input_size))
