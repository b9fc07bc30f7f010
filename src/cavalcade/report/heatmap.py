"""Labelled matrices as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from cavalcade.backbones import Layer
from cavalcade.report.figures import figure_of, save

CELL_INCHES = 0.24
SMALLEST_INCHES = 3.2
NAME_INCHES = 2.0
CHARACTER_INCHES = 0.08
LARGEST_WITH_NUMBERS = 12


def draw_matrices(
    panels: Sequence[tuple[str, pd.DataFrame]], path: Path, *, title: str, rows: str, columns: str
) -> None:
    """Draw one or several matrices of the same rows and columns side by side, in one scale.

    The scale goes from 0 to 1, or to a smaller round number where all values are below 0.5;
    values below 0 have its lowest colour, and the bar is pointed where there are any.

    Args:
        panels: a title and a matrix each; names are taken from index and columns, and NaN
            is hatched.
        path: of the PNG file.
        title: over all of them.
        rows: what the rows are.
        columns: what the columns are.
    """
    height, width = panels[0][1].shape
    cell = max(CELL_INCHES, SMALLEST_INCHES / max(height, width))
    matrix = panels[0][1]
    size = (
        (_room_for(matrix.index) + cell * width + 0.9) * len(panels),
        cell * height + _room_for(matrix.columns) + 0.7,
    )
    large = max(1.0, size[0] / 16)  # titles grow with the picture, names of layers do not
    figure = figure_of(*size)
    figure.suptitle(title, fontsize=12 * large)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    top = _top([matrix for _, matrix in panels])
    for axis, (name, matrix) in zip(axes, panels, strict=True):
        image = _draw(axis, matrix, top)
        axis.set_title(name, fontsize=11 * large)
        axis.set_xlabel(columns, fontsize=10 * large)
        axis.set_ylabel(rows, fontsize=10 * large)
        below = bool((matrix.to_numpy(dtype=float) < 0).any())
        bar = figure.colorbar(
            image, ax=axis, shrink=0.8, pad=0.02, aspect=30, extend="min" if below else "neither"
        )
        bar.ax.tick_params(labelsize=9 * large)
    save(figure, path)


def _room_for(names: pd.Index) -> float:
    """Inches that the longest of some names takes, with the title of their axis."""
    return max(NAME_INCHES, CHARACTER_INCHES * max(len(str(name)) for name in names) + 0.5)


def _top(matrices: Sequence[pd.DataFrame]) -> float:
    """The upper end of the scale of all matrices."""
    values = np.concatenate([matrix.to_numpy(dtype=float).ravel() for matrix in matrices])
    values = values[np.isfinite(values)]
    largest = float(values.max()) if values.size else 1.0
    return 1.0 if largest >= 0.5 else max(0.1, float(np.ceil(largest * 10) / 10))


def _draw(axis: Axes, matrix: pd.DataFrame, top: float) -> AxesImage:
    values = matrix.to_numpy(dtype=float)
    axis.set_facecolor("white")
    axis.patch.set(hatch="////", edgecolor="0.7")  # shows where a value is NaN
    image = axis.imshow(values, cmap="viridis", vmin=0, vmax=top, aspect="equal")
    small = max(values.shape) <= LARGEST_WITH_NUMBERS
    axis.set_xticks(range(values.shape[1]), matrix.columns, rotation=90, fontsize=9 if small else 8)
    axis.set_yticks(range(values.shape[0]), matrix.index, fontsize=9 if small else 8)
    if small:
        _write_numbers(axis, values, top)
    return image


def _write_numbers(axis: Axes, values: Float[np.ndarray, "rows columns"], top: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < 0.6 * top else "black"
            axis.text(
                column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8
            )


def with_depth(layers: Sequence[Layer]) -> list[str]:
    """Names of layers with their relative depth, or that they are branches, for the ticks.

    >>> with_depth([Layer("blocks.0", 0.0625, True, 16, 2.0, (8, 8))])
    ['blocks.0  0.06']
    """
    return [f"{each.name}  {f'{each.depth:.2f}' if each.trunk else 'branch'}" for each in layers]
