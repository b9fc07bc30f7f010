"""What a report says of two networks in a line: the layers and concepts that it is about.

And of a comparison which concepts are in none of its matrices, and why.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cavalcade.comparing.comparison import Comparison
from cavalcade.runs import ProbedRun, Run
from cavalcade.similarity import FEATURE_MEASURES, ConceptCells, LayerMatrix, layer_slices
from cavalcade.similarity.depth import both_ways

Cells = Float[np.ndarray, "rows columns"]
MOST_NAMED = 3  # networks that are named in a reason
MOST_MATCHES = 8  # layers whose matches are named one by one


def most_alike(matrix: LayerMatrix, raw: LayerMatrix) -> dict[str, Any] | None:
    """The two layers that are most alike, with error, raw index and what chance gives of both.

    Layers of the trunks, as for best matches; others only where no cell of those is defined.

    Args:
        matrix: by the measure that networks are compared by.
        raw: of the same pair, the Jaccard index.
    """
    values = np.where(np.logical_and.outer(*matrix.pair.trunk), matrix.values, np.nan)
    if not np.isfinite(values).any():
        values = matrix.values
    if not np.isfinite(values).any():
        return None
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    found = {
        "row": int(row),
        "column": int(column),
        "value": matrix.values[row, column],
        "stderr": matrix.estimate.stderr[row, column],
        "of": int(np.isfinite(values).sum()),
        "raw": raw.values[row, column],
    }
    if len(matrix.repaired) > 1:
        found["z"] = z_of_chance(matrix)[row, column]
        found["chance"] = matrix.repaired[:, row, column].mean()
        found["raw_chance"] = raw.repaired[:, row, column].mean()
    return found


def layer_matches(matrix: LayerMatrix) -> list[tuple[int, int, float]] | None:
    """The trunk layers of the first network, each with its best match and cell; None of many."""
    way, _ = both_ways(matrix, matrix.values)
    if not 0 < len(way.positions) <= MOST_MATCHES:
        return None
    places = zip(way.positions.tolist(), way.matches.tolist(), strict=True)
    return [(row, column, float(matrix.values[row, column])) for row, column in places]


def why_undefined(matrix: LayerMatrix, labelled: bool) -> str:
    """Why two networks have no similarity, for the end of a sentence.

    Args:
        matrix: by the measure that networks are compared by.
        labelled: whether concepts were probed.
    """
    if not all(part.any() for part in matrix.pair.trunk):
        return "a network has no layer in its trunk"
    of_concepts = matrix.measure not in FEATURE_MEASURES
    if labelled and of_concepts and not matrix.concepts:
        return "no concept is defined in all pairs, see the concepts left out"
    if not len(matrix.repaired) and not (labelled and matrix.without_chance):
        return "chance was not sampled (repairings=0)"
    return "no cell is defined"


def z_of_chance(matrix: LayerMatrix) -> Cells:
    """By how many of their standard deviations cells differ from re-paired images."""
    mean, spread = matrix.repaired.mean(axis=0), matrix.repaired.std(axis=0, ddof=1)
    return np.where(spread > 0, (matrix.values - mean) / np.where(spread > 0, spread, 1), np.nan)


def concept_agreement(
    matrix: LayerMatrix,
    value: Float[np.ndarray, "concepts rows columns"],
    stderr: Float[np.ndarray, "concepts rows columns"],
) -> list[tuple[float, float]]:
    """How alike each labelled concept is at the best matches of layers, and its error.

    The mean over the best match of every trunk layer of both networks (in one network among its
    other layers); NaN for a concept that is undefined at one of them, and for all where no layer
    has a match. The mean of errors is the most that the error of the mean over these cells can
    be; that they were chosen is not in it.
    """
    values = matrix.values.copy()
    if matrix.pair.of_one and len(values) > 1:
        np.fill_diagonal(values, np.nan)
    first, second = both_ways(matrix, values)
    rows = np.concatenate([first.positions, second.matches])
    columns = np.concatenate([first.matches, second.positions])
    if not len(rows):
        return [(np.nan, np.nan)] * len(value)
    at = (slice(None), rows, columns)
    return list(zip(value[at].mean(axis=1).tolist(), stderr[at].mean(axis=1).tolist(), strict=True))


def least_alike(
    names: Sequence[str], agreement: Iterable[tuple[float, float]], at: str | None = None
) -> dict[str, Any] | None:
    """The concept that differs most, the next one, and of how many; None if none is defined.

    Args:
        names: of concepts.
        agreement: the value and error of each.
        at: where, if not over the best matches of layers.
    """
    known = sorted((v, e, n) for (v, e), n in zip(agreement, names, strict=True) if np.isfinite(v))
    if not known:
        return None
    least, after = (
        [{"name": name, "value": value, "stderr": stderr} for value, stderr, name in known[:2]]
        + [None]
    )[:2]
    return {"least": least, "next": after, "of": len(known), "at": at}


def partners(cells: ConceptCells) -> dict[str, np.ndarray]:
    """For each pair of layers and concept of the first its best partner, value and error.

    Layers with fewer concepts than others are filled up with 0 and NaN.
    """
    rows, columns = layer_slices(cells.concepts_a), layer_slices(cells.concepts_b)
    shape = (len(rows), len(columns), max(own.stop - own.start for own in rows))
    partner = np.zeros(shape, dtype=np.int64)
    value, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, own in enumerate(rows):
        for j, others in enumerate(columns):
            part, errors = cells.adjusted[own, others], cells.stderr[own, others]
            best = np.where(np.isfinite(part), part, -np.inf).argmax(axis=1)
            each = np.arange(len(part))
            partner[i, j, each] = best
            value[i, j, each], stderr[i, j, each] = part[each, best], errors[each, best]
    return {"partner": partner, "value": value, "stderr": stderr}


def left_out(comparison: Comparison, runs: Sequence[Run]) -> list[dict[str, str]]:
    """The concepts that are in no matrix, and why."""
    if not comparison.left_out:  # mined concepts have no table of cells
        return []
    undefined = comparison.undefined
    own = undefined[
        (undefined["network_a"] == undefined["network_b"])
        & (undefined["layer_a"] == undefined["layer_b"])
    ]
    return [
        {"concept": concept, "why": _why(concept, own[own["concept"] == concept], comparison, runs)}
        for concept in comparison.left_out
    ]


def _why(concept: str, own: pd.DataFrame, comparison: Comparison, runs: Sequence[Run]) -> str:
    untaught = [
        name
        for name, run in zip(comparison.networks, runs, strict=True)
        if isinstance(run, ProbedRun) and _untaught(run, concept)
    ]
    if untaught:
        return f"has no pixel in the training images of {_some(untaught, comparison.networks)}"
    if own.empty:
        return "is not defined in some cells, or not without some block of test images"
    layers = own.drop_duplicates(["network_a", "layer_a"])
    first = layers.iloc[0]
    return (
        f"fires in too few test images at {len(layers)} layer{'s' if len(layers) > 1 else ''} "
        f"of {_some(list(layers['network_a'].unique()), comparison.networks)} "
        f"({'first ' if len(layers) > 1 else ''}{first['layer_a']})"
    )


def _untaught(run: ProbedRun, concept: str) -> bool:
    """Whether no layer has a probe for it."""
    place = run.concepts.index(concept)
    layers = run.concept_set.layers.values()
    return all(bool(layer.thresholds[place].isnan()) for layer in layers)


def _some(names: Sequence[str], networks: Sequence[str]) -> str:
    if len(names) == len(networks):
        return "all networks" if len(names) > 1 else names[0]
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
