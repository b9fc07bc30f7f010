"""The matrix of networks with its dendrogram, and measures against each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Text
from scipy.cluster.hierarchy import dendrogram

from cavalcade.report.figures import BLUE, GREY, KIND_COLOURS, RED, figure_of, save, tidy_axis
from cavalcade.similarity.networks import NetworkMatrix, Tree

CELL_INCHES = 0.62
SMALL_CELL_INCHES = 0.16  # holds a name, but no number
LARGEST_WITH_NUMBERS = 24
LARGEST_WITH_NAMES = 150
MOST_POINTS = 20_000
LARGEST_INCHES = SMALL_CELL_INCHES * LARGEST_WITH_NAMES


def draw_networks(
    matrix: NetworkMatrix,
    tree: Tree | None,
    random: Mapping[str, bool],
    path: Path,
    *,
    measure: str,
) -> None:
    """The similarity of every network with every other, clustered; random ones in red.

    Numbers are written while there is room for them, and names.

    Args:
        matrix: of the networks.
        tree: its clusters; without, networks keep their order and no tree is drawn.
        random: which networks have random weights.
        path: of the PNG file.
        measure: what the similarity is.
    """
    names = list(matrix.networks)
    small, named = len(names) > LARGEST_WITH_NUMBERS, len(names) <= LARGEST_WITH_NAMES
    cell = SMALL_CELL_INCHES if small else CELL_INCHES
    size = min(max(3.2, cell * len(names)), LARGEST_INCHES)
    figure = figure_of(2 * size + 3.4, size + 1.6)
    figure.suptitle(f"Networks by {measure}, chance removed", fontsize=12)
    branches, axis = figure.subplots(1, 2, width_ratios=[0.8, 1])
    if tree is None:
        branches.set_axis_off()
    else:
        names = _draw_tree(branches, tree, with_support=not small)
    values = matrix.frame().loc[names, names].to_numpy(dtype=float)
    top = max(0.1, float(np.nanmax(values))) if np.isfinite(values).any() else 1.0
    axis.patch.set(hatch="////", edgecolor="0.8")
    image = axis.imshow(values, cmap="viridis", vmin=0, vmax=top)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and not small:
            error = matrix[names[row], names[column]].stderr
            axis.text(column, row, f"{value:.2f}\n±{error:.3f}", ha="center", va="center",
                      fontsize=8, color="white" if value < 0.6 * top else "black")  # fmt: skip
    ticks, told = (range(len(names)), names) if named else ([], [])
    fontsize = 7 if small else 9
    axis.set_xticks(ticks, told, rotation=90, fontsize=fontsize)
    axis.set_yticks(ticks, told, fontsize=fontsize)
    branches.tick_params(axis="y", labelsize=fontsize, labelright=named)
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        _redden(labels, random)
    figure.colorbar(image, ax=axis, shrink=0.8, pad=0.02)
    _redden(branches.get_yticklabels(), random)
    save(figure, path)


def _draw_tree(axis: Axes, tree: Tree, *, with_support: bool) -> list[str]:
    """Draw it with its root on the left; the leaves from top to bottom."""
    drawn = dendrogram(
        tree.linkage,
        labels=list(tree.networks),
        orientation="left",
        ax=axis,
        link_color_func=lambda _: BLUE,
    )
    axis.set_xlabel("1 - similarity")
    if with_support:
        _write_support(axis, tree, drawn)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.invert_yaxis()
    return list(drawn["ivl"])


def _write_support(axis: Axes, tree: Tree, drawn: Mapping[str, Any]) -> None:
    """The share of resamples that make each merge, beside it."""
    order = np.argsort(tree.linkage[:, 2], kind="stable")
    heights = {round(float(tree.linkage[k, 2]), 9): tree.support[k] for k in order}
    for xs, ys in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        support = heights[round(float(xs[1]), 9)]
        axis.annotate(f"{support:.0%}", (xs[1], (ys[1] + ys[2]) / 2), fontsize=8,
                      xytext=(3, 2), textcoords="offset points", color=GREY)  # fmt: skip
    axis.set_xlabel("1 - similarity\n(grey: share of resamples\nwith this cluster)")


def _redden(labels: Sequence[Text], random: Mapping[str, bool]) -> None:
    for label in labels:
        if random.get(label.get_text(), False):
            label.set_color(RED)


def draw_agreement(
    panels: Sequence[tuple[str, pd.DataFrame, float]], path: Path, *, measure: str
) -> None:
    """Other measures against one, a point for each pair of layers of different networks.

    Of more than `MOST_POINTS` every second, third, and so on.

    Args:
        panels: for each measure its name, cells with columns x, y and kind (trained, mixed,
            random), and their rank correlation.
        path: of the PNG file.
        measure: what lies along x.
    """
    columns = min(4, int(np.ceil(np.sqrt(len(panels)))))
    rows = -(-len(panels) // columns)
    figure = figure_of(3.1 * columns + 0.6, 3.0 * rows + 0.6)
    figure.suptitle(f"Other measures against the {measure}: pairs of layers", fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, cells, rho) in zip(axes.flat, panels, strict=False):
        for kind, colour in KIND_COLOURS.items():
            part = cells[cells["kind"] == kind]
            part = part.iloc[:: -(-len(cells) // MOST_POINTS)]
            if part.empty:
                continue
            axis.scatter(
                part["x"], part["y"], s=5, alpha=0.35, linewidths=0, color=colour, label=kind
            )
        tidy_axis(axis, measure, name, f"rank correlation {rho:.2f}")
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, markerscale=3)
    save(figure, path)
