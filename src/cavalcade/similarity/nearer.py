"""Is A nearer to B than to C? Tested over the same blocks of images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from cavalcade.similarity.derived import Number, matched_numbers
from cavalcade.similarity.estimates import interval, p_value
from cavalcade.similarity.layer_matrix import LayerMatrix
from cavalcade.similarity.networks import NetworkMatrix

COLUMNS = ("nearer", "farther", "difference", "stderr", "low", "high", "p")


def nearer_of(b: str, to_b: Number, c: str, to_c: Number) -> dict[str, object]:
    """Which of two is nearer, and by how much.

    Returns:
        `COLUMNS`: both names by value, the difference of their similarities with its standard
        error and interval, and p of no difference; paired over the same blocks.
    """
    (columns,) = _tests([(b, to_b), (c, to_c)])
    return {name: column[0] for name, column in columns.items()}


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
    found: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in (*about, *COLUMNS)}
    for key, others in similarities.items():
        for columns in _tests([*others.items()]):
            asked = len(columns["p"])
            for name, part in zip(about, key, strict=True):
                found[name].append(np.full(asked, part, dtype=object))
            for name, column in columns.items():
                found[name].append(column)
    table = pd.DataFrame({name: np.concatenate(parts) for name, parts in found.items()})
    return table.infer_objects().assign(q=_adjusted_for_number(table["p"].to_numpy(dtype=float)))


def _tests(similarities: Sequence[tuple[str, Number]]) -> Iterator[dict[str, np.ndarray]]:
    """`COLUMNS` for one network and each of those after it, one network after the other.

    Tests are as many as pairs, hence the arrays.
    """
    names = np.array([name for name, _ in similarities], dtype=object)
    numbers = [number for _, number in similarities]
    values = np.array([number.value for number in numbers])
    for b in range(len(numbers) - 1):
        c = np.arange(b + 1, len(numbers))
        swapped = values[b] < values[c]
        near, far = np.where(swapped, c, b), np.where(swapped, b, c)
        blocks, sign = numbers[b].num_blocks, np.where(swapped, -1.0, 1.0)[:, None]
        replicates = np.stack([number.replicates for number in numbers[b + 1 :]])
        replicates = sign * (numbers[b].replicates - replicates)
        difference = values[near] - values[far]
        stderr = replicates.std(axis=1, ddof=1) if blocks > 1 else np.full(len(c), np.nan)
        low, high = interval(replicates.T, blocks)
        p = p_value(difference, stderr, blocks)
        columns = (names[near], names[far], difference, stderr, low, high, p)
        yield dict(zip(COLUMNS, columns, strict=True))


def _adjusted_for_number(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    q = np.full(len(p), np.nan)
    defined = np.isfinite(p)
    if defined.any():
        q[defined] = false_discovery_control(p[defined])
    return q
