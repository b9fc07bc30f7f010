"""A series of checkpoints of one network: how its meaning settles in training."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cavalcade.analysis import Analysis
from cavalcade.errors import InputError
from cavalcade.similarity import LayerMatrix
from cavalcade.similarity.estimates import interval

COLUMNS = ["network", "step", "to", "layer", "depth", "value", "stderr", "low", "high"]


def series_table(analysis: Analysis) -> pd.DataFrame:
    """How alike each member of a series is to the last, and to the one before it.

    The runs are members in the order of the comparison. Rows with an empty layer are those of
    whole networks; the others compare a layer with the same layer. Columns: network, step, to
    (`last` or `previous`), layer, depth, value, stderr, low, high.

    Raises:
        InputError: for fewer than two runs, or if their layers differ.
    """
    names = analysis.comparison.networks
    if len(names) < 2:
        raise InputError("a series needs two runs or more; name them in their order with runs=")
    for matrix in analysis.comparison.between(analysis.similarity):
        _check_same_layers(matrix)
    rows: list[dict[str, Any]] = []
    for step, name in enumerate(names):
        for to, place in (("last", len(names) - 1), ("previous", step - 1)):
            if place < 0 or place == step:
                continue
            found = analysis.comparison.layer_matrix(name, names[place], analysis.similarity)
            start = {"network": name, "step": step, "to": to}
            rows += [start | row for row in _rows(analysis, found)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _check_same_layers(matrix: LayerMatrix) -> None:
    pair = matrix.pair
    if [layer.name for layer in pair.layers_a] != [layer.name for layer in pair.layers_b]:
        raise InputError(
            f"{pair.network_a} and {pair.network_b} have different layers, so they are no series "
            "of one network; name checkpoints of one network with runs=, or leave out series="
        )


def _rows(analysis: Analysis, matrix: LayerMatrix) -> Iterator[dict[str, Any]]:
    number = analysis.networks[matrix.pair.network_a, matrix.pair.network_b]
    low, high = number.interval
    yield {
        "layer": "",
        "depth": np.nan,
        "value": number.value,
        "stderr": number.stderr,
        "low": low,
        "high": high,
    }
    values, errors = np.diagonal(matrix.values), np.diagonal(matrix.estimate.stderr)
    again = np.diagonal(matrix.estimate.replicates(analysis.weights), axis1=1, axis2=2)
    lows, highs = interval(again, analysis.comparison.num_blocks)
    for k, layer in enumerate(matrix.pair.layers_a):
        yield {
            "layer": layer.name,
            "depth": layer.depth,
            "value": values[k],
            "stderr": errors[k],
            "low": lows[k],
            "high": highs[k],
        }
