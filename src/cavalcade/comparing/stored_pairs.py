"""One kind of number of all pairs of some runs: which are stored, which are to be counted.

A pair is counted in an order of its contents, whatever the order of the runs, and turned round
when it is read: chance is not symmetric to the last bit, and re-paired images are those of the
second network. So the numbers of a pair are the same in every comparison.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cavalcade.comparing.chunks import Key
from cavalcade.comparing.pair_store import Arrays, PairStore, Shapes, content_digest, versions
from cavalcade.errors import InputError
from cavalcade.runs import HALF_MASKS, Run
from cavalcade.similarity import Estimate


def masks_of(run: Run) -> str:
    """Digest of where the concepts of a run fire, and of which layers have which."""
    return _content(run, "masks.safetensors", "concepts.safetensors")


def halves_of(run: Run) -> str:
    """The same of the probes of both halves of the training images, and of what was seen."""
    halves = ("halves/1.safetensors", "halves/2.safetensors")
    return _content(run, HALF_MASKS, *halves, "masks.safetensors")


def features_of(run: Run) -> str:
    """Digest of the pooled features of a run."""
    return _content(run, "features.safetensors")


def _content(run: Run, *files: str) -> str:
    checksums = [run.meta["files"].get(name) for name in files]
    return content_digest({"files": checksums, "layers": [layer.name for layer in run.layers]})


class StoredPairs:
    """Arrays for each pair, of which the last two axes are layers or concepts of either run.

    Attributes:
        missing: pairs that must be counted, of positions in `representatives`, lower first.
        representatives: for each content, in the order of contents, the position of a run.
    """

    def __init__(
        self,
        store: PairStore,
        kind: str,
        setting: Mapping[str, Any],
        contents: Sequence[str],
        pairs: Iterable[Key],
        shapes: Callable[[int, int], Shapes],
        note: Callable[[Arrays], np.ndarray] | None = None,
    ) -> None:
        """Look up which of the pairs are stored.

        Args:
            store: where they are kept.
            kind: of number.
            setting: all that changes the numbers, other than the runs.
            contents: a digest of what is read of each run.
            pairs: of positions of runs.
            shapes: of the arrays of a pair of positions of runs.
            note: what is remembered of each pair, so that all need not be read twice.

        Raises:
            InputError: if some are missing and nothing can be stored.
        """
        self.store, self.kind, self.shapes = store, kind, shapes
        self.setting = content_digest({**setting, "kind": kind, **versions()})
        self.contents = sorted(set(contents))
        self.representatives = [list(contents).index(content) for content in self.contents]
        self.positions = [self.contents.index(content) for content in contents]
        self.note, self.notes = note, dict[Key, np.ndarray]()
        asked = {pair: self._stored_as(*pair)[0] for pair in pairs}
        self.missing = [key for key in sorted(set(asked.values())) if not self._is_stored(key)]
        if self.missing:
            store.check_writable()
        gone = set(self.missing)
        store.computed |= {pair for pair, key in asked.items() if key in gone}

    def write(self, key: Key, arrays: Arrays) -> None:
        """Store what was missing of a pair."""
        self.store.write(self.kind, self._digest(key), arrays)
        self._remember(key, arrays)

    def read(self, i: int, j: int) -> Arrays:
        """All arrays of a pair of runs, rows of the first.

        Raises:
            InputError: if they were deleted meanwhile.
        """
        key, swapped = self._stored_as(i, j)
        arrays = self._read(key)
        if arrays is None:
            raise InputError("compared pairs were deleted from cache= meanwhile; compare again")
        if not swapped:
            return arrays
        return {name: np.ascontiguousarray(x.swapaxes(-1, -2)) for name, x in arrays.items()}

    def noted(self, i: int, j: int) -> np.ndarray:
        """What `note` says of a pair of runs."""
        return self.notes[self._stored_as(i, j)[0]]

    def _is_stored(self, key: Key) -> bool:
        arrays = self._read(key)
        if arrays is not None:
            self._remember(key, arrays)
        return arrays is not None

    def _read(self, key: Key) -> Arrays | None:
        one, other = (self.representatives[position] for position in key)
        return self.store.read(self.kind, self._digest(key), self.shapes(one, other))

    def _remember(self, key: Key, arrays: Arrays) -> None:
        if self.note is not None:
            self.notes[key] = self.note(arrays)

    def _stored_as(self, i: int, j: int) -> tuple[Key, bool]:
        """The pair of contents, and whether it is stored the other way round."""
        one, other = self.positions[i], self.positions[j]
        return (min(one, other), max(one, other)), one > other

    def _digest(self, key: Key) -> str:
        one, other = (self.contents[position] for position in key)
        return content_digest({"setting": self.setting, "pair": [one, other]})


def shapes_of(
    leading: Sequence[int], cells: tuple[int, int], blocks: int, repaired: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Of numbers of pairs of layers, the same left out each block, and of re-paired images.

    Args:
        leading: axes before all others, such as measures.
        cells: layers of both networks.
        blocks: of images.
        repaired: axes before those of the cells, of re-paired images.
    """
    return {
        "value": (*leading, *cells),
        "without": (*leading, blocks, *cells),
        "repaired": (*repaired, *cells),
    }


def estimates_of(arrays: Arrays, *index: int) -> tuple[Estimate, np.ndarray]:
    """One of several numbers that were stored together, and the same of re-paired images."""
    return Estimate(arrays["value"][index], arrays["without"][index]), arrays["repaired"][index]
