"""All pairs of layers of all pairs of runs: by where concepts fire, or by pooled features."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cavalcade.report.progress import progress
from cavalcade.runs import ProbedRun, Run
from cavalcade.similarity import (
    CONCEPT_MEASURES,
    WITHOUT_CHANCE,
    ConceptCells,
    Estimate,
    Firing,
    LayerMatrix,
    Pair,
    PairCells,
    feature_similarity,
    fixed_concepts,
    mean_over,
    prepare,
    similarity_of_pairs,
)
from cavalcade.similarity.threads import in_threads

Key = tuple[int, int]


def feature_matrices(
    runs: Sequence[Run],
    pairs: Mapping[Key, Pair],
    measure: str,
    blocks: Int[np.ndarray, " images"],
    orders: Int[np.ndarray, "repairings images"],
) -> tuple[LayerMatrix, ...]:
    """Matrices of one measure of pooled features."""
    features = [[run.features(layer.name).numpy() for layer in run.layers] for run in runs]
    prepared = [prepare(measure, layers) for layers in features]

    def estimate(key: Key) -> Estimate:
        return feature_similarity(prepared[key[0]], prepared[key[1]], blocks)

    estimates = list(progress(in_threads(estimate, pairs), measure, len(pairs)))
    repaired: list[list[np.ndarray]] = [[] for _ in pairs]
    again = progress(orders, f"{measure} of re-paired images", len(orders)) if len(orders) else ()
    for order in again:
        # not always a permutation, where blocks differ in size: so prepared from the start
        other = [prepare(measure, [layer[order] for layer in layers]) for layers in features]
        for (i, j), found in zip(pairs, repaired, strict=True):
            found.append(prepared[i].similarity(other[j]))
    return tuple(
        LayerMatrix(pair, measure, value, np.array(again).reshape(len(orders), *value.value.shape))
        for pair, value, again in zip(pairs.values(), estimates, repaired, strict=True)
    )


class ConceptMatrices:
    """All concepts in all pairs of probed runs, counted one concept after the other."""

    def __init__(
        self,
        runs: Sequence[ProbedRun],
        pairs: Mapping[Key, Pair],
        orders: Int[np.ndarray, "repairings images"],
    ) -> None:
        self.runs, self.pairs = runs, pairs
        self.concepts = runs[0].concepts
        truth = runs[0].truth
        self.blocks, self.orders = torch.tensor(truth.blocks), torch.from_numpy(orders)
        self.cells: dict[Key, list[PairCells]] = {key: [] for key in pairs}
        self.half_cells: dict[int, list[PairCells]] = {
            i: [] for i, run in enumerate(runs) if run.has_halves
        }
        for concept in progress(
            range(len(self.concepts)), "comparing where concepts fire", len(self.concepts)
        ):
            self._count(concept, truth.strata(concept))
        self.kept = self._fixed()

    def _fixed(self) -> tuple[list[int], tuple[str, ...]]:
        """The concepts that every matrix averages over, so that all can be compared.

        Those defined in all cells of all pairs of different networks, and of all halves.
        """
        between = [part for (i, j), part in self.cells.items() if i != j]
        parts = [*(between or self.cells.values()), *self.half_cells.values()]
        estimates = [
            [cells[k].measures[measure] for cells in parts for measure in CONCEPT_MEASURES]
            for k in range(len(self.concepts))
        ]
        return fixed_concepts(estimates, self.concepts)

    def _count(self, concept: int, strata: Bool[Tensor, "images strata pixels"]) -> None:
        firing = [
            Firing(run.concept_masks(concept), run.seen, run.found(concept)) for run in self.runs
        ]
        found = similarity_of_pairs(firing, list(self.pairs), strata, self.blocks, self.orders)
        for key, cells in zip(self.pairs, found, strict=True):
            self.cells[key].append(cells)
        for i, part in self.half_cells.items():
            run = self.runs[i]
            halves = [
                Firing(run.half_masks(half, concept), run.seen, run.found(concept, half))
                for half in (1, 2)
            ]
            part += similarity_of_pairs(halves, [(0, 1)], strata, self.blocks, self.orders[:0])

    @property
    def left_out(self) -> tuple[str, ...]:
        """The concepts that no matrix averages over."""
        return tuple(name for name in self.concepts if name not in self.kept[1])

    def concept_cells(self) -> dict[tuple[str, str], ConceptCells]:
        """None: concepts are compared by their names."""
        return {}

    def matrices(self) -> dict[str, tuple[LayerMatrix, ...]]:
        """For each measure the matrices of all pairs."""
        return {
            measure: tuple(
                self._mean(pair, measure, self.cells[key]) for key, pair in self.pairs.items()
            )
            for measure in CONCEPT_MEASURES
        }

    def halves(self) -> dict[str, dict[str, LayerMatrix]]:
        """For each measure and network the matrix of its two halves."""
        return {
            measure: {
                self.pairs[i, i].network_a: self._mean(self.pairs[i, i], measure, part)
                for i, part in self.half_cells.items()
            }
            for measure in CONCEPT_MEASURES
        }

    def table(self) -> pd.DataFrame:
        """A row for each pair of layers, concept and measure, with its standard error."""
        tables = [
            pair.cells().assign(
                concept=concept,
                measure=measure,
                value=cells.measures[measure].value.ravel(),
                stderr=cells.measures[measure].stderr.ravel(),
            )
            for key, pair in self.pairs.items()
            for concept, cells in zip(self.concepts, self.cells[key], strict=True)
            for measure in CONCEPT_MEASURES
        ]
        return pd.concat(tables, ignore_index=True)

    def _mean(self, pair: Pair, measure: str, cells: Sequence[PairCells]) -> LayerMatrix:
        positions, names = self.kept
        estimate = mean_over([part.measures[measure] for part in cells], positions)
        again = [cells[k].repaired[measure] for k in positions]
        repaired = np.nanmean(again, axis=0) if again else np.empty((0, *estimate.value.shape))
        return LayerMatrix(
            pair, measure, estimate, repaired, names, without_chance=measure in WITHOUT_CHANCE
        )
