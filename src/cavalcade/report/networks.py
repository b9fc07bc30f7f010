"""The matrix of networks with its dendrogram, and measures against each other."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cavalcade.report.cells import (
    CellTexts,
    Names,
    Size,
    bar_width,
    draw_bar,
    height_of,
    height_of_headline,
    height_of_name,
    paint,
)
from cavalcade.report.figures import (
    BLUE,
    KIND_COLOURS,
    KIND_MARKERS,
    NO_UNIT,
    NORMAL,
    ONE_COLUMN,
    PAD,
    RED,
    SMALLEST,
    TALLEST,
    TWO_COLUMNS,
    arrange,
    axes_at,
    balanced,
    figure_of,
    handles_of,
    headline,
    panels_of,
    paper_style,
    tidy_axis,
)
from cavalcade.report.lettering import folded, width_of
from cavalcade.similarity.networks import DrawnTree, NetworkMatrix, Tree

# inches
TREE, TREE_LABELS = 1.3, 0.95
LARGEST_CELL = 0.5
NARROWEST, LOWEST = 1.2, 1.6  # of the matrix
LONGEST_NAME = 1.7
GAP = 0.15  # beside the tree and the bar
HEAD = 0.45  # above the matrix
MOST_WITH_ERRORS, MOST_WITH_SUPPORT = 24, 40  # networks
HIGHEST_SQUARE = 2.6  # of other measures
SAME = "0.93"  # colour of the diagonal
FEW = 4  # networks that one column of a page holds
PATCH = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85}
MOST_POINTS = 20_000
MOST_VECTORS = 2_000  # points; more are an image in the PDF


def draw_networks(
    matrix: NetworkMatrix, tree: Tree | None, random: Mapping[str, bool], *, measure: str
) -> Figure:
    """The similarity of every network with every other, clustered; random ones in red italics.

    Numbers are written while there is room for them. Rows of many networks are lower than
    columns are wide or higher, so that as many as possible have their names.

    Args:
        matrix: of the networks.
        tree: its clusters; without, networks keep their order and no tree is drawn.
        random: which networks have random weights.
        measure: what the similarity is.

    Returns:
        Two columns of a page wide; one, for few networks without a tree.
    """
    order, scale = _order(matrix, tree), f"{measure} above chance {NO_UNIT}"
    sheet = _NetworkSheet.of(order, TREE if tree is not None else 0.0, scale)
    wide, high = sheet.size
    values = matrix.frame().loc[order, order].to_numpy(dtype=float)
    errors = _errors(matrix, order) if len(order) <= MOST_WITH_ERRORS else None
    texts = CellTexts.fitting(values, sheet.size, errors)
    top = max(0.1, float(np.nanmax(values))) if np.isfinite(values).any() else 1.0
    with paper_style():
        figure, above = sheet.page(_title(measure, any(map(random.get, order)), texts))
        axis = axes_at(figure, sheet.left, above, wide, high)
        image = paint(axis, values, top)
        texts.write(axis, values, top)
        sheet.names.write(axis, "x", wide)
        sheet.names.write(axis, "y", high)
        label = sheet.names.label
        axis.set(xlabel=label("network", wide), ylabel=label("network", high))
        _cover_diagonal(axis, len(order))
        for labels, along in ((axis.get_xticklabels(), wide), (axis.get_yticklabels(), high)):
            _redden(labels, order[:: sheet.names.step(along)], random)
        draw_bar(figure, image, sheet.left + wide + GAP / 2, above, high, scale)
        if tree is not None:
            branches = (TREE - GAP, high)
            _draw_tree(axes_at(figure, sheet.start, above, *branches), tree, branches)
    return figure


@dataclass(frozen=True)
class _NetworkSheet:
    """Where a matrix of networks and its tree lie on a page, in inches.

    Attributes:
        width: of the page.
        tree: width of the tree with the room beside it.
        names: of the networks in their order, as they are written.
        size: of the matrix.
        bar: width of the colour bar with what is written at it.
    """

    width: float
    tree: float
    names: Names
    size: Size
    bar: float

    @classmethod
    def of(cls, order: Sequence[str], tree: float, scale: str) -> "_NetworkSheet":
        """A page with room for some networks."""
        count = len(order)
        width = TWO_COLUMNS if tree or count > FEW else ONE_COLUMN
        names = Names.of(order, min(LONGEST_NAME, width / 3.5))
        bar, size = 0.5, (1.0, 1.0)
        for _ in range(4):  # what is written depends on the size, and the size on its room
            around = tree + height_of("network") + names.length(size[1]) + GAP + bar
            wide = min(width - 2 * PAD - around, max(LARGEST_CELL * count, NARROWEST))
            square = float(np.clip(wide, LOWEST, max(LOWEST, LARGEST_CELL * count)))
            most = TALLEST - HEAD - names.length(wide) - 2 * height_of("network") - 2 * PAD
            size = (wide, max(square, min(count * height_of_name(SMALLEST), most)))
            bar = bar_width(scale, size[1])
        return cls(width, tree, names, size, bar)

    @property
    def start(self) -> float:
        """Where the tree begins."""
        return (self.width - self._before - self.size[0] - self.bar - GAP / 2) / 2

    @property
    def left(self) -> float:
        """Where the matrix begins."""
        return self.start + self._before

    @property
    def _before(self) -> float:
        return self.tree + height_of("network") + self.names.length(self.size[1])

    def page(self, title: str) -> tuple[Figure, float]:
        """An empty page with its title, and how far from its top the matrix begins."""
        above = height_of_headline(title, self.width) + PAD
        label = self.names.label("network", self.size[0])
        below = self.names.length(self.size[0]) + height_of(label)
        below = max(below, TREE_LABELS if self.tree else 0.0)
        figure = figure_of(self.width, above + self.size[1] + below + 2 * PAD)
        headline(figure, title, pinned=True)
        return figure, above


def _order(matrix: NetworkMatrix, tree: Tree | None) -> list[str]:
    """The networks from top to bottom."""
    if tree is None:
        return list(matrix.networks)
    return [tree.networks[leaf] for leaf in tree.drawn().order]


def _errors(matrix: NetworkMatrix, order: Sequence[str]) -> Float[np.ndarray, "n n"]:
    """Standard errors of all pairs, NaN on the diagonal."""
    errors = np.full((len(order), len(order)), np.nan)
    for (i, a), (j, b) in itertools.permutations(enumerate(order), 2):
        errors[i, j] = matrix[a, b].stderr
    return errors


def _title(measure: str, any_random: bool, texts: CellTexts) -> str:
    said = ["± standard error over blocks of test images"] if texts.with_errors else []
    said += ["random weights in red italics"] if any_random else []
    return f"Networks by {measure}, chance removed\n{'; '.join(said)}".strip()


def _draw_tree(axis: Axes, tree: Tree, size: Size) -> None:
    """Draw it with its root on the left, each leaf beside its row of the matrix."""
    drawn = tree.drawn()
    for merge in drawn.merges:
        axis.plot(merge.heights, merge.across, color=BLUE, solid_joinstyle="miter")
    count = len(drawn.order)
    root = 1.05 * max(merge.heights[1] for merge in drawn.merges) or 1.0
    axis.set(ylim=(count - 0.5, -0.5), yticks=[], xlim=(root, 0))
    said = "1 - similarity\n(dimensionless)"
    if count <= MOST_WITH_SUPPORT:
        _write_support(axis, drawn, (size[0] / root, size[1] / count))
        said += "\npercentages:\nresamples of blocks\nwith this cluster"
    axis.set_xlabel(said)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _write_support(axis: Axes, drawn: DrawnTree, inches: Size) -> None:
    """The share of resamples that make each merge, from the root on while there is room.

    Args:
        axis: of the tree.
        drawn: the tree.
        inches: of a unit of height, and of a leaf.
    """
    written: list[tuple[float, float, float]] = []
    for merge in sorted(drawn.merges, key=lambda merge: -merge.heights[1]):
        text, height = f"{merge.support:.0%}", merge.heights[1]
        left, middle = -height * inches[0], merge.middle * inches[1]
        right = left + width_of(text, SMALLEST) + PAD / 2
        if any(
            abs(middle - y) < height_of_name(SMALLEST) and left < x1 and x0 < right
            for x0, x1, y in written
        ):
            continue
        written.append((left, right, middle))
        axis.annotate(
            text, (height, merge.middle), xytext=(1.5, 0), textcoords="offset points",
            va="center", fontsize=SMALLEST, color="0.35", bbox=PATCH,
        )  # fmt: skip


def _cover_diagonal(axis: Axes, count: int) -> None:
    """Plain grey for a network with itself; hatching is for what is not defined."""
    for k in range(count):
        axis.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, facecolor=SAME, edgecolor="none"))


def _redden(labels: Sequence[Text], names: Sequence[str], random: Mapping[str, bool]) -> None:
    """Mark the names of random networks; labels and names go together."""
    for label, name in zip(labels, names, strict=True):
        if random.get(name, False):
            label.set(color=RED, fontstyle="italic")


def draw_agreement(panels: Sequence[tuple[str, pd.DataFrame, float]], *, measure: str) -> Figure:
    """Other measures against one, a point for each pair of layers of different networks.

    Of more than `MOST_POINTS` every second, third, and so on.

    Args:
        panels: for each measure its name, cells with columns x, y and kind (trained, mixed,
            random), and their rank correlation.
        measure: what lies along x.

    Returns:
        Two columns of a page wide; one, for a single measure.
    """
    columns = balanced(len(panels))
    rows = -(-len(panels) // columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    side = min(width / columns, HIGHEST_SQUARE)
    step = max(-(-len(cells) // MOST_POINTS) for _, cells, _ in panels)
    title = f"Other measures against the {measure}\npairs of layers of different networks; "
    title += "all are dimensionless"
    title += f"; one pair in {step} is drawn" if step > 1 else ""
    with paper_style():
        figure = figure_of(width, side * rows + 0.6)
        headline(figure, title)
        axes = panels_of(figure, len(panels), columns)
        for axis, (name, cells, rho) in zip(axes, panels, strict=True):
            _scatter(axis, cells.iloc[::step])
            tidy_axis(
                axis, measure, folded(name, 0.6 * side, NORMAL), f"rank correlation {rho:.2f}"
            )
        found = handles_of(axes)
        if found:
            figure.legend(
                found.values(), found.keys(), loc="outside lower center", ncols=3, markerscale=2,
                title="weights of both networks",
            )  # fmt: skip
        arrange(figure)
    return figure


def _scatter(axis: Axes, cells: pd.DataFrame) -> None:
    """A point for each cell; kinds differ by marker and colour."""
    for place, (kind, colour) in enumerate(KIND_COLOURS.items()):
        part = cells[cells["kind"] == kind]
        if len(part):
            axis.scatter(
                part["x"], part["y"], s=3, alpha=0.55, linewidths=0, color=colour, label=kind,
                marker=KIND_MARKERS[kind], zorder=4 - place, rasterized=len(cells) > MOST_VECTORS,
            )  # fmt: skip
