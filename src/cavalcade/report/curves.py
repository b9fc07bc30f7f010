"""Curves over relative depth and over a series, with their errors."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cavalcade.report.figures import (
    BLUE,
    DEPTH,
    DEPTH_UNIT,
    GREY,
    INTERVALS,
    NO_UNIT,
    NORMAL,
    ONE_COLUMN,
    RED,
    SMALL,
    TALLEST,
    TWO_COLUMNS,
    arrange,
    balanced,
    figure_of,
    handles_of,
    headline,
    one_in,
    outer,
    panels_of,
    paper_style,
    tidy_axis,
)
from cavalcade.report.lettering import POINTS, folded, shortened
from cavalcade.similarity.derived import Number

MOST_NETWORKS = 24  # that have a panel each
FAR = "difference of relative depth\n(share of weighted layers)"
ROW, FOOT = 1.8, 0.9  # inches of a row of panels, and of what is below and above all
STYLES = ((BLUE, "o", "-", ":"), (RED, "s", "--", "-."))  # of two networks: also of their halves


def draw_best_matches(
    matches: pd.DataFrame, ceilings: pd.DataFrame, *, title: str, measure: str
) -> Figure:
    """Where the best match of each layer lies, and how alike both are.

    Args:
        matches: of one pair, see `depth.match_table`.
        ceilings: of layers of the trunk; columns network, depth and value; may be empty.
        title: over both panels.
        measure: what the similarity is.

    Returns:
        Two columns of a page wide.
    """
    with paper_style():
        figure = figure_of(TWO_COLUMNS, 3.4)
        headline(figure, title)
        where, how = panels_of(figure, 2, 2)
        names = list(dict.fromkeys(matches["network"]))
        for network, (colour, marker, line, dots) in zip(names, STYLES, strict=False):
            rows = matches[matches["network"] == network]
            label = folded(f"layers of {network}", 2.7, SMALL)
            for axis, what in ((where, "match_depth"), (how, "value")):
                _errors(axis, rows, what, colour, marker, line, label)
            own = ceilings[ceilings["network"] == network] if len(ceilings) else ceilings
            if len(own):
                ceiling = folded(f"ceiling of {network}", 2.7, SMALL)
                how.plot(own["depth"], own["value"], color=colour, linestyle=dots, label=ceiling)
        where.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="same depth", zorder=1)
        how.axhline(0, color=GREY, linewidth=0.5)
        tidy_axis(where, DEPTH, "relative depth of the best match")
        tidy_axis(how, DEPTH, folded(f"{measure} with the best match\n{NO_UNIT}", 2.2, NORMAL))
        where.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        how.set(xlim=(-0.03, 1.03))
        _legend(figure, [where, how], f"Bars: {INTERVALS}")
        arrange(figure)
    return figure


def _legend(figure: Figure, axes: list[Axes], title: str, columns: int = 2) -> None:
    """One legend below all axes."""
    found = handles_of(axes)
    if found:
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=columns, title=title,
            handlelength=3,
        )  # fmt: skip


def _errors(
    axis: Axes, rows: pd.DataFrame, what: str, colour: str, marker: str, line: str, label: str
) -> None:
    low, high = ("low", "high") if what == "value" else (f"{what}_low", f"{what}_high")
    value = rows[what].to_numpy(dtype=float)
    # the interval of a best match need not hold its value: a bar shows what lies on either side
    below = np.clip(value - rows[low].to_numpy(dtype=float), 0, None)
    above = np.clip(rows[high].to_numpy(dtype=float) - value, 0, None)
    bars = axis.errorbar(
        rows["depth"], value, yerr=np.stack([below, above]), color=colour, marker=marker,
        linestyle=line, elinewidth=0.6, capsize=1.2, capthick=0.6, label=label,
    )  # fmt: skip
    bars.lines[0].set_markerfacecolor("white" if marker == "s" else colour)


def draw_flow(
    curves: Mapping[str, tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]],
    distances: Mapping[str, Mapping[str, Number]],
    *,
    measure: str,
) -> Figure:
    """How fast the meaning of each network changes with depth; of the first `MOST_NETWORKS`.

    Args:
        curves: for each network the distances of all pairs of its layers, and by how much
            they are less alike than each is with itself.
        distances: for each network its mean `distance` and `half_distance`, see `Flow`.
        measure: what the similarity is.

    Returns:
        Two columns of a page wide; one, for a single network.
    """
    title = "How much less alike two layers of a network are, the farther apart they lie"
    if len(curves) > MOST_NETWORKS:
        title += f"; {MOST_NETWORKS} of {len(curves)} networks, all are in flow.csv"
        curves = dict(itertools.islice(curves.items(), MOST_NETWORKS))
    columns = balanced(len(curves))
    rows = -(-len(curves) // columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    panel = (width - 0.4) / columns - 0.1
    with paper_style():
        figure = figure_of(width, rows * min(ROW, (TALLEST - FOOT) / rows) + FOOT)
        headline(figure, title)
        axes = panels_of(figure, len(curves), columns, shared=True)
        for axis, (network, curve) in zip(axes, curves.items(), strict=True):
            said = _draw_flow(axis, curve, distances[network])
            told = [
                shortened(network, panel, SMALL),
                *(folded(line, panel, SMALL) for line in said),
            ]
            loss = folded(f"loss of {measure} {NO_UNIT}", 1.0, NORMAL)
            tidy_axis(axis, FAR, loss, "\n".join(told))
            axis.title.set_fontsize(SMALL)
        outer(axes, columns)
        _legend(figure, axes, f"Mean over layers; bands: {INTERVALS}")
        arrange(figure)
    return figure


def _draw_flow(
    axis: Axes,
    curve: tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]],
    distances: Mapping[str, Number],
) -> list[str]:
    """Draw the losses and both distances of a network; what is said of these."""
    distance, loss = curve
    axis.scatter(distance, loss, s=4, color=BLUE, alpha=0.4, linewidths=0)
    axis.axhline(0, color=GREY, linewidth=0.5)
    said = []
    for name, what, style in (("distance", "differs", "-"), ("half_distance", "half lost", "--")):
        number = distances[name]
        if not np.isfinite(number.value):
            said.append(f"{what}: nowhere")
            continue
        low, high = number.interval
        label = "another meaning" if name == "distance" else "half of the agreement is lost"
        # wide and pale below a dashed one, which may lie at the same place
        look = {"linewidth": 2.4, "alpha": 0.4} if style == "-" else {}
        axis.axvline(number.value, color=RED, linestyle=style, label=label, **look)
        axis.axvspan(low, high, color=RED, alpha=0.12, linewidth=0)
        said.append(f"{what} {number.value:.2f} [{low:.2f}, {high:.2f}]")
    return said


def draw_series(series: pd.DataFrame, *, measure: str) -> Figure:
    """How alike the members of a series are to the last and to the one before.

    Args:
        series: columns network, step, to (`last` or `previous`), layer, depth, value, low, high;
            rows with an empty layer are those of whole networks.
        measure: what the similarity is.

    Returns:
        Two columns of a page wide.
    """
    with paper_style():
        figure = figure_of(TWO_COLUMNS, 3.3)
        headline(figure, "How meaning settles along the series")
        whole, layers = panels_of(figure, 2, 2)
        for to, (colour, marker, line, _) in zip(("last", "previous"), STYLES, strict=True):
            rows = series[(series["to"] == to) & (series["layer"] == "")]
            rows = rows.assign(depth=rows["step"])
            _errors(whole, rows, "value", colour, marker, line, f"with the {to}")
        value = folded(f"{measure} {NO_UNIT}", 2.0, NORMAL)
        tidy_axis(whole, "member of the series", value, "whole networks")
        rows = series[(series["to"] == "last") & (series["layer"] != "")]
        scale = ScalarMappable(Normalize(0, 1), "viridis")
        for _, layer in rows.groupby("layer", sort=False):
            shade = scale.to_rgba(layer["depth"].iloc[0])
            layers.plot(layer["step"], layer["value"], color=shade, marker="o", markersize=1.5)
        tidy_axis(layers, "member of the series", value, "the same layer, with the last")
        figure.colorbar(
            scale, ax=layers, label=f"relative depth\n{DEPTH_UNIT}", aspect=30, use_gridspec=False
        )
        layers.set_xlim(whole.get_xlim())
        _name_members([whole, layers], series)
        _legend(figure, [whole], f"Bars: {INTERVALS}")
        arrange(figure)
    return figure


def _name_members(axes: list[Axes], series: pd.DataFrame) -> None:
    """Name the members of a series along x, every second one or fewer if there are many."""
    names = series.drop_duplicates("step").set_index("step")["network"]
    step = one_in(len(names), 2.4, 1.2 * SMALL / POINTS)
    texts = [shortened(str(name), 1.2, SMALL) for name in names[::step]]
    for axis in axes:
        axis.set_xticks(list(names.index[::step]), texts, rotation=90)
        if step > 1:
            axis.set_xlabel(f"{axis.get_xlabel()}; one in {step} is named")
