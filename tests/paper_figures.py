"""Figures of synthetic numbers, and what can be measured on any of them."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.text import Text

from cavalcade.report import curves, networks
from cavalcade.report.figures import paper_style
from cavalcade.report.heatmap import draw_matrices
from cavalcade.similarity.derived import Number
from cavalcade.similarity.networks import NetworkMatrix

DEPTH = "layer, relative depth\n(share of weighted layers before)"
MEASURES = (
    *("Jaccard index", "label-conditional Jaccard index", "linear CKA", "unbiased linear CKA"),
    *("RSA (Pearson)", "RSA (Spearman)", "Procrustes similarity", "mutual nearest neighbours"),
    *("SVCCA", "PWCCA", "another"),
)


def number(value, error=0.01, resamples=20):
    replicates = value + error * np.random.default_rng(0).normal(size=resamples)
    return Number(value, replicates, 20, np.empty(0))


def matrix(rows, columns, name="features.denseblock{}.denselayer{}.conv2"):
    """Values from below 0 to 0.8 with one that is NaN, under long names."""
    i, j = np.linspace(0, 1, rows)[:, None], np.linspace(0, 1, columns)[None]
    values = 0.8 * np.exp(-8 * (i - j) ** 2) - 0.05
    values[-1, 0] = np.nan
    names = [
        [f"{name.format(k // 16, k % 16)}  {k / count:.2f}" for k in range(count)]
        for count in (rows, columns)
    ]
    return pd.DataFrame(values, index=names[0], columns=names[1])


def matrices(rows, columns, **options):
    values = matrix(rows, columns, **options)
    return draw_matrices(
        [("Jaccard index\n(median standard error 0.004)", values),
         ("adjusted Jaccard index\n(median standard error 0.004)", values - 0.1)],
        title="fasterrcnn_mobilenet_v3-random and densenet201: 7 concepts",
        rows=f"fasterrcnn_mobilenet_v3-random: {DEPTH}",
        columns=f"densenet201: {DEPTH}",
        scale="similarity (dimensionless)",
    )  # fmt: skip


def scores(rows, columns):
    values = matrix(rows, columns, name="blocks.{}.{}")
    values.columns = [f"concept {k}" for k in range(columns)]
    return draw_matrices(
        [("scores on test images", values)],
        title="efficientnet_lite0 on faces",
        rows=DEPTH,
        columns="concept",
        scale="Jaccard index with the labels (dimensionless)",
    )


def network_matrix(count):
    """Two families, every third network random."""
    names = [f"vit_small_patch{k}{'-random' if k % 3 == 2 else ''}" for k in range(count)]
    pairs = {
        (a, b): number(0.1 + 0.4 * (len(a) == len(b)) + 0.1 * np.sin(k))
        for k, (a, b) in enumerate(itertools.combinations(names, 2))
    }
    found = NetworkMatrix(tuple(names), pairs)
    random = {name: "random" in name for name in names}
    return networks.draw_networks(found, found.tree(), random, measure="adjusted Jaccard index")


def flow(count):
    rng = np.random.default_rng(0)
    found = {f"network{k}": (rng.random(10), rng.random(10)) for k in range(count)}
    numbers = {"distance": number(0.2, 0.03), "half_distance": number(0.4, 0.03)}
    nowhere = numbers | {"distance": number(np.nan)}
    distances = {name: numbers if k else nowhere for k, name in enumerate(found)}
    return curves.draw_flow(found, distances, measure="adjusted Jaccard index")


def agreement(count, cells=300):
    x = np.linspace(0, 1, cells)
    kinds = np.resize(["trained", "mixed", "random"], cells)
    table = pd.DataFrame({"x": x, "y": x**2, "kind": kinds})
    panels = [(measure, table, 0.5) for measure in MEASURES[:count]]
    return networks.draw_agreement(panels, measure="adjusted Jaccard index")


def series(count):
    steps = [
        {"network": f"checkpoint-{1000 * step}", "step": step, "to": to, "layer": layer,
         "depth": depth, "value": 0.5 + 0.4 * step / count}
        for step in range(count)
        for to in ("last", "previous")
        for layer, depth in (("", np.nan), ("blocks.0", 0.2), ("blocks.6", 0.9))
        if (to, step) not in (("last", count - 1), ("previous", 0))
    ]  # fmt: skip
    table = pd.DataFrame(steps)
    table = table.assign(low=table["value"] - 0.02, high=table["value"] + 0.02)
    return curves.draw_series(table, measure="adjusted Jaccard index")


def best_matches(count, names=("efficientnet_lite0", "fasterrcnn_mobilenet_v3-random")):
    depth = np.linspace(0.05, 0.98, count)
    own = {"depth": depth, "match_depth": depth**1.1, "value": 0.5 - 0.2 * depth}
    table = pd.concat([pd.DataFrame({"network": name, **own}) for name in names])
    for column, low, high in (("value", "low", "high"),
                              ("match_depth", "match_depth_low", "match_depth_high")):  # fmt: skip
        table[low], table[high] = table[column] - 0.02, table[column] + 0.03
    ceilings = table[["network", "depth"]].assign(value=0.8)
    title = f"Best matches of layers of {' and '.join(names)}"
    return curves.draw_best_matches(table, ceilings, title=title, measure="adjusted Jaccard index")


ALL = {
    **{f"matrices-{r}x{c}": (matrices, r, c)
       for r, c in ((1, 1), (2, 3), (12, 12), (60, 60), (60, 5), (5, 60))},
    **{f"scores-{r}x{c}": (scores, r, c) for r, c in ((5, 7), (60, 7), (13, 40))},
    **{f"networks-{n}": (network_matrix, n) for n in (2, 3, 12, 30, 100, 160)},
    **{f"flow-{n}": (flow, n) for n in (1, 2, 4, 5, 26)},
    **{f"agreement-{n}": (agreement, n) for n in (1, 2, 5, 9, 11)},
    **{f"series-{n}": (series, n) for n in (2, 40)},
    **{f"depth-{n}": (best_matches, n) for n in (3, 60)},
}  # fmt: skip


def drawn(name):
    """A figure of `ALL`, everything where it is in the files."""
    draw, *arguments = ALL[name]
    figure = draw(*arguments)
    with paper_style():
        figure.draw_without_rendering()
    return figure


def tick_labels(axis):
    """The labels of the ticks of one direction that are seen."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text()
    ] + [
        tick.label2
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high and tick.label2.get_visible() and tick.label2.get_text()
    ]


def texts(figure):
    """Every text that is seen."""
    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
             for label in tick_labels(axis)]  # fmt: skip
    all_ticks = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
                 for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
                 for label in (tick.label1, tick.label2)}  # fmt: skip
    others = [
        text
        for text in figure.findobj(Text)
        if id(text) not in all_ticks and text.get_visible() and text.get_text().strip()
    ]
    return ticks + others


def boxes(found):
    """Left, bottom, right, top of some texts in pixels."""
    return np.array([text.get_window_extent().extents for text in found])
