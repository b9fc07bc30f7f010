"""Is A nearer to B than to C? Tested over the same blocks of images."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from cavalcade.similarity.derived import Number, matched_numbers
from cavalcade.similarity.layer_matrix import LayerMatrix
from cavalcade.similarity.networks import NetworkMatrix

COLUMNS = ("nearer", "farther", "difference", "stderr", "low", "high", "p")


def nearer_of(b: str, to_b: Number, c: str, to_c: Number) -> dict[str, object]:
    """Which of two is nearer, and by how much.

    Returns:
        `COLUMNS`: both names by value, the difference of their similarities with its standard
        error and interval, and p of no difference; paired over the same blocks.
    """
    if to_b.value < to_c.value:
        b, to_b, c, to_c = c, to_c, b, to_b
    difference = to_b - to_c
    low, high = difference.interval
    found = (b, c, difference.value, difference.stderr, low, high, difference.p)
    return dict(zip(COLUMNS, found, strict=True))


def nearer_networks(matrix: NetworkMatrix) -> pd.DataFrame:
    """For each network and two others, which of these is nearer to it.

    Columns: network, those of `nearer_of`, and q, the p adjusted for the number of tests by
    Benjamini & Hochberg 1995.
    """
    return _table(["network"], {(name,): matrix.of(name) for name in matrix.networks})


def nearer_layers(
    matrices: Sequence[LayerMatrix], weights: Int[np.ndarray, "resamples blocks"]
) -> pd.DataFrame:
    """For each trunk layer and two other networks, in which of them it has the nearer match.

    Columns: network, layer, depth, those of `nearer_of`, and q as in `nearer_networks`.

    Args:
        matrices: of different networks.
        weights: of the block bootstrap.
    """
    matched: dict[tuple[str, str, float], dict[str, Number]] = {}
    for matrix in matrices:
        pair, (ways_a, ways_b) = matrix.pair, matched_numbers(matrix, weights)
        for numbers, network, layers, other in (
            (ways_a, pair.network_a, pair.layers_a, pair.network_b),
            (ways_b, pair.network_b, pair.layers_b, pair.network_a),
        ):
            for layer in (each for each in layers if each.name in numbers):
                found = matched.setdefault((network, layer.name, layer.depth), {})
                found[other] = numbers[layer.name]
    return _table(["network", "layer", "depth"], matched)


def _table(about: list[str], similarities: Mapping[Any, Mapping[str, Number]]) -> pd.DataFrame:
    rows = [
        {**dict(zip(about, key, strict=True)), **nearer_of(b, others[b], c, others[c])}
        for key, others in similarities.items()
        for b, c in itertools.combinations(others, 2)
    ]
    table = pd.DataFrame(rows, columns=[*about, *COLUMNS])
    return table.assign(q=_adjusted_for_number(table["p"].to_numpy(dtype=float)))


def _adjusted_for_number(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    q = np.full(len(p), np.nan)
    defined = np.isfinite(p)
    if defined.any():
        q[defined] = false_discovery_control(p[defined])
    return q
