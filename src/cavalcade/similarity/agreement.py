"""Where do meaning and geometry disagree? One measure against others, over the same cells."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from cavalcade.similarity.derived import Number
from cavalcade.similarity.layer_matrix import LayerMatrix
from cavalcade.similarity.ranks import spearman
from cavalcade.similarity.threads import in_threads

RESAMPLES = 200
MOST = 10
CELLS = 2**20  # resampled at a time, in each thread


def agreement(
    reference: Sequence[LayerMatrix],
    others: Mapping[str, Sequence[LayerMatrix]],
    weights: Int[np.ndarray, "resamples blocks"],
) -> pd.DataFrame:
    """Spearman's rank correlation of a measure with others, over the layer cells of all pairs.

    Columns: measure, cells (their number), value, stderr, low, high; `within_pairs`, the mean
    over pairs of networks of the correlation within each.

    Args:
        reference: the measure on each pair of different networks.
        others: other measures on the same pairs.
        weights: of the block bootstrap.
    """
    weights = weights[:RESAMPLES]
    rows = []
    for measure, matrices in others.items():
        x, y, used = _shared_cells(reference, matrices)
        replicates = _resampled_correlation(reference, matrices, used, weights)
        number = Number(float(spearman(x, y)), replicates, weights.shape[1], np.empty(0))
        low, high = number.interval
        within = [
            spearman(*_shared_cells([a], [b])[:2]) for a, b in zip(reference, matrices, strict=True)
        ]
        rows.append(
            {
                "measure": measure,
                "cells": len(x),
                "value": number.value,
                "stderr": number.stderr,
                "low": low,
                "high": high,
                "within_pairs": float(np.nanmean(within)) if np.isfinite(within).any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def disagreements(
    reference: Sequence[LayerMatrix], others: Mapping[str, Sequence[LayerMatrix]]
) -> pd.DataFrame:
    """The layer cells whose ranks in two measures differ most.

    Columns: those of a pair of layers, measure, the reference's own name, value, both ranks
    (from 0, the least alike, to 1) and their difference; the first rows of each measure are
    where layers mean the same in other geometry, the last where geometry flatters.
    """
    name = reference[0].measure
    cells = pd.concat([matrix.pair.cells() for matrix in reference], ignore_index=True)
    tables = []
    for measure, matrices in others.items():
        x, y, used = _shared_cells(reference, matrices)
        if len(x) < 2:
            continue
        ranks = [(rankdata(part) - 1) / (len(part) - 1) for part in (x, y)]
        table = cells[used].assign(
            measure=measure,
            **{name: x, "value": y, f"{name}_rank": ranks[0], "rank": ranks[1]},
            difference=ranks[0] - ranks[1],
        )
        table = table.sort_values("difference", ascending=False)
        tables.append(pd.concat([table[:MOST], table[MOST:][-MOST:]]))
    return pd.concat(tables, ignore_index=True) if tables else cells[:0]


def _shared_cells(
    reference: Sequence[LayerMatrix], others: Sequence[LayerMatrix]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells that both measures define, and which these are."""
    x, y = (np.concatenate([m.values.ravel() for m in part]) for part in (reference, others))
    used = np.isfinite(x) & np.isfinite(y)
    return x[used], y[used], used


def _resampled_correlation(
    reference: Sequence[LayerMatrix],
    others: Sequence[LayerMatrix],
    used: Bool[np.ndarray, " cells"],
    weights: Int[np.ndarray, "resamples blocks"],
) -> Float[np.ndarray, " resamples"]:
    """Spearman's correlation over some cells in each resample, a few resamples at a time."""
    at_once = max(1, CELLS // max(len(used), 1))
    some = [weights[first : first + at_once] for first in range(0, len(weights), at_once)]

    def correlation_of(draws: Int[np.ndarray, "draws blocks"]) -> Float[np.ndarray, " draws"]:
        return spearman(
            *(
                np.concatenate([_resampled(matrix, draws) for matrix in part], axis=1)[:, used]
                for part in (reference, others)
            )
        )

    return np.concatenate(list(in_threads(correlation_of, some)))


def _resampled(
    matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]
) -> Float[np.ndarray, "resamples cells"]:
    return matrix.estimate.replicates(weights).reshape(len(weights), -1)
