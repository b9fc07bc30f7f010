"""Labelled matrices as figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cavalcade.backbones import Layer
from cavalcade.report.cells import (
    CellTexts,
    Names,
    Size,
    bar_width,
    draw_bar,
    height_of,
    height_of_headline,
    paint,
)
from cavalcade.report.figures import (
    NORMAL,
    ONE_COLUMN,
    PAD,
    TWO_COLUMNS,
    axes_at,
    figure_of,
    headline,
    paper_style,
)
from cavalcade.report.lettering import folded

# inches
LARGEST_CELL = 0.5
NARROWEST, LOWEST, HIGHEST = 1.5, 1.6, 7.0  # of a matrix
LONGEST_NAME = 1.4
GAP = 0.15  # between matrices
MOST_COLUMNS = 12  # that one column of a page holds with numbers


def draw_matrices(
    panels: Sequence[tuple[str, pd.DataFrame]], *, title: str, rows: str, columns: str, scale: str
) -> Figure:
    """Draw one or several matrices of the same rows and columns side by side, in one scale.

    The scale goes from 0 to 1, or to a smaller round number where all values are below 0.5;
    values below 0 have its lowest colour, and the bar is pointed where there are any. Values are
    written where there is room. Where there is none for all names, one in two is written, or in
    three, and so on.

    Args:
        panels: a title and a matrix each; names are taken from index and columns, and NaN
            is hatched.
        title: over all of them.
        rows: what the rows are.
        columns: what the columns are.
        scale: what the values are.

    Returns:
        Two columns of a page wide; one, for a single matrix of few columns.
    """
    first = panels[0][1]
    narrow = len(panels) == 1 and first.shape[1] <= MOST_COLUMNS
    sheet = _Sheet.of(first, len(panels), ONE_COLUMN if narrow else TWO_COLUMNS, rows, scale)
    wide, high = sheet.size
    below = sheet.across.label(columns, wide)
    titles = [folded(name, wide, NORMAL) for name, _ in panels]
    above = height_of_headline(title, sheet.width) + max(map(height_of, titles)) + PAD
    foot = sheet.across.length(wide) + height_of(below) + 2 * PAD
    top = _top([matrix for _, matrix in panels])
    with paper_style():
        figure = figure_of(sheet.width, above + high + foot)
        headline(figure, title, pinned=True)
        for place, (name, (_, matrix)) in enumerate(zip(titles, panels, strict=True)):
            axis = axes_at(figure, sheet.left(place), above, wide, high)
            values = matrix.to_numpy(dtype=float)
            image = paint(axis, values, top)
            CellTexts.fitting(values, sheet.size).write(axis, values, top)
            sheet.across.write(axis, "x", wide)
            sheet.down.write(axis, "y", high)
            axis.set(title=name, xlabel=below, ylabel=sheet.down.label(rows, high))
            if place:  # the rows are those of the first
                axis.tick_params(labelleft=False)
                axis.set_ylabel("")
        draw_bar(figure, image, sheet.left(len(panels)), above, high, scale)
    return figure


@dataclass(frozen=True)
class _Sheet:
    """Where matrices and what is written around them lie from left to right, in inches.

    Attributes:
        width: of the page.
        size: of a matrix.
        count: of matrices.
        beside: what is written at the left of them takes, and the bar at their right.
        down: names of rows.
        across: names of columns.
    """

    width: float
    size: Size
    count: int
    beside: tuple[float, float]
    down: Names
    across: Names

    @classmethod
    def of(cls, matrix: pd.DataFrame, count: int, width: float, rows: str, scale: str) -> "_Sheet":
        """A page with room for matrices."""
        longest = LONGEST_NAME * (1 if width > ONE_COLUMN else 0.7)
        down, across = Names.of(matrix.index, longest), Names.of(matrix.columns, longest)
        beside, size = (0.5, 0.5), (1.0, 1.0)
        for _ in range(4):  # what is written depends on the size, and the size on its room
            room = (width - 2 * PAD - sum(beside)) / count - GAP
            size = _size_of(matrix.shape, room)
            label = down.label(rows, size[1])
            beside = (height_of(label) + down.length(size[1]), bar_width(scale, size[1]))
        return cls(width, size, count, beside, down, across)

    def left(self, place: int) -> float:
        """Where a matrix begins, or after the last of them the bar."""
        step = self.size[0] + GAP
        used = sum(self.beside) + self.count * step
        bar = GAP / 3 if place == self.count else 0.0
        return (self.width - used) / 2 + self.beside[0] + place * step - bar


def _size_of(shape: tuple[int, int], room: float) -> Size:
    """Width and height of a matrix: cells are squares if that is neither too small nor too high."""
    rows, columns = shape
    width = min(room, max(LARGEST_CELL * columns, NARROWEST))
    cell = min(width / columns, LARGEST_CELL)
    return width, float(np.clip(cell * rows, LOWEST, HIGHEST))


def _top(matrices: Sequence[pd.DataFrame]) -> float:
    """The upper end of the scale of all matrices."""
    values = np.concatenate([matrix.to_numpy(dtype=float).ravel() for matrix in matrices])
    values = values[np.isfinite(values)]
    largest = float(values.max()) if values.size else 1.0
    return 1.0 if largest >= 0.5 else max(0.1, float(np.ceil(largest * 10) / 10))


def with_depth(layers: Sequence[Layer]) -> list[str]:
    """Names of layers with their relative depth, or that they are branches, for the ticks.

    >>> with_depth([Layer("blocks.0", 0.0625, True, 16, 2.0, (8, 8))])
    ['blocks.0  0.06']
    """
    return [f"{each.name}  {f'{each.depth:.2f}' if each.trunk else 'branch'}" for each in layers]
