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
    LayerMatrix,
    Pair,
    PairCells,
    assigned_mean,
    best_match_mean,
    layer_cells,
    layer_slices,
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
        self.runs, self.pairs = runs, pairs
        self.blocks = torch.tensor(runs[0].truth.blocks)
        self.orders = torch.from_numpy(orders)
        self.cells: dict[Key, ConceptCells] = {}
        self._matrices: dict[Key, dict[str, LayerMatrix]] = {}
        for key in progress(pairs, "comparing where concepts fire", len(pairs)):
            self._count(*key)

    def _count(self, i: int, j: int) -> None:
        """Compare two runs; what is large is reduced at once."""
        firing = [self.runs[k].firing() for k in dict.fromkeys((i, j))]
        pair = (0, len(firing) - 1)
        (found,) = similarity_of_pairs(firing, [pair], None, self.blocks, self.orders)
        names = (self.runs[i].concepts, self.runs[j].concepts)
        self.cells[i, j] = ConceptCells.of(*names, found)
        layers = (layer_slices(names[0]), layer_slices(names[1]))
        self._matrices[i, j] = {
            measure: _matrix(self.pairs[i, j], measure, found, layers) for measure in MINED_MEASURES
        }

    def matrices(self) -> dict[str, tuple[LayerMatrix, ...]]:
        """For each measure the matrices of all pairs."""
        return {
            measure: tuple(self._matrices[key][measure] for key in self.pairs)
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


def _matrix(
    pair: Pair, measure: str, cells: PairCells, layers: tuple[list[slice], list[slice]]
) -> LayerMatrix:
    """The layers of two networks by one measure."""
    if measure == "jaccard":
        found = layer_cells(cells, "jaccard", best_match_mean, layers)
    else:
        statistic = assigned_mean if measure == "assignment" else best_match_mean
        found = less_chance(*layer_cells(cells, "adjusted", statistic, layers))
    return LayerMatrix(pair, measure, *found, without_chance=measure in WITHOUT_CHANCE)
