"""The truth about many images in little memory: a compressed row of bits for each concept."""

import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cavalcade.data.sample import Labels


class CompactLabels:
    """The truth about one image after the other, as `bit_rows` gives it.

    All of it lies in a few buffers. Workers that are forked share their pages; a page of many
    small objects would be copied as soon as one is looked at, for its count of references.
    """

    def __init__(self, num_concepts: int) -> None:
        self._num_concepts = num_concepts
        self._buffer = bytearray()
        self._lengths = array("I")  # of the compressed rows
        self._shapes = array("q")
        self._starts = array("q", [0, 0])  # for each image: of its lengths, and of its rows

    def __len__(self) -> int:
        return len(self._shapes) // 2

    @property
    def num_bytes(self) -> int:
        """Size of the compressed rows."""
        return len(self._buffer)

    def append(self, shape: tuple[int, int], rows: Sequence[bytes]) -> None:
        """Add the compressed rows of the next image."""
        self._buffer += b"".join(rows)
        self._lengths.extend(map(len, rows))
        self._shapes.extend(shape)
        self._starts.extend((len(self._lengths), len(self._buffer)))

    def read(self, index: int, concepts: Sequence[int]) -> Labels:
        """The truth about one image and some of the concepts."""
        first, start, last, _ = self._starts[2 * index : 2 * index + 4]
        places = [
            slice(*edges)
            for edges in pairwise(accumulate(self._lengths[first:last], initial=start))
        ]
        masks, unknown = places[: self._num_concepts], places[self._num_concepts :]
        shape = (self._shapes[2 * index], self._shapes[2 * index + 1])
        present = self._unpacked([masks[k] for k in concepts], shape)
        if len(unknown) == 1:
            return Labels(present, (~self._unpacked(unknown, shape)).expand_as(present))
        return Labels(present, ~self._unpacked([unknown[k] for k in concepts], shape))

    def _unpacked(
        self, places: Sequence[slice], shape: tuple[int, int]
    ) -> Bool[Tensor, "maps rows columns"]:
        pixels = shape[0] * shape[1]
        maps = np.zeros((len(places), pixels), np.uint8)
        for bits, place in zip(maps, places, strict=True):
            if place.start < place.stop:
                row = zlib.decompress(self._buffer[place])
                bits[:] = np.unpackbits(np.frombuffer(row, np.uint8), count=pixels)
        return torch.from_numpy(maps.view(bool)).reshape(len(places), *shape)


def bit_rows(labels: Labels) -> tuple[list[bytes], list[bytes]]:
    """Bits of each concept's mask, and of where its truth is unknown; none where no bit is set.

    Of what is unknown there is one row if it stands for all concepts.
    """
    known = labels.labelled[:1] if labels.shared else labels.labelled
    return _packed(labels.masks), _packed(~known)


def compressed(rows: Sequence[bytes]) -> list[bytes]:
    """Each row in little memory, an empty one in none."""
    return [zlib.compress(row, 1) if row else row for row in rows]


def _packed(maps: Bool[Tensor, "maps rows columns"]) -> list[bytes]:
    bits = np.packbits(maps.flatten(1).numpy(), axis=1)
    return [row.tobytes() if row.any() else b"" for row in bits]
