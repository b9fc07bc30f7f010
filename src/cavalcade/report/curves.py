"""Curves over relative depth and over a series, with their errors."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from cavalcade.report.figures import BLUE, GREY, RED, figure_of, save, tidy_axis
from cavalcade.similarity.derived import Number

MOST_NETWORKS = 24  # that have a panel each


def draw_best_matches(
    matches: pd.DataFrame, ceilings: pd.DataFrame, path: Path, *, title: str, measure: str
) -> None:
    """Where the best match of each layer lies, and how alike both are.

    Args:
        matches: of one pair, see `depth.match_table`.
        ceilings: of layers of the trunk; columns network, depth and value; may be empty.
        path: of the PNG file.
        title: over both panels.
        measure: what the similarity is.
    """
    figure = figure_of(10.5, 4.4)
    figure.suptitle(title, fontsize=12)
    where, how = figure.subplots(1, 2)
    where.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="same depth")
    names = list(dict.fromkeys(matches["network"]))
    for network, colour, marker in zip(names, (BLUE, RED), ("o", "s"), strict=False):
        rows = matches[matches["network"] == network]
        _errors(where, rows, "match_depth", colour, marker, f"layers of {network}")
        _errors(how, rows, "value", colour, marker, f"layers of {network}")
        own = ceilings[ceilings["network"] == network] if len(ceilings) else ceilings
        if len(own):
            how.plot(own["depth"], own["value"], color=colour, linewidth=1, linestyle=":",
                     label=f"two halves of {network}")  # fmt: skip
    how.axhline(0, color=GREY, linewidth=1)
    tidy_axis(where, "relative depth of a layer", "relative depth of its best match")
    tidy_axis(how, "relative depth of a layer", f"{measure} with its best match")
    where.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    where.legend(fontsize=8, loc="upper left")
    handles, labels = how.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower right", ncols=2)
    save(figure, path)


def _errors(
    axis: Axes, rows: pd.DataFrame, what: str, colour: str, marker: str, label: str
) -> None:
    low, high = ("low", "high") if what == "value" else (f"{what}_low", f"{what}_high")
    value = rows[what].to_numpy(dtype=float)
    # the interval of a best match need not hold its value: a bar shows what lies on either side
    below = np.clip(value - rows[low].to_numpy(dtype=float), 0, None)
    above = np.clip(rows[high].to_numpy(dtype=float) - value, 0, None)
    axis.errorbar(
        rows["depth"],
        value,
        yerr=np.stack([below, above]),
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1,
        capsize=2,
        label=label,
    )


def draw_flow(
    curves: Mapping[str, tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]],
    distances: Mapping[str, Mapping[str, Number]],
    path: Path,
    *,
    measure: str,
) -> None:
    """How fast the meaning of each network changes with depth; of the first `MOST_NETWORKS`.

    Args:
        curves: for each network the distances of all pairs of its layers, and by how much
            they are less alike than each is with itself.
        distances: for each network its mean `distance` and `half_distance`, see `Flow`.
        path: of the PNG file.
        measure: what the similarity is.
    """
    title = "How far apart two layers must be to mean different things"
    if len(curves) > MOST_NETWORKS:
        title += f"\n{MOST_NETWORKS} of {len(curves)} networks; all are in flow.csv"
        curves = dict(itertools.islice(curves.items(), MOST_NETWORKS))
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = figure_of(4.4 * columns, 3.4 * rows + 0.5)
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, (network, (distance, loss)) in zip(axes.flat, curves.items(), strict=False):
        axis.scatter(distance, loss, s=9, color=BLUE, alpha=0.35, linewidths=0)
        axis.axhline(0, color=GREY, linewidth=1)
        told = [network]
        for name, what, style in (
            ("distance", "differs", "-"),
            ("half_distance", "half is lost", "--"),
        ):
            number = distances[network][name]
            if np.isfinite(number.value):
                low, high = number.interval
                axis.axvline(number.value, color=RED, linewidth=1.2, linestyle=style, label=what)
                axis.axvspan(low, high, color=RED, alpha=0.12, linewidth=0)
                told.append(f"{what} {number.value:.2f} [{low:.2f}, {high:.2f}] deeper")
            else:
                told.append(f"{what}: nowhere")
        tidy_axis(axis, "distance of relative depth", f"loss of {measure}", "\n".join(told))
        axis.title.set_fontsize(10)
        axis.label_outer()
    for axis in list(axes.flat)[len(curves) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    if handles:
        titled = [f"mean over layers: {label}" for label in labels]
        figure.legend(handles, titled, fontsize=8, loc="outside lower center", ncols=2)
    save(figure, path)


def draw_series(series: pd.DataFrame, path: Path, *, measure: str) -> None:
    """How alike the members of a series are to the last and to the one before.

    Args:
        series: columns network, step, to (`last` or `previous`), layer, depth, value, low, high;
            rows with an empty layer are those of whole networks.
        path: of the PNG file.
        measure: what the similarity is.
    """
    figure = figure_of(11.0, 4.6)
    whole, layers = figure.subplots(1, 2, width_ratios=[1, 1.1])
    figure.suptitle("How meaning settles along the series", fontsize=12)
    for to, colour, marker in (("last", BLUE, "o"), ("previous", RED, "s")):
        rows = series[(series["to"] == to) & (series["layer"] == "")]
        _errors(whole, rows.assign(depth=rows["step"]), "value", colour, marker, f"with the {to}")
    names = series.drop_duplicates("step").set_index("step")["network"]
    for axis in (whole, layers):
        axis.set_xticks(list(names.index), list(names), rotation=30, ha="right", fontsize=8)
    tidy_axis(whole, "", measure, "whole networks")
    whole.legend(fontsize=8)
    rows = series[(series["to"] == "last") & (series["layer"] != "")]
    scale = ScalarMappable(Normalize(0, 1), "viridis")
    for _, layer in rows.groupby("layer", sort=False):
        shade = scale.to_rgba(layer["depth"].iloc[0])
        layers.plot(layer["step"], layer["value"], color=shade, linewidth=1.2, marker=".")
    tidy_axis(layers, "", measure, "the same layer, with the last")
    figure.colorbar(scale, ax=layers, label="relative depth")
    save(figure, path)
