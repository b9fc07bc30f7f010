"""All pairs of layers of all pairs of probed runs, by where the same concepts fire."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cavalcade.comparing.chunks import Key
from cavalcade.comparing.concept_counts import REPAIRED, ConceptCounts
from cavalcade.comparing.pair_store import Arrays, PairStore
from cavalcade.comparing.stored_pairs import StoredPairs
from cavalcade.runs import ProbedRun
from cavalcade.similarity import (
    CONCEPT_MEASURES,
    WITHOUT_CHANCE,
    ConceptCells,
    Estimate,
    LayerMatrix,
    Pair,
    cells_of,
    fixed_concepts,
    mean_over,
)

Matrices = dict[str, LayerMatrix]


class ConceptMatrices:
    """All concepts in all pairs of probed runs; one pair at a time is held in memory.

    Attributes:
        kept: positions and names of the concepts that every matrix averages over, so that all
            can be compared: those defined in all cells of all pairs of different networks, of
            re-paired images too, and of all halves.
    """

    def __init__(
        self,
        runs: Sequence[ProbedRun],
        pairs: Mapping[Key, Pair],
        orders: Int[np.ndarray, "repairings images"],
        store: PairStore,
    ) -> None:
        self.pairs, self.concepts = pairs, runs[0].concepts
        counts = ConceptCounts(runs, list(pairs), orders, store)
        own = [i for i, run in enumerate(runs) if run.has_halves]
        between = [key for key in pairs if key[0] != key[1]] or list(pairs)
        noted = [counts.pairs.noted(*key) for key in between]
        noted += [counts.halves.noted(i, i) for i in own]
        self.kept = fixed_concepts(noted, self.concepts)
        self._cells: list[tuple[np.ndarray, np.ndarray]] = []
        self._matrices = {key: self._read(counts.pairs, key) for key in pairs}
        self._halves = {
            pairs[i, i].network_a: self._means(pairs[i, i], counts.halves.read(i, i)) for i in own
        }

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
            measure: tuple(found[measure] for found in self._matrices.values())
            for measure in CONCEPT_MEASURES
        }

    def halves(self) -> dict[str, dict[str, LayerMatrix]]:
        """For each measure and network the matrix of its two halves."""
        return {
            measure: {network: found[measure] for network, found in self._halves.items()}
            for measure in CONCEPT_MEASURES
        }

    def table(self) -> pd.DataFrame:
        """A row for each pair of layers, concept and measure, with its standard error.

        Of a pair concept after concept, and in each measure after measure.
        """
        pairs, kinds = list(self.pairs.values()), len(CONCEPT_MEASURES)
        table = cells_of(pairs, len(self.concepts) * kinds)
        concepts = np.repeat(np.array(self.concepts, dtype=object), kinds)
        measures = np.tile(np.array(CONCEPT_MEASURES, dtype=object), len(self.concepts))
        sizes = [len(pair.layers_a) * len(pair.layers_b) for pair in pairs]
        for name, parts in (("concept", concepts), ("measure", measures)):
            table[name] = np.concatenate([np.repeat(parts, size) for size in sizes])
        for place, name in enumerate(("value", "stderr")):
            table[name] = np.concatenate([cells[place] for cells in self._cells])
        return table

    def _read(self, counted: StoredPairs, key: Key) -> Matrices:
        arrays = counted.read(*key)
        stderr = Estimate(arrays["value"], np.moveaxis(arrays["without"], 2, 0)).stderr
        self._cells.append((_by_concept(arrays["value"]), _by_concept(stderr)))
        return self._means(self.pairs[key], arrays)

    def _means(self, pair: Pair, arrays: Arrays) -> Matrices:
        return {
            measure: self._mean(pair, measure, place, arrays)
            for place, measure in enumerate(CONCEPT_MEASURES)
        }

    def _mean(self, pair: Pair, measure: str, place: int, arrays: Arrays) -> LayerMatrix:
        positions, names = self.kept
        parts = zip(arrays["value"][place], arrays["without"][place], strict=True)
        estimate = mean_over([Estimate(*part) for part in parts], positions)
        again = arrays["repaired"][REPAIRED[measure]][positions]
        repaired = again.mean(axis=0) if positions else np.empty((0, *again.shape[2:]))
        return LayerMatrix(
            pair, measure, estimate, repaired, names, without_chance=measure in WITHOUT_CHANCE
        )


def _by_concept(
    cells: Float[np.ndarray, "measures concepts rows columns"],
) -> Float[np.ndarray, " cells"]:
    """All cells one after the other, concepts first."""
    return cells.swapaxes(0, 1).ravel()
