"""Rank correlation of whole stacks of numbers at once."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

FEW = 32  # that are ranked fastest by comparing each with each


def spearman(
    x: Float[np.ndarray, "*#stack cells"], y: Float[np.ndarray, "*#stack cells"]
) -> Float[np.ndarray, "*#stack"]:
    """Spearman's rank correlation along the last dimension; NaN if one side is constant."""
    if x.shape[-1] < 3:
        return np.full(np.broadcast_shapes(x.shape, y.shape)[:-1], np.nan)
    return correlation(centred_ranks(x), centred_ranks(y))


def centred_ranks(x: Float[np.ndarray, "*stack cells"]) -> Float[np.ndarray, "*stack cells"]:
    """Ranks along the last dimension less their mean, ties averaged."""
    return _ranks(x) - (x.shape[-1] + 1) / 2


def correlation(
    a: Float[np.ndarray, "*#stack cells"], b: Float[np.ndarray, "*#stack cells"]
) -> Float[np.ndarray, "*#stack"]:
    """Pearson's correlation of what is centred; NaN if one side is constant."""
    norm = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(norm > 0, (a * b).sum(axis=-1) / norm, np.nan))


def _ranks(x: Float[np.ndarray, "*stack cells"]) -> Float[np.ndarray, "*stack cells"]:
    if x.shape[-1] <= FEW and not np.isnan(x).any():
        return _ranks_of_few(x)
    order = x.argsort(axis=-1)
    ordered = np.take_along_axis(x, order, axis=-1)
    if not (ordered[..., 1:] > ordered[..., :-1]).all():  # ties, or NaN
        return np.asarray(rankdata(x, axis=-1))
    ranks = np.empty(x.shape)
    places = np.broadcast_to(np.arange(1.0, x.shape[-1] + 1), x.shape)
    np.put_along_axis(ranks, order, places, axis=-1)
    return ranks


def _ranks_of_few(x: Float[np.ndarray, "*stack cells"]) -> Float[np.ndarray, "*stack cells"]:
    """By comparing each with each."""
    smaller = np.zeros(x.shape)
    for k in range(x.shape[-1]):
        other = x[..., k, None]
        smaller += other < x
        smaller += other <= x
    return (smaller + 1) / 2
