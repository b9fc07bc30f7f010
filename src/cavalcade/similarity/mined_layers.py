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

FORBIDDEN = -10.0  # below any adjusted index that is worth a match


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
    rows, columns = assignment(matrix)
    if not len(rows):
        return float("nan")
    defined = ~np.isnan(matrix)
    sizes = defined.any(axis=1).sum(), defined.any(axis=0).sum()
    return float(matrix[rows, columns].sum() * np.mean([1 / size for size in sizes]))


def assignment(
    matrix: Float[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Partners of the largest sum (Kuhn 1955); undefined cells are no partners."""
    defined = ~np.isnan(matrix)
    rows, columns = linear_sum_assignment(np.where(defined, matrix, FORBIDDEN), maximize=True)
    kept = defined[rows, columns]
    return rows[kept], columns[kept]


def _mean_of_finite(values: Float[np.ndarray, "*stack concepts"]) -> Values:
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    total = np.where(finite, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class ConceptCells:
    """All concepts of all layers of one network with all those of another.

    Attributes:
        concepts_a: layer and name of each row.
        concepts_b: of each column.
        cells: `jaccard` and `adjusted`.
    """

    concepts_a: tuple[tuple[str, str], ...]
    concepts_b: tuple[tuple[str, str], ...]
    cells: PairCells

    def layers(
        self, measure: str, statistic: Callable[[Cells], Values]
    ) -> tuple[Estimate, Float[np.ndarray, "repairings layers_a layers_b"]]:
        """A statistic of the concepts of every two layers, and the same of re-paired images."""
        estimate, repaired = self.cells.measures[measure], self.cells.repaired[measure]
        stack = np.concatenate([estimate.value[None], estimate.without, repaired])
        parts_a, parts_b = (layer_slices(names) for names in (self.concepts_a, self.concepts_b))
        found = np.empty((len(stack), len(parts_a), len(parts_b)))
        for i, rows in enumerate(parts_a):
            for j, columns in enumerate(parts_b):
                found[:, i, j] = statistic(stack[:, rows, columns])
        blocks = len(estimate.without)
        return Estimate(found[0], found[1 : 1 + blocks]), found[1 + blocks :]

    def between(self, layer_a: str, layer_b: str, measure: str) -> Estimate:
        """The cells of two layers."""
        rows, columns = (
            [k for k, (name, _) in enumerate(names) if name == layer]
            for names, layer in ((self.concepts_a, layer_a), (self.concepts_b, layer_b))
        )
        estimate = self.cells.measures[measure]
        part = np.ix_(rows, columns)
        return Estimate(estimate.value[part], estimate.without[:, part[0], part[1]])


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
