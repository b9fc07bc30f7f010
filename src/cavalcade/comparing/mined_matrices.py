"""All pairs of layers of all pairs of mined runs: by how well their concepts match."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from cavalcade.comparing.chunks import Key
from cavalcade.comparing.concept_counts import warn_of_repaired
from cavalcade.comparing.pair_store import Arrays, PairStore, Shapes, bytes_digest
from cavalcade.comparing.stored_pairs import StoredPairs, estimates_of, masks_of, shapes_of
from cavalcade.progress import progress
from cavalcade.runs import MinedRun
from cavalcade.similarity import (
    MINED_MEASURES,
    WITHOUT_CHANCE,
    ConceptCells,
    Estimate,
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
        left_out: none, since every concept can be matched.
    """

    left_out: tuple[str, ...] = ()

    def __init__(
        self,
        runs: Sequence[MinedRun],
        pairs: Mapping[Key, Pair],
        orders: Int[np.ndarray, "repairings images"],
        store: PairStore,
    ) -> None:
        self.runs, self.pairs = runs, pairs
        truth = runs[0].truth
        self.blocks, self.orders = torch.tensor(truth.blocks), torch.from_numpy(orders)
        setting = {
            "measures": MINED_MEASURES,
            "grid": truth.grid,
            "blocks": truth.blocks,
            "orders": bytes_digest(orders),
        }
        contents = [masks_of(run) for run in runs]
        self.counted = StoredPairs(store, "mined", setting, contents, pairs, self._shapes)
        missing = self.counted.missing
        if missing and len(orders):
            warn_of_repaired(runs, max(len(run.concepts) for run in runs))
        counting = progress(missing, "comparing where concepts fire", len(missing))
        for key in counting if missing else ():
            self.counted.write(key, self._count(*key))
        self._matrices = {key: self._read(key) for key in pairs}

    def _shapes(self, i: int, j: int) -> Shapes:
        """Of what is stored of two runs; see `_count`."""
        one, other = self.runs[i], self.runs[j]
        cells, blocks = (len(one.layers), len(other.layers)), int(self.blocks.max()) + 1
        measures = len(MINED_MEASURES)
        layers = shapes_of((measures,), cells, blocks, (measures, len(self.orders)))
        concepts = (len(one.concepts), len(other.concepts))
        return dict.fromkeys(("jaccard", "adjusted", "stderr"), concepts) | layers

    def _count(self, i: int, j: int) -> Arrays:
        """Compare two runs; what is large is reduced at once."""
        runs = [self.runs[self.counted.representatives[place]] for place in (i, j)]
        firing = [run.stored_firing() for run in (runs[:1] if i == j else runs)]
        pair = (0, len(firing) - 1)
        (found,) = similarity_of_pairs(firing, [pair], None, self.blocks, self.orders)
        names = (runs[0].concepts, runs[1].concepts)
        concepts = ConceptCells.of(*names, found)
        layers = (layer_slices(names[0]), layer_slices(names[1]))
        numbers = [_layers(measure, found, layers) for measure in MINED_MEASURES]
        return {
            "jaccard": concepts.jaccard,
            "adjusted": concepts.adjusted,
            "stderr": concepts.stderr,
            "value": np.array([estimate.value for estimate, _ in numbers]),
            "without": np.array([estimate.without for estimate, _ in numbers]),
            "repaired": np.array([repaired for _, repaired in numbers]),
        }

    def _read(self, key: Key) -> dict[str, LayerMatrix]:
        arrays = self.counted.read(*key)
        return {
            measure: LayerMatrix(
                self.pairs[key],
                measure,
                *estimates_of(arrays, place),
                without_chance=measure in WITHOUT_CHANCE,
            )
            for place, measure in enumerate(MINED_MEASURES)
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

    def concept_cells(self) -> "StoredCells":
        """For each pair of networks its concepts with each other, read when they are asked for."""
        return StoredCells(self.counted, self.runs, self.pairs)


class StoredCells(Mapping[tuple[str, str], ConceptCells]):
    """The concepts of mined runs with each other, by the names of the networks."""

    def __init__(
        self, counted: StoredPairs, runs: Sequence[MinedRun], pairs: Mapping[Key, Pair]
    ) -> None:
        self._counted, self._runs = counted, runs
        self._keys = {(pair.network_a, pair.network_b): key for key, pair in pairs.items()}

    def __getitem__(self, networks: tuple[str, str]) -> ConceptCells:
        i, j = self._keys[networks]
        arrays = self._counted.read(i, j)
        cells = (arrays[name] for name in ("jaccard", "adjusted", "stderr"))
        return ConceptCells(self._runs[i].concepts, self._runs[j].concepts, *cells)

    def __contains__(self, networks: object) -> bool:
        return networks in self._keys

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _layers(
    measure: str, cells: PairCells, layers: tuple[list[slice], list[slice]]
) -> tuple[Estimate, Float[np.ndarray, "repairings layers_a layers_b"]]:
    """The layers of two networks by one measure."""
    if measure == "jaccard":
        return layer_cells(cells, "jaccard", best_match_mean, layers)
    statistic = assigned_mean if measure == "assignment" else best_match_mean
    return less_chance(*layer_cells(cells, "adjusted", statistic, layers))
