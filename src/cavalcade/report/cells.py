"""What a matrix is made of: colours, values in its cells, names along it, and a bar of colours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cavalcade.report.figures import LARGE, NORMAL, PAD, SMALL, SMALLEST, axes_at, one_in
from cavalcade.report.lettering import POINTS, folded, shortened, width_of

LINE = 1.25  # of the size of a font from one line to the next
NAME = 1.08  # the same of names, which have no ascenders above each other
# inches
TICKS = 0.08  # between a matrix and its names
BAR, HIGHEST_BAR = 0.09, 3.0
BAR_NUMBERS = 0.36  # the bar and its numbers

Size = tuple[float, float]  # width and height


@dataclass(frozen=True)
class Names:
    """What is written along a matrix, and in which size.

    Attributes:
        texts: a name each, short enough for the page.
    """

    texts: Sequence[str]

    @classmethod
    def of(cls, names: Iterable[object], longest: float) -> "Names":
        """Names of at most some inches; what is left out of longer ones is near their start."""
        return cls([shortened(str(name), longest, SMALL) for name in names])

    def points(self, along: float) -> float:
        """The size of the font beside so many inches of a matrix."""
        return SMALL if one_in(len(self.texts), along, height_of_name(SMALL)) == 1 else SMALLEST

    def step(self, along: float) -> int:
        """Of how many names one is written."""
        return one_in(len(self.texts), along, height_of_name(self.points(along)))

    def length(self, along: float) -> float:
        """Inches that the longest takes, with its tick."""
        points = self.points(along)
        return max(width_of(text, points) for text in self.texts) + TICKS

    def write(self, axis: Axes, which: str, along: float) -> None:
        """Write them along an axis.

        Args:
            axis: of the matrix.
            which: x or y.
            along: inches of the matrix in this direction.
        """
        step, points = self.step(along), self.points(along)
        places, texts = range(0, len(self.texts), step), self.texts[::step]
        if which == "x":
            axis.set_xticks(places, texts, rotation=90, fontsize=points)
        else:
            axis.set_yticks(places, texts, fontsize=points)

    def label(self, what: str, along: float) -> str:
        """What rows or columns are, and how many of them have names, in lines of some inches."""
        step = self.step(along)
        if step > 1:
            what += ";\n" if "\n" in what else "; "
            what += f"one in {step} is named"
        return folded(what, along, NORMAL, after=":")


@dataclass(frozen=True)
class CellTexts:
    """What is written into the cells of a matrix.

    Attributes:
        texts: of each cell that has one, by row and column.
        points: size of the font.
        with_errors: whether there is room for them.
    """

    texts: Mapping[tuple[int, ...], str]
    points: float
    with_errors: bool = False

    @classmethod
    def fitting(
        cls,
        values: Float[np.ndarray, "rows columns"],
        size: Size,
        errors: Float[np.ndarray, "rows columns"] | None = None,
    ) -> "CellTexts":
        """Values with their errors if there is room for both; else values; else nothing.

        Args:
            values: NaN has no text.
            size: inches of the matrix.
            errors: of the values.
        """
        cell = (size[0] / values.shape[1], size[1] / values.shape[0])
        finite = {place: v for place, v in np.ndenumerate(values) if np.isfinite(v)}
        plain = {place: f"{round(float(v), 2) + 0.0:.2f}" for place, v in finite.items()}
        tries = [(plain, False)]
        if errors is not None:
            both = {place: f"{text}\n±{errors[place]:.3f}" for place, text in plain.items()}
            tries.insert(0, (both, True))
        for texts, with_errors in tries:
            points = _largest_font(list(texts.values()), cell)
            if points is not None:
                return cls(texts, points, with_errors)
        return cls({}, SMALLEST)

    def write(self, axis: Axes, values: Float[np.ndarray, "rows columns"], top: float) -> None:
        """Write them, white on dark cells and black on light ones."""
        for (row, column), text in self.texts.items():
            axis.text(column, row, text, fontsize=self.points, linespacing=1.1,
                      color="white" if values[row, column] < 0.6 * top else "black",
                      ha="center", va="center")  # fmt: skip


def _largest_font(texts: Sequence[str], cell: Size) -> float | None:
    """The largest size of a font in which all texts fit into a cell; None if there is none."""
    if not texts or height_of(texts[0], SMALLEST) > cell[1]:
        return None
    longest = max(texts, key=lambda text: width_of(text, SMALLEST))
    for points in (SMALL, 5.5, SMALLEST):
        if width_of(longest, points) <= 0.94 * cell[0] and height_of(longest, points) <= cell[1]:
            return points
    return None


def height_of_name(points: float) -> float:
    """Inches that a name needs across its direction."""
    return NAME * points / POINTS


def height_of(text: str, points: float = NORMAL) -> float:
    """Inches that the lines of a text take; none for no text."""
    return (text.count("\n") + 1) * LINE * points / POINTS if text else 0.0


def height_of_headline(title: str, width: float) -> float:
    """Inches that a headline takes on a page of some width."""
    return height_of(folded(title, width - 2 * PAD, LARGE), LARGE) + PAD


def paint(axis: Axes, values: Float[np.ndarray, "rows columns"], top: float) -> AxesImage:
    """Colours of a matrix from 0 to the upper end of the scale; NaN is hatched."""
    axis.set_facecolor("white")
    axis.patch.set(hatch="////////", edgecolor="0.7")  # shows where a value is NaN
    return axis.imshow(
        values, cmap="viridis", vmin=0, vmax=top, aspect="auto", interpolation="nearest"
    )


def bar_width(scale: str, matrix: float) -> float:
    """Inches that a bar takes beside a matrix of so many inches, with what is written at it."""
    return BAR_NUMBERS + height_of(folded(scale, min(matrix, HIGHEST_BAR), NORMAL))


def draw_bar(
    figure: Figure, image: AxesImage, left: float, top: float, matrix: float, scale: str
) -> None:
    """A colour bar with what its values are; pointed if some lie below it.

    Args:
        figure: of the matrix.
        image: see `paint`.
        left: inches from the left of the page.
        top: inches from its top.
        matrix: inches of the matrix from top to bottom.
        scale: what the values are.
    """
    height = min(matrix, HIGHEST_BAR)
    below = bool((np.asarray(image.get_array(), dtype=float) < 0).any())
    figure.colorbar(
        image,
        cax=axes_at(figure, left, top, BAR, height),
        extend="min" if below else "neither",
        label=folded(scale, height, NORMAL),
    )
