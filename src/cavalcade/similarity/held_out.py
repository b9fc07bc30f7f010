"""How alike layers are to their best matches, where no block judges a choice that it made."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cavalcade.similarity.layer_matrix import LayerMatrix

ROUNDING = 1e-6  # of what is screened in float32


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
    return held_out_rows(matrix, weights), held_out_rows(matrix.transposed(), weights)


def held_out_rows(
    matrix: LayerMatrix,
    weights: Int[np.ndarray, "resamples blocks"],
    asked: Bool[np.ndarray, " rows"] | None = None,
) -> HeldOut:
    """The same of the layers of the first network alone, or of some of them."""
    rows, columns = matrix.pair.trunk
    rows = rows if asked is None else rows & asked
    way = _held_out(matrix.estimate.by_block, matrix.repaired, weights, (rows, columns))
    return way if matrix.without_chance else _less_sampled_chance(way)


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
    counts = np.concatenate([np.ones((1, blocks)), weights])  # the first is of the blocks as such
    total = np.where(defined[rows], np.tensordot(counts, said, axes=1), -np.inf)
    value, matches = _judged(total[0], said)
    again = _judged_again(total[1:], said, counts[1:])
    by_chance = repaired[:, rows, matches].mean(axis=1)
    spread = np.sqrt(blocks / max(blocks - 1, 1))  # as in `Estimate.replicates`
    return HeldOut(rows, value, value + spread * (again - value), by_chance)


def _judged(
    total: Float[np.ndarray, "rows columns"], said: Float[np.ndarray, "blocks rows columns"]
) -> tuple[Float[np.ndarray, " rows"], Int[np.ndarray, "blocks rows"]]:
    """Mean over blocks of what each says of the match without it, and these matches."""
    others = total - said if len(said) > 1 else total[None]
    matches = others.argmax(axis=-1)
    return np.take_along_axis(said, matches[..., None], axis=-1)[..., 0].mean(axis=0), matches


def _judged_again(
    total: Float[np.ndarray, "resamples rows columns"],
    said: Float[np.ndarray, "blocks rows columns"],
    weights: Float[np.ndarray, "resamples blocks"],
) -> Float[np.ndarray, "resamples rows"]:
    """The same in each resample, where all copies of a block are left out at once.

    Most choices are the same without a block. Which may differ is found in float32 for all
    rivals of the best match at once; these few are made again in float64.
    """
    blocks, (resamples, rows, columns) = len(said), total.shape
    total = np.ascontiguousarray(total.swapaxes(0, 1)).reshape(-1, columns)  # row by row
    top = total.argmax(axis=-1)
    lead = np.take_along_axis(total, top[:, None], axis=-1)[:, 0]
    judged = lead / blocks
    # nothing is left without a block that was drawn each time
    left_out = np.where(weights < blocks, weights, 0)
    others = total.astype(np.float32)
    np.put_along_axis(others, top[:, None], -np.inf, axis=-1)
    rivals = np.ascontiguousarray(others.T).reshape(columns, rows, resamples)
    own, copies, best = (x.astype(np.float32) for x in (said, left_out.T, lead))
    rounding = ROUNDING * (np.abs(best).max(initial=0) + blocks * np.abs(own).max(initial=0))
    best = best.reshape(rows, resamples) - rounding
    row_of, without = np.repeat(np.arange(rows), resamples), np.empty_like(rivals)
    place = (row_of * columns + top).reshape(rows, resamples)
    for block, (weight, left) in enumerate(zip(weights.T, left_out.T, strict=True)):
        np.multiply(own[block].T[..., None], copies[block], out=without)
        np.subtract(rivals, without, out=without)
        still = own[block].ravel().take(place)
        still *= copies[block]
        np.subtract(best, still, out=still)
        found = np.flatnonzero(without.max(axis=0) > still)
        row, resample = row_of.take(found), found % max(resamples, 1)
        again, mine = total.take(found, axis=0), said[block].ravel()
        again -= left.take(resample)[:, None] * said[block].take(row, axis=0)
        match = row * columns + again.argmax(axis=-1)
        change = mine.take(match) - mine.take(place.ravel().take(found))
        judged[found] += weight.take(resample) * change / blocks
    return judged.reshape(rows, resamples).T


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
    draws = _draws(count, resamples)
    mean = np.asarray(repaired.mean(axis=0))
    spread = np.sqrt(count / (count - 1))
    return mean, mean + spread * (np.tensordot(draws / count, repaired, axes=1) - mean)


@lru_cache(maxsize=4)
def _draws(count: int, resamples: int) -> Int[np.ndarray, "resamples count"]:
    return np.random.default_rng(0).multinomial(count, [1 / count] * count, size=resamples)
