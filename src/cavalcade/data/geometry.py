"""The unit square of an image: where a network looks, and what lies under each of its cells.

Every position is given in normalised coordinates of the full image, (0, 0) its upper left
corner and (1, 1) its lower right one, so that masks of networks with different input sizes,
crops or paddings can be laid over each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PIXELS_AT_ONCE = 4096  # that are interpolated, to bound memory


class Frame(NamedTuple):
    """Where a network's input lies in the unit square of an image.

    A warp of the whole image is (0, 0, 1, 1); a crop lies inside; padding reaches outside.
    """

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """In images, with what it shows outside of this one."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def seen(self) -> float:
        """Share of the image that it shows."""
        rows = min(self.bottom, 1) - max(self.top, 0)
        return rows * (min(self.right, 1) - max(self.left, 0))


WHOLE = Frame(0.0, 0.0, 1.0, 1.0)


def area_average(
    masks: Bool[Tensor, "concepts height width"], frame: Frame, grid: Sequence[int]
) -> Float[Tensor, "concepts rows columns"]:
    """Share of each cell's footprint that is set, for a grid that tiles a network's input.

    Exact for every frame: the sum table of a piecewise constant picture is bilinear between
    pixel corners, so a rectangle with fractional sides costs four look-ups. What lies outside
    of the image counts as not set.

    >>> masks = torch.tensor([[[True, False], [False, False]]])
    >>> area_average(masks, WHOLE, (1, 1))
    tensor([[[0.2500]]])
    """
    return area_averages(masks, frame, [(grid[0], grid[1])])[0]


def area_averages(
    masks: Bool[Tensor, "concepts height width"], frame: Frame, grids: Sequence[tuple[int, int]]
) -> list[Float[Tensor, "concepts _ _"]]:
    """`area_average` for several grids, each bit for bit as it would be alone."""
    shown = torch.from_numpy(masks.flatten(1).numpy().any(axis=1))  # of many concepts a few
    if not shown.all():
        averages = [torch.zeros(len(masks), *grid) for grid in grids]
        for average, own in zip(averages, area_averages(masks[shown], frame, grids), strict=True):
            average[shown] = own
        return averages
    down = _sum_table(masks, dim=1)
    averages = []
    for grid in grids:
        rows = torch.linspace(frame.top, frame.bottom, grid[0] + 1, dtype=torch.float64)
        columns = torch.linspace(frame.left, frame.right, grid[1] + 1, dtype=torch.float64)
        strips = _between(down, rows, dim=1)
        sums = _between(_sum_table(strips, dim=2), columns, dim=2)
        pixels = masks.shape[1] * masks.shape[2]
        cell = (rows[1] - rows[0]) * (columns[1] - columns[0]) * pixels
        averages.append((sums / cell).float())
    return averages


def _sum_table(values: Tensor, dim: int) -> Tensor:
    """Sums of all values before each pixel edge along one dimension."""
    shape = [size + (d == dim) for d, size in enumerate(values.shape)]
    table = torch.zeros(shape, dtype=torch.float64)
    torch.cumsum(values, dim, dtype=torch.float64, out=table.narrow(dim, 1, values.shape[dim]))
    return table


def _between(table: Tensor, edges: Tensor, dim: int) -> Tensor:
    """Sums between consecutive edges, given as shares of the dimension's size."""
    size = table.shape[dim] - 1
    position = (edges * size).clamp(0, size)
    lower = position.floor().long().clamp(max=size - 1)
    share = (position - lower).reshape([-1 if d == dim else 1 for d in range(table.ndim)])
    at_edges = torch.lerp(table.index_select(dim, lower), table.index_select(dim, lower + 1), share)
    return at_edges.diff(dim=dim)


def at_cell_centres(
    masks: Bool[Tensor, "concepts height width"], grid: Sequence[int]
) -> Bool[Tensor, "concepts rows columns"]:
    """The masks at the centres of the cells of the common grid.

    Sampling keeps the expected area of thin objects, which a majority vote would remove.
    """
    rows, columns = (
        ((torch.arange(cells) + 0.5) * size / cells).long()
        for cells, size in zip(grid, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns[None, :]]


def seen_cells(
    frames: Float[Tensor, "images 4"], grid: Sequence[int]
) -> Bool[Tensor, "images rows columns"]:
    """Geometric validity: the cells of the common grid whose centres a network saw."""
    rows, columns = _relative_centres(frames, grid)
    inside_rows = (rows >= 0) & (rows <= 1)
    inside_columns = (columns >= 0) & (columns <= 1)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def cells_inside(
    frames: Float[Tensor, "images 4"], grid: Sequence[int]
) -> Bool[Tensor, "images rows columns"]:
    """The cells of a layer's grid whose centres lie in the image, not in the padding around it.

    Of a few large cells no centre may: then all of an image count.
    """
    inside = []
    for axis in (0, 1):
        centres = (torch.arange(grid[axis], device=frames.device) + 0.5) / grid[axis]
        start, stop = frames[:, axis, None], frames[:, axis + 2, None]
        places = start + centres * (stop - start)
        inside.append((places >= 0) & (places <= 1))
    both = inside[0][:, :, None] & inside[1][:, None, :]
    return both | ~both.any(dim=(1, 2), keepdim=True)


def to_common_grid(
    maps: Float[Tensor, "images concepts height width"],
    frames: Float[Tensor, "images 4"],
    grid: Sequence[int],
) -> Float[Tensor, "images concepts rows columns"]:
    """Maps of a layer, brought linearly from the network's input onto the common grid.

    Upsampling is bilinear between cell centres; downsampling widens the triangle to the cells
    that it covers. Outside of the frame the nearest values are repeated: see `seen_cells`.
    """
    down, across = _interpolations(maps.shape[2:], frames, grid)
    if bool((frames == frames[:1]).all()):  # one small matrix serves the whole batch
        return down[0] @ maps @ across[0].T
    return down[:, None] @ maps @ across[:, None].transpose(2, 3)


class Neighbours(NamedTuple):
    """Between which cells of a layer's maps some pixels of the common grid lie, and how near.

    The same for all layers of a size. Since interpolation is linear with weights that add up to
    1, w·A + b is the same number whether maps are brought to the grid before or after.
    """

    cells: Int[Tensor, "pixels some"]
    weights: Float[Tensor, "pixels some"]

    def interpolate(
        self, maps: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "pixels channels"]:
        """All channels at the pixels in float32, as `to_common_grid` would give them."""
        cells, found = cells_of(maps), []
        some = torch.split(self.cells, PIXELS_AT_ONCE), torch.split(self.weights, PIXELS_AT_ONCE)
        for around, weights in zip(*some, strict=True):
            own = cells.index_select(0, around.flatten()).float()
            found.append(torch.bmm(weights[:, None], own.view(*around.shape, maps.shape[1]))[:, 0])
        return torch.cat(found)


def neighbours(
    size: Sequence[int],
    frames: Float[Tensor, "images 4"],
    grid: Sequence[int],
    image: Int[Tensor, " pixels"],
    row: Int[Tensor, " pixels"],
    column: Int[Tensor, " pixels"],
) -> Neighbours:
    """Of some pixels of the common grid, for maps (images, channels, height, width).

    Args:
        size: height and width of the maps.
        frames: where the network looks in each image.
        grid: the common one.
        image: which of the images each pixel is of.
        row: where it lies on the grid.
        column: likewise.
    """
    down, across = (
        _largest(weights[image, where])
        for weights, where in zip(_interpolations(size, frames, grid), (row, column), strict=True)
    )
    cells = (image[:, None] * size[0] + down[1])[:, :, None] * size[1] + across[1][:, None]
    weights = down[0][:, :, None] * across[0][:, None]
    return Neighbours(cells.flatten(1), weights.flatten(1))


def cells_of(
    maps: Float[Tensor, "images channels height width"],
) -> Float[Tensor, "cells channels"]:
    """One cell each row, images first, then down and across; no copy of maps in channels_last."""
    return maps.movedim(1, -1).flatten(0, 2)


def _largest(
    weights: Float[Tensor, "pixels cells"],
) -> tuple[Float[Tensor, "pixels some"], Int[Tensor, "pixels some"]]:
    """The weights above 0 of each pixel, and where they are."""
    found = weights.topk(int((weights > 0).sum(dim=1).max()) if len(weights) else 1)
    return found.values, found.indices


def _interpolations(
    size: Sequence[int], frames: Tensor, grid: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Weights down and across, (images, rows or columns of the grid, those of the maps)."""
    rows, columns = _relative_centres(frames, grid)
    down = _interpolation(rows, size[0], (frames[:, 2] - frames[:, 0]) * grid[0])
    across = _interpolation(columns, size[1], (frames[:, 3] - frames[:, 1]) * grid[1])
    return down, across


def _relative_centres(frames: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Centres of the grid's rows and columns as shares of each frame's height and width."""
    result = []
    for axis in (0, 1):
        centres = (torch.arange(grid[axis], device=frames.device) + 0.5) / grid[axis]
        start, stop = frames[:, axis, None], frames[:, axis + 2, None]
        result.append((centres[None] - start) / (stop - start))
    return result[0], result[1]


def _interpolation(positions: Tensor, cells: int, cells_of_grid: Tensor) -> Tensor:
    """Weights (images, positions, cells) of linear interpolation between cell centres.

    `cells_of_grid` is how many cells of the common grid span the frame; where they are fewer
    than the layer's own, the triangle is widened so that no cell is skipped.
    """
    width = (cells / cells_of_grid).clamp(min=1.0)[:, None, None]
    centre = (positions * cells - 0.5).clamp(0, cells - 1)[:, :, None]
    distance = (centre - torch.arange(cells, device=positions.device)).abs()
    weight = (1 - distance / width).clamp(min=0)
    return weight / weight.sum(dim=2, keepdim=True)
