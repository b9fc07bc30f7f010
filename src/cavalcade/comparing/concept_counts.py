"""Counts where probed concepts fire in pairs of runs, chunk by chunk, each stored at once."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from cavalcade.comparing.chunks import (
    MOST_BYTES,
    MOST_NETWORK_BYTES,
    Key,
    rectangles,
    warn_of_memory,
)
from cavalcade.comparing.pair_store import Arrays, PairStore, Shapes, bytes_digest
from cavalcade.comparing.stored_pairs import StoredPairs, halves_of, masks_of, shapes_of
from cavalcade.progress import progress
from cavalcade.runs import ProbedRun, Run
from cavalcade.similarity import CONCEPT_MEASURES, PairCells, similarity_of_pairs
from cavalcade.similarity.group_counts import bits_of_row
from cavalcade.truth import Truth

# re-paired images do not share their labels either: see `concept_cells._repaired`
REPAIRED = {"jaccard": 0, "adjusted": 1, "label_conditional": 1}
REPAIRED_KINDS = len(set(REPAIRED.values()))


class ConceptCounts:
    """The cells of all concepts, for each pair of runs and each run's two halves.

    Attributes:
        pairs: of runs.
        halves: of each run that has them, the pair of it with itself.
    """

    def __init__(
        self,
        runs: Sequence[ProbedRun],
        pairs: Sequence[Key],
        orders: Int[np.ndarray, "repairings images"],
        store: PairStore,
    ) -> None:
        """Count what is not stored."""
        self.runs, self.truth = runs, runs[0].truth
        self.blocks, self.orders = torch.tensor(self.truth.blocks), torch.from_numpy(orders)
        setting = _setting(self.truth)
        self.pairs = StoredPairs(
            *(store, "probes", setting | {"orders": bytes_digest(orders)}),
            *([masks_of(run) for run in runs], pairs, partial(self._shapes, len(orders))),
            defined_concepts,
        )
        self.halves = StoredPairs(
            *(store, "halves", setting, [halves_of(run) for run in runs]),
            [(i, i) for i, run in enumerate(runs) if run.has_halves],
            *(partial(self._shapes, 0), defined_concepts),
        )
        self._count()

    def _shapes(self, repairings: int, i: int, j: int) -> Shapes:
        """Of what is stored of two runs; see `_arrays`."""
        cells, concepts = (
            (len(self.runs[i].layers), len(self.runs[j].layers)),
            len(self.truth.concepts),
        )
        blocks, measures = int(self.blocks.max()) + 1, len(CONCEPT_MEASURES)
        return shapes_of(
            (measures, concepts), cells, blocks, (REPAIRED_KINDS, concepts, repairings)
        )

    def _count(self) -> None:
        if self.pairs.missing and len(self.orders):
            warn_of_repaired(self.runs, max(len(run.layers) for run in self.runs))
        chunks = rectangles(self.pairs.missing, self._most_pairs(), self._most_networks())
        steps = [self._count_chunk(chunk) for chunk in chunks]
        steps += [self._count_halves(key) for key in self.halves.missing]
        total = len(steps) * len(self.truth.concepts)
        counting = itertools.chain.from_iterable(steps)
        for _ in progress(counting, "comparing where concepts fire", total) if total else ():
            pass

    def _count_chunk(self, chunk: Sequence[Key]) -> Iterator[int]:
        """All concepts of some pairs, one after the other; stored at the end."""
        places = sorted({place for key in chunk for place in key})
        runs = [self._reader(self.pairs.representatives[place]) for place in places]
        positions = [(places.index(i), places.index(j)) for i, j in chunk]
        cells: dict[Key, list[PairCells]] = {key: [] for key in chunk}
        for concept in range(len(self.truth.concepts)):
            firing = [run.stored_firing(concept) for run in runs]
            strata = self.truth.strata_bits(concept)
            found = similarity_of_pairs(firing, positions, strata, self.blocks, self.orders)
            for key, part in zip(chunk, found, strict=True):
                cells[key].append(part)
            yield concept
        for key in chunk:
            self.pairs.write(key, _arrays(cells.pop(key)))

    def _count_halves(self, key: Key) -> Iterator[int]:
        """All concepts of the two halves of a run."""
        run, cells = self._reader(self.halves.representatives[key[0]]), list[PairCells]()
        for concept in range(len(self.truth.concepts)):
            firing = [run.stored_firing(concept, half) for half in (1, 2)]
            strata = self.truth.strata_bits(concept)
            cells += similarity_of_pairs(firing, [(0, 1)], strata, self.blocks, self.orders[:0])
            yield concept
        self.halves.write(key, _arrays(cells))

    def _reader(self, position: int) -> ProbedRun:
        """A run that is read anew: what it holds in memory goes with it; all share one truth."""
        run = self.runs[position]
        reader = ProbedRun(run.path, run.meta, run.versions)
        reader.truth = self.truth
        return reader

    def _most_pairs(self) -> int:
        numbers = len(CONCEPT_MEASURES) * (2 + int(self.blocks.max())) + 2 * len(self.orders)
        cells = len(self.truth.concepts) * max(len(run.layers) for run in self.runs) ** 2
        return MOST_BYTES // (8 * numbers * cells)

    def _most_networks(self) -> int:
        """By counts for each block, pixel and stratum, and bits of some pixels of all images."""
        images, num_blocks = len(self.blocks), int(self.blocks.max()) + 1
        pixels = self.truth.grid[0] * self.truth.grid[1]
        rows = max(len(run.layers) for run in self.runs)
        return MOST_NETWORK_BYTES // (rows * pixels * (images // 8 + 8 * num_blocks))


def warn_of_repaired(runs: Sequence[Run], rows: int) -> None:
    """Say what the bits of re-paired images take, where that is much.

    Args:
        runs: of one data set.
        rows: masks of a network that are counted at a time, at most.
    """
    grid, images = runs[0].truth.grid, len(runs[0].truth.blocks)
    num_bytes = rows * bits_of_row(grid[0] * grid[1], images)
    layers = max(len(run.layers) for run in runs)
    warn_of_memory("re-paired masks", num_bytes, layers, images, "repairings=0")


def defined_concepts(arrays: Arrays) -> Bool[np.ndarray, " concepts"]:
    """The concepts of which all cells are finite, by all measures, with their errors and nulls.

    Cells of re-paired images too: else a number and its null were means over other concepts.
    """
    value = np.isfinite(arrays["value"]).all(axis=(0, 2, 3))
    without, repaired = (
        np.isfinite(arrays[name]).all(axis=(0, 2, 3, 4)) for name in ("without", "repaired")
    )
    return np.logical_and.reduce([value, without, repaired])


def _setting(truth: Truth) -> dict[str, Any]:
    """All that numbers depend on besides masks."""
    return {
        "measures": CONCEPT_MEASURES,
        "concepts": truth.concepts,
        "grid": truth.grid,
        "blocks": truth.blocks,
        "truth": bytes_digest(truth.masks.numpy(), truth.labelled.numpy()),
    }


def _arrays(cells: Sequence[PairCells]) -> Arrays:
    """Measures, concepts, then blocks or re-pairings, rows and columns."""
    assert all(c.repaired["label_conditional"] is c.repaired["adjusted"] for c in cells)
    return {
        "value": np.array([[c.measures[m].value for c in cells] for m in CONCEPT_MEASURES]),
        "without": np.array([[c.measures[m].without for c in cells] for m in CONCEPT_MEASURES]),
        "repaired": np.array([[c.repaired[m] for c in cells] for m in ("jaccard", "adjusted")]),
    }
