"""The unit square of an image: where a network looks, and what lies under each of its cells.

Every position is given in normalised coordinates of the full image, (0, 0) its upper left
corner and (1, 1) its lower right one, so that masks of networks with different input sizes,
crops or paddings can be laid over each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Frame(NamedTuple):
    """Where a network's input lies in the unit square of an image.

    A warp of the whole image is (0, 0, 1, 1); a crop lies inside; padding reaches outside.
    """

    top: float
    left: float
    bottom: float
    right: float


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
    rows = _edges(frame.top, frame.bottom, grid[0])
    columns = _edges(frame.left, frame.right, grid[1])
    sums = _differences(masks.to(torch.float64), rows, dim=1)
    sums = _differences(sums, columns, dim=2)
    cell = (rows[1] - rows[0]) * (columns[1] - columns[0]) * masks.shape[1] * masks.shape[2]
    return (sums / cell).float()


def area_averages(
    masks: Bool[Tensor, "concepts height width"], frame: Frame, grids: Sequence[tuple[int, int]]
) -> list[Float[Tensor, "concepts _ _"]]:
    """`area_average` for several grids; a grid nested in a finer one is pooled from it."""
    done: dict[tuple[int, int], Tensor] = {}
    for grid in sorted(set(grids), reverse=True):
        finer = [f for f in done if f[0] % grid[0] == 0 and f[1] % grid[1] == 0]
        if finer:
            height, width = finer[-1]
            kernel = (height // grid[0], width // grid[1])
            done[grid] = torch.nn.functional.avg_pool2d(done[finer[-1]], kernel)
        else:
            done[grid] = area_average(masks, frame, grid)
    return [done[grid] for grid in grids]


def _edges(start: float, stop: float, cells: int) -> Tensor:
    return torch.linspace(start, stop, cells + 1, dtype=torch.float64)


def _differences(values: Tensor, edges: Tensor, dim: int) -> Tensor:
    """Integrals of `values` between consecutive `edges` along one dimension."""
    size = values.shape[dim]
    table = torch.cat([torch.zeros_like(values.narrow(dim, 0, 1)), values.cumsum(dim)], dim)
    position = (edges * size).clamp(0, size)
    lower = position.floor().long().clamp(max=size - 1)
    share = (position - lower).reshape([-1 if d == dim else 1 for d in range(values.ndim)])
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


def to_common_grid(
    maps: Float[Tensor, "images concepts height width"],
    frames: Float[Tensor, "images 4"],
    grid: Sequence[int],
) -> Float[Tensor, "images concepts rows columns"]:
    """Maps of a layer, brought linearly from the network's input onto the common grid.

    Upsampling is bilinear between cell centres; downsampling widens the triangle to the cells
    that it covers. Outside of the frame the nearest values are repeated: see `seen_cells`.
    """
    rows, columns = _relative_centres(frames, grid)
    down = _interpolation(rows, maps.shape[2], (frames[:, 2] - frames[:, 0]) * grid[0])
    across = _interpolation(columns, maps.shape[3], (frames[:, 3] - frames[:, 1]) * grid[1])
    if bool((frames == frames[:1]).all()):  # one small matrix serves the whole batch
        return down[0] @ maps @ across[0].T
    return down[:, None] @ maps @ across[:, None].transpose(2, 3)


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
