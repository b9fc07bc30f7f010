"""What all pictures have in common: a figure without a window, colours, a place to save it."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLUE, RED, GREY = "#2166ac", "#b2182b", "0.55"
KIND_COLOURS = {"trained": BLUE, "mixed": "#9970ab", "random": RED}


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of some inches."""
    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, compress=True)  # inches
    figure = Figure(figsize=(width, height), layout=margins, dpi=110)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file."""
    figure.savefig(path)


def tidy_axis(axis: Axes, x: str, y: str, title: str = "") -> None:
    """Names for both directions, no frame above and to the right, a light grid."""
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
