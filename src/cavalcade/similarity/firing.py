"""Where masks of one network fire, as packed bits of a few images at a time."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

Images = Int[np.ndarray, " images"]


@runtime_checkable
class Fires(Protocol):
    """Some masks of one network on all test images, in memory or on disk.

    A row is one labelled concept at one of the layers, or one mined concept of any layer.
    """

    @property
    def num_rows(self) -> int:
        """The masks."""

    @property
    def num_pixels(self) -> int:
        """Of an image."""

    def rows_found(self) -> Bool[np.ndarray, " rows"]:
        """Rows that have the concept at all. Others fire nowhere and say nothing."""

    def mask_bits(self, images: Images) -> UInt8[np.ndarray, "rows images bytes"]:
        """Where they fire on some images; nowhere where the network did not look."""

    def seen_bits(self, images: Images) -> UInt8[np.ndarray, "images bytes"]:
        """Which pixels of some images the network saw."""


class Firing(NamedTuple):
    """The same in memory."""

    masks: Bool[Tensor, "images rows pixels"]
    """False where the network did not look."""
    seen: Bool[Tensor, "images pixels"]
    found: Bool[Tensor, " rows"] | None = None
    """Rows that have the concept at all; None for all."""

    @property
    def num_rows(self) -> int:
        """See `Fires`."""
        return self.masks.shape[1]

    @property
    def num_pixels(self) -> int:
        """See `Fires`."""
        return self.seen.shape[1]

    def rows_found(self) -> Bool[np.ndarray, " rows"]:
        """See `Fires`."""
        return np.ones(self.num_rows, dtype=bool) if self.found is None else self.found.numpy()

    def mask_bits(self, images: Images) -> UInt8[np.ndarray, "rows images bytes"]:
        """See `Fires`."""
        return np.packbits(self.masks[images].transpose(0, 1).numpy(), axis=-1)

    def seen_bits(self, images: Images) -> UInt8[np.ndarray, "images bytes"]:
        """See `Fires`."""
        return np.packbits(self.seen[images].numpy(), axis=-1)
