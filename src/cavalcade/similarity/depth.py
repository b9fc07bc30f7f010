"""How well the depths of two networks align: each layer's best match in the other."""

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
    correlation = spearman(np.broadcast_to(way.depths, way.match_depths.shape), way.match_depths)
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


class HeldOut(NamedTuple):
    """How alike layers are to their best matches, chance removed."""

    positions: Int[np.ndarray, " layers"]
    """Of the trunk layers that have a match, in the network that they are of."""
    values: Float[np.ndarray, " layers"]
    replicates: Float[np.ndarray, "resamples layers"]
    """Under a block bootstrap, in which no copy of a block has a say in the choices it judges."""
    repaired: Float[np.ndarray, "repairings layers"]
    """What each re-pairing gives for the same matches, less chance."""


def held_out_matches(
    matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]
) -> tuple[HeldOut, HeldOut]:
    """Similarity of the trunk layers of either network to their best matches in the other.

    The largest of many noisy numbers is large by chance: the best matches of unrelated networks
    are above the chance level of each cell. Here a layer's match is chosen without a block and
    judged by that block, for every block in turn, so that unrelated networks give 0 on average.
    Where the choice is the same without any block, the value is that of the best match itself,
    less chance.
    """
    said, repaired = matrix.estimate.by_block, matrix.repaired
    trunk_a, trunk_b = matrix.pair.trunk
    ways = (
        _held_out(said, repaired, weights, (trunk_a, trunk_b)),
        _held_out(said.swapaxes(1, 2), repaired.swapaxes(1, 2), weights, (trunk_b, trunk_a)),
    )
    if matrix.without_chance:
        return ways
    first, second = (_less_sampled_chance(way) for way in ways)
    return first, second


def _held_out(
    said: Float[np.ndarray, "blocks rows columns"],
    repaired: Float[np.ndarray, "repairings rows columns"],
    weights: Int[np.ndarray, "resamples blocks"],
    trunk: tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " columns"]],
) -> HeldOut:
    blocks = len(said)
    defined = np.isfinite(said).all(axis=0) & trunk[1]
    rows = np.flatnonzero(trunk[0] & defined.any(axis=1))
    said = np.where(defined, said, 0.0)[:, rows]
    weights = np.concatenate([np.ones((1, blocks)), weights])  # the first is of the blocks as such
    total = np.where(defined[rows], np.tensordot(weights, said, axes=1), -np.inf)
    judged, by_chance = np.zeros((len(weights), len(rows))), np.zeros((len(repaired), len(rows)))
    row = np.arange(len(rows))
    for own, weight in zip(said, weights.T, strict=True):
        others = total - np.where(weight < blocks, weight, 0)[:, None, None] * own
        matches = others.argmax(axis=-1)
        judged += weight[:, None] * own[row, matches] / blocks
        by_chance += repaired[:, rows, matches[0]] / blocks
    value, again = judged[0], judged[1:]
    spread = np.sqrt(blocks / max(blocks - 1, 1))  # as in `Estimate.replicates`
    return HeldOut(rows, value, value + spread * (again - value), by_chance)


def _less_sampled_chance(way: HeldOut) -> HeldOut:
    """The same less the mean of re-paired images, whose own error comes from drawing them again.

    NaN for fewer than two re-pairings.
    """
    chance, again = sampled_mean(way.repaired, len(way.replicates))
    return way._replace(
        values=way.values - chance,
        replicates=way.replicates - again,
        repaired=way.repaired - chance,
    )


def sampled_mean(
    repaired: Float[np.ndarray, "repairings *cells"], resamples: int
) -> tuple[Float[np.ndarray, "*cells"], Float[np.ndarray, "resamples *cells"]]:
    """Mean over re-pairings, and its bootstrap; NaN for fewer than two."""
    count = len(repaired)
    if count < 2:
        nothing = np.full(repaired.shape[1:], np.nan)
        return nothing, np.broadcast_to(nothing, (resamples, *nothing.shape))
    draws = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=resamples)
    mean = np.asarray(repaired.mean(axis=0))
    spread = np.sqrt(count / (count - 1))
    return mean, mean + spread * (np.tensordot(draws / count, repaired, axes=1) - mean)


def match_table(matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]) -> pd.DataFrame:
    """The best-match curve of a pair: a row for each trunk layer of either network.

    Columns: network, layer, depth, match, match_depth, value, low, high (interval of the
    value), match_depth_low, match_depth_high (of the depth of the match, over resamples).
    """
    pair = matrix.pair
    replicates = matrix.estimate.replicates(weights)
    # a cell that is undefined without some block has no interval, and is no match
    values = np.where(np.isfinite(replicates).all(axis=0), matrix.values, np.nan)
    tables = []
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
        tables.append(
            pd.DataFrame(
                {
                    "network": network,
                    "layer": [layers[k].name for k in way.positions],
                    "depth": way.depths,
                    "match": [others[k].name for k in way.matches],
                    "match_depth": way.match_depths,
                    "value": way.values,
                    "low": low,
                    "high": high,
                    "match_depth_low": depth_low,
                    "match_depth_high": depth_high,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
