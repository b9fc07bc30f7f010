"""How alike two layers are whose concepts have no names: by matching concepts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from cavalcade.similarity.concept_cells import PairCells
from cavalcade.similarity.estimates import Estimate

Cells = Float[np.ndarray, "*stack rows columns"]
Values = Float[np.ndarray, "*stack"]


def best_match_mean(cells: Cells) -> Values:
    """Mean over concepts of the similarity to the best match in the other layer.

    Both directions averaged. Undefined cells are no matches, and concepts without a defined cell
    are left out; NaN where none is left.
    """
    defined = np.where(np.isnan(cells), -np.inf, cells)
    ways = [_mean_of_finite(defined.max(axis=axis)) for axis in (-1, -2)]
    return np.asarray((ways[0] + ways[1]) / 2)


def assigned_mean(cells: Cells) -> Values:
    """Mean over concepts of the similarity to their partner in the optimal assignment.

    One concept has one partner at most; concepts of the larger layer that have none count as at
    chance level, 0. Both directions averaged, so that the sum is shared by either number of
    concepts. NaN where no cell is defined.
    """
    flat = cells.reshape(-1, *cells.shape[-2:])
    return np.array([_assigned(matrix) for matrix in flat]).reshape(cells.shape[:-2])


def _assigned(matrix: Float[np.ndarray, "rows columns"]) -> float:
    defined = ~np.isnan(matrix)
    if not defined.any():
        return float("nan")
    rows, columns = assignment(matrix)
    sizes = defined.any(axis=1).sum(), defined.any(axis=0).sum()
    return float(matrix[rows, columns].sum() * np.mean([1 / size for size in sizes]))


def assignment(
    matrix: Float[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Partners of the largest sum (Kuhn 1955).

    An undefined cell counts as chance, 0, and makes no partners.
    """
    rows, columns = linear_sum_assignment(np.nan_to_num(matrix), maximize=True)
    kept = ~np.isnan(matrix[rows, columns])
    return rows[kept], columns[kept]


def _mean_of_finite(values: Float[np.ndarray, "*stack concepts"]) -> Values:
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    total = np.where(finite, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


Concepts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ConceptCells:
    """All concepts of all layers of one network with all those of another.

    Attributes:
        concepts_a: layer and name of each row.
        concepts_b: of each column.
        jaccard: the Jaccard index; NaN in cells that are too rare to say anything.
        adjusted: the same with chance removed.
        stderr: of the adjusted index.
    """

    concepts_a: Concepts
    concepts_b: Concepts
    jaccard: Float[np.ndarray, "rows columns"]
    adjusted: Float[np.ndarray, "rows columns"]
    stderr: Float[np.ndarray, "rows columns"]

    @classmethod
    def of(cls, concepts_a: Concepts, concepts_b: Concepts, cells: PairCells) -> "ConceptCells":
        """The numbers of two networks, in single precision: there are many of them."""
        jaccard, adjusted = cells.measures["jaccard"], cells.measures["adjusted"]
        parts = (jaccard.value, adjusted.value, adjusted.stderr)
        return cls(concepts_a, concepts_b, *(part.astype(np.float32) for part in parts))

    def between(
        self, layer_a: str, layer_b: str
    ) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " columns"]]:
        """Positions of the concepts of two layers."""
        rows, columns = (
            np.array([k for k, (name, _) in enumerate(concepts) if name == layer])
            for concepts, layer in ((self.concepts_a, layer_a), (self.concepts_b, layer_b))
        )
        return rows, columns


def layer_cells(
    cells: PairCells,
    measure: str,
    statistic: Callable[[Cells], Values],
    layers: tuple[Sequence[slice], Sequence[slice]],
) -> tuple[Estimate, Float[np.ndarray, "repairings layers_a layers_b"]]:
    """A statistic of the concepts of every two layers, and the same of re-paired images.

    Args:
        cells: concepts by concepts.
        measure: of concepts, `jaccard` or `adjusted`.
        statistic: of the concepts of two layers.
        layers: where the concepts of each layer lie, in rows and in columns.
    """
    estimate, repaired = cells.measures[measure], cells.repaired[measure]
    # chance is asked of the same concepts: of those that are defined
    repaired = np.where(np.isnan(estimate.value), np.nan, repaired)
    stack = np.concatenate([estimate.value[None], estimate.without, repaired])
    found = np.empty((len(stack), len(layers[0]), len(layers[1])))
    for i, rows in enumerate(layers[0]):
        for j, columns in enumerate(layers[1]):
            found[:, i, j] = statistic(stack[:, rows, columns])
    blocks = len(estimate.without)
    return Estimate(found[0], found[1 : 1 + blocks]), found[1 + blocks :]


def layer_slices(concepts: Sequence[tuple[str, str]]) -> list[slice]:
    """Where the concepts of each layer lie; those of a layer follow each other."""
    layers = [layer for layer, _ in concepts]
    starts = [k for k, layer in enumerate(layers) if k == 0 or layer != layers[k - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(layers)], strict=True)]


def less_chance(
    estimate: Estimate, repaired: Float[np.ndarray, "repairings rows columns"]
) -> tuple[Estimate, Float[np.ndarray, "repairings rows columns"]]:
    """A statistic less its mean over re-paired images: a maximum over more is larger by chance.

    The mean's own error, a small one, is left out of the errors. NaN without re-pairings.
    """
    shape = estimate.value.shape
    null = repaired.mean(axis=0) if len(repaired) else np.full(shape, np.nan)
    return Estimate(estimate.value - null, estimate.without - null), repaired - null
