"""The numbers of a pair, computed once for each matrix: their bootstrap costs more than reading."""

import numpy as np
from jaxtyping import Int

from cavalcade.comparing.pair_store import Arrays, PairStore, bytes_digest, content_digest, versions
from cavalcade.similarity import LayerMatrix
from cavalcade.similarity.depth import STATISTICS
from cavalcade.similarity.derived import Number, pair_numbers

KIND = "numbers"
NUMBERS = ("similarity", *STATISTICS)


def stored_numbers(
    matrix: LayerMatrix,
    weights: Int[np.ndarray, "resamples blocks"],
    weights_digest: str,
    store: PairStore,
) -> dict[str, Number]:
    """See `pair_numbers`; both networks say the same, so that their order is that of contents."""
    (digest, chosen) = min(
        ((_digest(each, weights_digest), each) for each in (matrix, matrix.transposed())),
        key=lambda found: found[0],
    )
    length = 1 + len(weights) + len(matrix.repaired)
    arrays = store.read(KIND, digest, dict.fromkeys(NUMBERS, (length,)))
    if arrays is None:
        arrays = _arrays(pair_numbers(chosen, weights))
        store.write(KIND, digest, arrays)
    return {name: _number(arrays[name], weights) for name in NUMBERS}


def _digest(matrix: LayerMatrix, weights: str) -> str:
    """Of all that the numbers are made of."""
    estimate, pair = matrix.estimate, matrix.pair
    layers = [[(x.depth, x.trunk) for x in part] for part in (pair.layers_a, pair.layers_b)]
    numbers = bytes_digest(estimate.value, estimate.without, matrix.repaired)
    content = {"layers": layers, "numbers": numbers, "weights": weights}
    return content_digest(content | {"chance": matrix.without_chance, **versions()})


def _arrays(numbers: dict[str, Number]) -> Arrays:
    """For each statistic its value, replicates and re-paired images one after the other."""
    return {
        name: np.concatenate([[number.value], number.replicates, number.repaired])
        for name, number in numbers.items()
    }


def _number(array: np.ndarray, weights: np.ndarray) -> Number:
    value, replicates, repaired = np.split(array, [1, 1 + len(weights)])
    return Number(float(value[0]), replicates, weights.shape[1], repaired)
