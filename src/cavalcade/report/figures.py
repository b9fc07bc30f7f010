"""What all figures have in common: the widths of a paper, one style, and a file of each kind.

Inside the functions that draw and save, the style is matplotlib's own with the changes of `STYLE`,
whatever a user has set; what the user has set is there again afterwards.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cavalcade.report.lettering import folded

# inches of a page: 85 mm, 178 mm and 240 mm
ONE_COLUMN, TWO_COLUMNS, TALLEST = 3.35, 7.0, 9.4
DPI = 300  # of the PNG, and of what is an image in the PDF
PAD = 0.05  # inches around everything

SMALLEST, SMALL, NORMAL, LARGE = 5.0, 6.0, 7.0, 8.0  # points
STYLE: dict[str, Any] = {
    "font.size": NORMAL,
    **dict.fromkeys(("axes.titlesize", "axes.labelsize"), NORMAL),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), SMALL),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize"), SMALL),
    "figure.titlesize": LARGE,
    "axes.linewidth": 0.5,
    "axes.labelpad": 2.0,
    "axes.titlepad": 3.0,
    "grid.linewidth": 0.4,
    "hatch.linewidth": 0.3,
    "lines.linewidth": 0.8,
    "lines.markersize": 2.5,
    "patch.linewidth": 0.5,
    **{f"{axis}tick.major.{what}": size
       for axis in "xy" for what, size in (("width", 0.5), ("size", 2.0), ("pad", 2.0))},
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: what journals take, and what can be edited
    "text.parse_math": False,  # a name may hold dollars
}  # fmt: skip

SAVING: dict[str, dict[str, Any]] = {
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"pil_kwargs": {"compress_level": 3}},  # faster than by default, and hardly larger
}

BLUE, RED, GREY = "#2166ac", "#b2182b", "0.55"
KIND_COLOURS = {"trained": BLUE, "mixed": "#9970ab", "random": RED}
KIND_MARKERS = {"trained": "o", "mixed": "^", "random": "s"}

NO_UNIT = "(dimensionless)"
DEPTH_UNIT = "(share of weighted layers before)"
DEPTH = f"relative depth {DEPTH_UNIT}"
INTERVALS = "95 % intervals over blocks of test images"


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's own style with the changes of `STYLE`, inside the context alone."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of some inches, no higher than a page.

    Args:
        width: of a column, or of two.
        height: cut to what a page has, and to whole pixels.
    """
    figure = Figure(figsize=(width, min(round(height, 2), TALLEST)), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def arrange(figure: Figure) -> None:
    """Find where axes lie so that nothing overlaps; once, for both files. See also `axes_at`."""
    ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD, wspace=0.03, hspace=0.03).execute(figure)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at some inches from the left and the top of a figure."""
    across, down = map(float, figure.get_size_inches())
    place = (left / across, 1 - (top + height) / down, width / across, height / down)
    return figure.add_axes(place)


def save(figure: Figure, path: Path, kinds: Sequence[str] = ("pdf", "png")) -> None:
    """Write a figure as a file of each kind.

    The same figure gives the same bytes: no file holds the time.

    Args:
        figure: whole.
        path: without its suffix.
        kinds: suffixes.
    """
    with paper_style():
        for kind in kinds:
            figure.savefig(path.with_name(f"{path.name}.{kind}"), dpi=DPI, **SAVING[kind])


def tidy_axis(axis: Axes, x: str, y: str, title: str = "") -> None:
    """Names for both directions, no frame above and to the right, a light grid."""
    axis.set(xlabel=x, ylabel=y, title=title)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def headline(figure: Figure, title: str, *, pinned: bool = False) -> None:
    """A title over all axes of a figure, in as many lines as it needs.

    Args:
        figure: of axes.
        title: may have lines.
        pinned: to the top of the page; otherwise it lies where the figure is arranged.
    """
    width, height = map(float, figure.get_size_inches())
    place = {"y": 1 - PAD / height, "va": "top"} if pinned else {}
    figure.suptitle(folded(title, width - 2 * PAD, LARGE), **place)


def one_in(count: int, room: float, needed: float) -> int:
    """Of how many names one is written, so that no two overlap.

    Args:
        count: of names.
        room: for all of them, in any unit of length.
        needed: for one of them.

    >>> one_in(60, room=2.5, needed=0.08)
    2
    """
    return max(1, min(count, -int(-count * needed // room)))


def balanced(count: int, *, most_rows: int = 6) -> int:
    """How many panels a row has, four at most, so that the last row is as full as can be.

    >>> [balanced(count) for count in (2, 4, 5, 9, 10, 23)]
    [2, 4, 3, 3, 4, 4]
    """
    if count <= 3:
        return count
    fitting = [columns for columns in (4, 3) if count <= columns * most_rows]
    return min(fitting, key=lambda columns: -count % columns)


def panels_of(figure: Figure, count: int, columns: int, *, shared: bool = False) -> list[Axes]:
    """Some axes in rows, without empty ones at the end.

    Args:
        figure: that is arranged later.
        count: of axes.
        columns: of a row, at most as many as axes.
        shared: all have the same limits, which are written at the left of a row and at the foot
            of a column alone; see `outer`.
    """
    rows = -(-count // columns)
    made = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)
    axes = list(made.flat)
    for empty in axes[count:]:
        empty.remove()
    return axes[:count]


def outer(axes: Sequence[Axes], columns: int) -> None:
    """Keep the labels of shared axes at the left of a row and at the foot of a column alone."""
    for place, axis in enumerate(axes):
        lowest = place + columns >= len(axes)
        axis.tick_params(labelbottom=lowest, labelleft=place % columns == 0)
        if not lowest:
            axis.set_xlabel("")
        if place % columns:
            axis.set_ylabel("")


def handles_of(axes: Sequence[Axes]) -> dict[str, Any]:
    """What a legend of several axes shows: each label once."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return found
