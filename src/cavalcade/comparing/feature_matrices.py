"""All pairs of layers of all pairs of runs, by pooled features."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from cavalcade.comparing.chunks import (
    MOST_BYTES,
    MOST_NETWORK_BYTES,
    Key,
    rectangles,
    warn_of_memory,
)
from cavalcade.comparing.pair_store import PairsInMemory, PairStore, Shapes, bytes_digest
from cavalcade.comparing.stored_pairs import StoredPairs, estimates_of, features_of, shapes_of
from cavalcade.progress import progress
from cavalcade.runs import Run
from cavalcade.similarity import Estimate, LayerMatrix, Pair, feature_similarity, prepare
from cavalcade.similarity.prepared import Prepared
from cavalcade.similarity.threads import in_threads

# of matrices of images and axes: those of each block too, or a basis for it
TURNED = {"procrustes": 2, "svcca": 5, "pwcca": 5}


def feature_matrices(
    runs: Sequence[Run],
    pairs: Mapping[Key, Pair],
    measure: str,
    blocks: Int[np.ndarray, " images"],
    orders: Int[np.ndarray, "repairings images"],
    store: PairStore | None = None,
) -> tuple[LayerMatrix, ...]:
    """Matrices of one measure of pooled features.

    Args:
        runs: of one data set.
        pairs: of positions of runs.
        measure: one of `FEATURE_MEASURES`.
        blocks: of the images.
        orders: see `repaired_orders`.
        store: where pairs are kept.
    """
    setting = {"blocks": blocks.tolist(), "orders": bytes_digest(orders)}
    contents = [features_of(run) for run in runs]

    def shapes(i: int, j: int) -> Shapes:
        cells = len(runs[i].layers), len(runs[j].layers)
        return shapes_of((), cells, int(blocks.max()) + 1, (len(orders),))

    stored = StoredPairs(store or PairsInMemory(), measure, setting, contents, pairs, shapes)
    counts = FeatureCounts(runs, stored, measure, blocks, orders)
    total = len(stored.missing) * (1 + len(orders))
    for _ in progress(counts.all(), measure, total) if total else ():
        pass
    return tuple(
        LayerMatrix(pair, measure, *estimates_of(stored.read(*key))) for key, pair in pairs.items()
    )


class FeatureCounts:
    """Computes the pairs that are not stored, chunk by chunk, each stored at once."""

    def __init__(
        self,
        runs: Sequence[Run],
        stored: StoredPairs,
        measure: str,
        blocks: Int[np.ndarray, " images"],
        orders: Int[np.ndarray, "repairings images"],
    ) -> None:
        self.runs, self.stored, self.measure = runs, stored, measure
        self.blocks, self.orders = blocks, orders

    def all(self) -> Iterator[Key]:
        """Compute and store; a step for each pair and order of images."""
        missing = self.stored.missing
        if missing:
            instead = "agreement=[] and a similarity= of concepts"
            size = self._most_layers, len(self.blocks)
            warn_of_memory("pooled features", self._network_bytes(), *size, instead)
        return itertools.chain.from_iterable(
            map(self._count_chunk, rectangles(missing, self._most_pairs(), self._most_networks()))
        )

    def _count_chunk(self, chunk: Sequence[Key]) -> Iterator[Key]:
        features = {place: self._features(place) for place in {k for key in chunk for k in key}}
        first, estimates = self._prepared(features), dict[Key, Estimate]()
        for key, estimate in zip(chunk, self._estimates(first, chunk), strict=True):
            estimates[key] = estimate
            yield key
        repaired: dict[Key, list[np.ndarray]] = {key: [] for key in chunk}
        for order in self.orders:
            # not always a permutation, where blocks differ in size: so prepared from the start
            columns = {j: [layer[order] for layer in features[j]] for _, j in chunk}
            again = self._similarities(first, self._prepared(columns), chunk)
            for key, cells in zip(chunk, again, strict=True):
                repaired[key].append(cells)
                yield key
        for key, estimate in estimates.items():
            cells = np.array(repaired[key]).reshape(len(self.orders), *estimate.value.shape)
            arrays = {"value": estimate.value, "without": estimate.without, "repaired": cells}
            self.stored.write(key, arrays)

    def _features(self, place: int) -> list[np.ndarray]:
        run = self.runs[self.stored.representatives[place]]
        return [run.features(layer.name).numpy() for layer in run.layers]

    def _prepared(self, features: Mapping[int, Sequence[np.ndarray]]) -> dict[int, Prepared]:
        prepared = in_threads(lambda layers: prepare(self.measure, layers), features.values())
        return dict(zip(features, prepared, strict=True))

    def _estimates(
        self, prepared: Mapping[int, Prepared], chunk: Sequence[Key]
    ) -> Iterator[Estimate]:
        def estimate(key: Key) -> Estimate:
            return feature_similarity(prepared[key[0]], prepared[key[1]], self.blocks)

        return in_threads(estimate, chunk)

    def _similarities(
        self, rows: Mapping[int, Prepared], columns: Mapping[int, Prepared], chunk: Sequence[Key]
    ) -> Iterator[np.ndarray]:
        def similarity(key: Key) -> np.ndarray:
            return rows[key[0]].similarity(columns[key[1]])

        return in_threads(similarity, chunk)

    def _most_pairs(self) -> int:
        numbers = 2 + int(self.blocks.max()) + len(self.orders)
        return MOST_BYTES // (8 * numbers * self._most_layers**2)

    def _most_networks(self) -> int:
        return MOST_NETWORK_BYTES // self._network_bytes()

    def _network_bytes(self) -> int:
        """Of a matrix of images and images for each layer, twice, as for re-paired images.

        Of images and axes, of which there are no more than channels, where layers are turned.
        """
        images, turned = len(self.blocks), self.measure in TURNED
        sizes = [
            sum(min(images, layer.channels) if turned else images for layer in run.layers)
            for run in self.runs
        ]
        return 2 * 4 * images * max(sizes) * TURNED.get(self.measure, 1)

    @property
    def _most_layers(self) -> int:
        return max(len(run.layers) for run in self.runs)
