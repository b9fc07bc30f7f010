"""Labelled matrices as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CELL_INCHES = 0.24
NAME_INCHES = 2.0
LARGEST_WITH_NUMBERS = 12


def draw_matrices(
    panels: Sequence[tuple[str, pd.DataFrame]],
    path: Path,
    *,
    title: str,
    rows: str,
    columns: str,
    low: float = 0.0,
) -> None:
    """Draw one or several matrices of the same rows and columns side by side.

    Args:
        panels: a title and a matrix each; names are taken from index and columns, and NaN
            is hatched.
        path: of the PNG file.
        title: over all of them.
        rows: what the rows are.
        columns: what the columns are.
        low: the value of the darkest colour; the lightest is 1, or the largest value where
            that is smaller than 0.5.
    """
    height, width = panels[0][1].shape
    cell = max(CELL_INCHES, 3.0 / max(height, width))
    size = (
        (NAME_INCHES + cell * width + 0.9) * len(panels),
        cell * height + NAME_INCHES + 0.7,
    )
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, matrix) in zip(axes, panels, strict=True):
        _draw(axis, matrix, name, low)
        axis.set_xlabel(columns)
        axis.set_ylabel(rows)
    figure.savefig(path)


def _draw(axis: Axes, matrix: pd.DataFrame, name: str, low: float) -> None:
    values = matrix.to_numpy(dtype=float)
    largest = np.nanmax(values) if np.isfinite(values).any() else 1.0
    high = 1.0 if largest >= 0.5 else max(0.1, float(np.ceil(largest * 10) / 10))
    axis.set_facecolor("white")
    axis.patch.set(hatch="////", edgecolor="0.7")
    image = axis.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="equal")
    axis.set_title(name)
    font = 8 if max(values.shape) > LARGEST_WITH_NUMBERS else 9
    axis.set_xticks(range(values.shape[1]), matrix.columns, rotation=90, fontsize=font)
    axis.set_yticks(range(values.shape[0]), matrix.index, fontsize=font)
    if max(values.shape) <= LARGEST_WITH_NUMBERS:
        _write_numbers(axis, values, low, high)
    axis.figure.colorbar(image, ax=axis, shrink=0.8, pad=0.02)


def _write_numbers(
    axis: Axes, values: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", low: float, high: float
) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (value - low) / (high - low) < 0.6
            colour = "white" if dark else "black"
            axis.text(
                column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7
            )


def with_depth(layers: Sequence[tuple[str, float]]) -> list[str]:
    """Names of layers with their relative depth, for the ticks of a plot.

    >>> with_depth([("blocks.0", 0.0625)])
    ['blocks.0  0.06']
    """
    return [f"{name}  {depth:.2f}" for name, depth in layers]
