"""Rank correlation of whole stacks of numbers at once."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def spearman(
    x: Float[np.ndarray, "*stack cells"], y: Float[np.ndarray, "*stack cells"]
) -> Float[np.ndarray, "*stack"]:
    """Spearman's rank correlation along the last dimension; NaN if one side is constant."""
    if x.shape[-1] < 3:
        return np.full(x.shape[:-1], np.nan)
    a, b = (rankdata(part, axis=-1) for part in (x, y))
    a, b = (part - part.mean(axis=-1, keepdims=True) for part in (a, b))
    norm = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(norm > 0, (a * b).sum(axis=-1) / norm, np.nan))
