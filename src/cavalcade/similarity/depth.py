"""How well the depths of two networks align: each layer's best match in the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cavalcade.similarity.estimates import interval
from cavalcade.similarity.layer_matrix import LayerMatrix
from cavalcade.similarity.ranks import spearman

STATISTICS = ("mean_best_match", "depth_gap", "rank_correlation")


class BestMatches(NamedTuple):
    """The best match of each trunk layer of one network among those of another."""

    positions: Int[np.ndarray, " layers"]
    """Of the trunk layers that have a match, in the first network."""
    depths: Float[np.ndarray, " layers"]
    values: Float[np.ndarray, "*stack layers"]
    matches: Int[np.ndarray, "*stack layers"]
    """Positions in the second network."""
    match_depths: Float[np.ndarray, "*stack layers"]


def best_matches(
    cells: Float[np.ndarray, "*stack rows columns"],
    depths: tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " columns"]],
    trunk: tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " columns"]],
) -> BestMatches:
    """Best column of every row, in a stack of matrices; rows without a defined cell are left out.

    Args:
        cells: any number of matrices, such as the replicates of a bootstrap.
        depths: relative depth of the layers that are rows and columns.
        trunk: which of them belong to the trunk.
    """
    defined = np.isfinite(cells) & trunk[1]
    flat = defined.reshape(-1, *cells.shape[-2:])
    rows = np.flatnonzero(trunk[0] & flat.any(axis=-1).all(axis=0))
    candidates = np.where(defined, cells, -np.inf)[..., rows, :]
    matches = candidates.argmax(axis=-1) if candidates.shape[-1] else np.zeros(0, dtype=int)
    values = np.take_along_axis(candidates, matches[..., None], axis=-1)[..., 0]
    return BestMatches(rows, depths[0][rows], values, matches, depths[1][matches])


def alignment(
    matrix: LayerMatrix, cells: Float[np.ndarray, "*stack rows columns"]
) -> dict[str, Float[np.ndarray, "*stack"]]:
    """`STATISTICS` of a stack of matrices of one pair, both directions averaged, trunk taps only.

    mean_best_match: mean over layers of the similarity to the best match; depth_gap: mean
    absolute difference of relative depths; rank_correlation: of the layers' depths, 0 where all
    layers have one match, and NaN for fewer than three layers.
    """
    ways = both_ways(matrix, cells)
    if any(way.positions.size == 0 for way in ways):
        nothing = np.full(cells.shape[:-2], np.nan)
        return dict.fromkeys(STATISTICS, nothing)
    means = (way.values.mean(axis=-1) for way in ways)
    gaps = (np.abs(way.depths - way.match_depths).mean(axis=-1) for way in ways)
    ranks = (_rank_correlation(way) for way in ways)
    return {
        name: np.asarray((first + second) / 2)
        for name, (first, second) in zip(STATISTICS, (means, gaps, ranks), strict=True)
    }


def _rank_correlation(way: BestMatches) -> Float[np.ndarray, "*stack"]:
    """Of the depths of layers and of their matches; one match for all keeps no order: 0."""
    depths = way.depths.reshape(*(1,) * (way.match_depths.ndim - 1), -1)
    correlation = spearman(depths, way.match_depths)
    one_match = np.ptp(way.match_depths, axis=-1) == 0
    return np.where(one_match & (way.depths.size > 2), 0.0, correlation)


def both_ways(
    matrix: LayerMatrix, cells: Float[np.ndarray, "*stack rows columns"]
) -> tuple[BestMatches, BestMatches]:
    """Best matches of the layers of the first network, and of those of the second."""
    layers = (matrix.pair.layers_a, matrix.pair.layers_b)
    depths_a, depths_b = (np.array([layer.depth for layer in part]) for part in layers)
    trunk_a, trunk_b = matrix.pair.trunk
    return (
        best_matches(cells, (depths_a, depths_b), (trunk_a, trunk_b)),
        best_matches(cells.swapaxes(-1, -2), (depths_b, depths_a), (trunk_b, trunk_a)),
    )


def match_columns(
    matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]
) -> dict[str, np.ndarray]:
    """The best-match curve of a pair: a row for each trunk layer of either network.

    Columns: network, layer, depth, match, match_depth, value, low, high (interval of the
    value), match_depth_low, match_depth_high (of the depth of the match, over resamples).
    """
    pair = matrix.pair
    replicates = matrix.estimate.replicates(weights)
    # a cell that is undefined without some block has no interval, and is no match
    values = np.where(np.isfinite(replicates).all(axis=0), matrix.values, np.nan)
    parts = []
    for way, again, network, layers, others in zip(
        both_ways(matrix, values),
        both_ways(matrix, replicates),
        (pair.network_a, pair.network_b),
        (pair.layers_a, pair.layers_b),
        (pair.layers_b, pair.layers_a),
        strict=True,
    ):
        low, high = interval(again.values, weights.shape[1])
        depth_low, depth_high = interval(again.match_depths, weights.shape[1])
        parts.append(
            {
                "network": _names([network] * len(way.positions)),
                "layer": _names([layers[k].name for k in way.positions]),
                "depth": way.depths,
                "match": _names([others[k].name for k in way.matches]),
                "match_depth": way.match_depths,
                "value": way.values,
                "low": low,
                "high": high,
                "match_depth_low": depth_low,
                "match_depth_high": depth_high,
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def match_table(matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]) -> pd.DataFrame:
    """`match_columns` as a table."""
    return pd.DataFrame(match_columns(matrix, weights))


def _names(names: Sequence[str]) -> np.ndarray:
    return np.array(names, dtype=object)
