"""All pairs of layers of all pairs of mined runs: by how well their concepts match."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from cavalcade.comparing.matrices import Key
from cavalcade.report.progress import progress
from cavalcade.runs import MinedRun
from cavalcade.similarity import (
    MINED_MEASURES,
    WITHOUT_CHANCE,
    ConceptCells,
    Firing,
    LayerMatrix,
    Pair,
    assigned_mean,
    best_match_mean,
    less_chance,
    similarity_of_pairs,
)


class MinedMatrices:
    """All concepts of all layers in all pairs of runs, counted one pair after the other.

    Attributes:
        cells: for each pair its concepts with each other.
        left_out: none, since every concept can be matched.
    """

    left_out: tuple[str, ...] = ()

    def __init__(
        self,
        runs: Sequence[MinedRun],
        pairs: Mapping[Key, Pair],
        orders: Int[np.ndarray, "repairings images"],
    ) -> None:
        self.pairs = pairs
        blocks = torch.tensor(runs[0].truth.blocks)
        repaired = torch.from_numpy(orders)
        self.cells: dict[Key, ConceptCells] = {}
        for i, j in progress(pairs, "comparing where concepts fire", len(pairs)):
            firing = [mined_firing(runs[k]) for k in dict.fromkeys((i, j))]
            pair = (0, len(firing) - 1)
            (found,) = similarity_of_pairs(firing, [pair], None, blocks, repaired)
            self.cells[i, j] = ConceptCells(runs[i].concepts, runs[j].concepts, found)

    def matrices(self) -> dict[str, tuple[LayerMatrix, ...]]:
        """For each measure the matrices of all pairs."""
        return {
            measure: tuple(self._matrix(key, measure) for key in self.pairs)
            for measure in MINED_MEASURES
        }

    def halves(self) -> dict[str, dict[str, LayerMatrix]]:
        """None: there are no probes of halves."""
        return {}

    def table(self) -> pd.DataFrame:
        """Nothing: concepts of different layers are different concepts."""
        return pd.DataFrame()

    def concept_cells(self) -> dict[tuple[str, str], ConceptCells]:
        """The same as `cells`, by the names of the networks."""
        return {(p.network_a, p.network_b): self.cells[key] for key, p in self.pairs.items()}

    def _matrix(self, key: Key, measure: str) -> LayerMatrix:
        cells = self.cells[key]
        if measure == "jaccard":
            estimate, repaired = cells.layers("jaccard", best_match_mean)
        else:
            statistic = assigned_mean if measure == "assignment" else best_match_mean
            estimate, repaired = less_chance(*cells.layers("adjusted", statistic))
        return LayerMatrix(
            self.pairs[key], measure, estimate, repaired, without_chance=measure in WITHOUT_CHANCE
        )


def mined_firing(run: MinedRun) -> Firing:
    """Where the concepts of all layers of a run fire, layer after layer."""
    return Firing(run.all_masks(), run.seen, run.found())
