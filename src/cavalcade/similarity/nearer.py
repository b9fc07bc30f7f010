"""Is A nearer to B than to C? Tested over the same blocks of images."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from cavalcade.similarity.derived import Number, layer_numbers
from cavalcade.similarity.estimates import interval, p_value
from cavalcade.similarity.held_out import held_out_matches, held_out_rows
from cavalcade.similarity.layer_matrix import LayerMatrix
from cavalcade.similarity.networks import NetworkMatrix
from cavalcade.similarity.threads import in_threads

COLUMNS = ("nearer", "farther", "difference", "stderr", "low", "high", "p")
NEAREST = 20  # others of one network or layer that are tested against each other

Columns = dict[str, np.ndarray]


def nearer_of(b: str, to_b: Number, c: str, to_c: Number) -> dict[str, object]:
    """Which of two is nearer, and by how much.

    Returns:
        `COLUMNS`: both names by value, the difference of their similarities with its standard
        error and interval, and p of no difference; paired over the same blocks.
    """
    return {name: column[0] for name, column in _tests([(b, to_b), (c, to_c)]).items()}


def nearer_networks(matrix: NetworkMatrix) -> pd.DataFrame:
    """For each network and two others, which of these is nearer to it.

    Of many others the `NEAREST` are tested against each other: all would be as many as the
    networks to the third power.

    Columns: network, those of `nearer_of`, and q, the p adjusted for the number of tests by
    Benjamini & Hochberg 1995.
    """
    tests = []
    for network in matrix.networks:
        numbers = matrix.of(network)
        chosen = _nearest(np.array([number.value for number in numbers.values()]))
        others = list(numbers.items())
        tests.append(_about((network,), _tests([others[k] for k in chosen])))
    return _table(["network"], tests)


def nearer_layers(
    matrices: Sequence[LayerMatrix], weights: Int[np.ndarray, "resamples blocks"]
) -> pd.DataFrame:
    """For each trunk layer and two other networks, in which of them it has the nearer match.

    Of many others the `NEAREST` of each layer. Columns: network, layer, depth, those of
    `nearer_of`, and q as in `nearer_networks`.

    Args:
        matrices: of different networks.
        weights: of the block bootstrap.
    """
    ways: dict[str, list[tuple[LayerMatrix, np.ndarray]]] = defaultdict(list)
    for matrix in matrices:
        for each, way in zip(
            (matrix, matrix.transposed()), held_out_matches(matrix, weights[:0]), strict=True
        ):
            values = np.full(len(each.values), np.nan)
            values[way.positions] = way.values
            ways[each.pair.network_a].append((each, values))
    tests = in_threads(lambda found: list(_layer_tests(found, weights)), ways.values())
    return _table(["network", "layer", "depth"], [each for found in tests for each in found])


def _layer_tests(
    ways: Sequence[tuple[LayerMatrix, Float[np.ndarray, " layers"]]],
    weights: Int[np.ndarray, "resamples blocks"],
) -> Iterator[list[np.ndarray]]:
    """The tests of each trunk layer of one network.

    Args:
        ways: the network with each other, as rows, and how alike each layer is to its match.
        weights: of the block bootstrap.
    """
    values = np.stack([value for _, value in ways])
    asked = np.zeros(values.shape, dtype=bool)
    for place, column in enumerate(values.T):
        asked[_nearest(column), place] = True
    numbers = [
        layer_numbers(held_out_rows(matrix, weights, layers), matrix.pair.layers_a, weights)
        for (matrix, _), layers in zip(ways, asked, strict=True)
    ]
    for layer in ways[0][0].pair.layers_a:
        found = [
            (matrix.pair.network_b, own[layer.name])
            for (matrix, _), own in zip(ways, numbers, strict=True)
            if layer.name in own
        ]
        first = ways[0][0].pair.network_a
        yield _about((first, layer.name, layer.depth), _tests(found))


def _nearest(values: Float[np.ndarray, " others"]) -> Int[np.ndarray, " chosen"]:
    """Positions of the largest values, in order of position."""
    return np.sort(np.argsort(-values, kind="stable")[:NEAREST])


def _about(what: Sequence[object], tests: Columns) -> list[np.ndarray]:
    """The columns of some tests after those that say what they are about."""
    asked = len(tests["p"])
    return [np.full(asked, part, dtype=object) for part in what] + list(tests.values())


def _table(about: list[str], tests: Sequence[list[np.ndarray]]) -> pd.DataFrame:
    columns = zip(*tests, strict=True) if tests else [[np.empty(0)]] * (len(about) + len(COLUMNS))
    found = {
        name: np.concatenate(parts) for name, parts in zip((*about, *COLUMNS), columns, strict=True)
    }
    table = pd.DataFrame(found).infer_objects()
    return table.assign(q=_adjusted_for_number(table["p"].to_numpy(dtype=float)))


def _tests(similarities: Sequence[tuple[str, Number]]) -> Columns:
    """`COLUMNS` for each two of some others, in their order."""
    names = np.array([name for name, _ in similarities], dtype=object)
    numbers = [number for _, number in similarities]
    b, c = np.triu_indices(len(numbers), 1)
    values = np.array([number.value for number in numbers])
    if not len(b):
        return dict.fromkeys(COLUMNS, np.empty(0))
    blocks, swapped = numbers[0].num_blocks, values[b] < values[c]
    near, far = np.where(swapped, c, b), np.where(swapped, b, c)
    replicates = np.stack([number.replicates for number in numbers])
    replicates = replicates[near] - replicates[far]
    difference = values[near] - values[far]
    stderr = replicates.std(axis=1, ddof=1) if blocks > 1 else np.full(len(b), np.nan)
    low, high = interval(replicates.T, blocks)
    p = p_value(difference, stderr, blocks)
    columns = (names[near], names[far], difference, stderr, low, high, p)
    return dict(zip(COLUMNS, columns, strict=True))


def _adjusted_for_number(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    q = np.full(len(p), np.nan)
    defined = np.isfinite(p)
    if defined.any():
        q[defined] = false_discovery_control(p[defined])
    return q
