"""A series of checkpoints of one network: how its meaning settles in training."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cavalcade.comparing.analysis import Analysis
from cavalcade.errors import InputError
from cavalcade.runs import Run
from cavalcade.similarity import LayerMatrix
from cavalcade.similarity.estimates import interval

COLUMNS = ["network", "step", "to", "layer", "depth", "value", "stderr", "low", "high"]


def check_series(runs: Sequence[Run]) -> None:
    """Raise unless some runs can be checkpoints of one network.

    Raises:
        InputError: for fewer than two, or naming two of different architecture or layers.
    """
    if len(runs) < 2:
        raise InputError("a series needs two runs or more; name them in their order with runs=")
    first = runs[0]
    for run in runs[1:]:
        for what, ours, theirs in (
            ("architecture", first.architecture, run.architecture),
            ("layers", [x.name for x in first.layers], [x.name for x in run.layers]),
        ):
            if ours != theirs:
                raise InputError(
                    f"{first.path.name} and {run.path.name} differ in their {what}, so they are no "
                    "series of one network; name its checkpoints with runs=, or leave out series="
                )


def series_table(analysis: Analysis) -> pd.DataFrame:
    """How alike each member of a series is to the last, and to the one before it.

    The runs are members in the order of the comparison. Rows with an empty layer are those of
    whole networks; the others compare a layer with the same layer. Columns: network, step, to
    (`last` or `previous`), layer, depth, value, stderr, low, high.
    """
    names = analysis.comparison.networks
    rows: list[dict[str, Any]] = []
    for step, name in enumerate(names):
        for to, place in (("last", len(names) - 1), ("previous", step - 1)):
            if place < 0 or place == step:
                continue
            found = analysis.comparison.layer_matrix(name, names[place], analysis.similarity)
            start = {"network": name, "step": step, "to": to}
            rows += [start | row for row in _rows(analysis, found)]
    return pd.DataFrame(rows, columns=COLUMNS)


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
