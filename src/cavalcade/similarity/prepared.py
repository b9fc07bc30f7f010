"""Layers made ready for one measure, once per network, then paired with those of any other."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from cavalcade.similarity.estimates import Estimate

ROUNDING = 1e-12  # shares of a sum of squares or of a value that are rounding alone


class Prepared(ABC):
    """All layers of one network, ready to be compared by one measure.

    Attributes:
        measure: its name, see `FEATURE_MEASURES`.
    """

    measure: str

    @property
    @abstractmethod
    def num_images(self) -> int:
        """The images on which layers are compared."""

    @abstractmethod
    def similarity(self, other: "Prepared") -> Float[np.ndarray, "layers others"]:
        """Similarity of every layer with every layer of a network prepared in the same way."""

    @abstractmethod
    def estimate(self, other: "Prepared", blocks: Int[np.ndarray, " images"]) -> Estimate:
        """The same, and what it would be without each block of images."""


def centred(features: Float[np.ndarray, "images channels"]) -> Float[np.ndarray, "images channels"]:
    """Channels with mean zero, in float64; one that varies by rounding alone is all zero.

    All zero also where any value is not finite: such a layer counts as constant.
    """
    if not np.isfinite(features).all():
        return np.zeros(features.shape)
    deviations = features - features.mean(axis=0, dtype=np.float64)
    constant = np.abs(deviations).max(axis=0) <= ROUNDING * np.abs(features).max(axis=0)
    return np.where(constant, 0.0, deviations)


def inside_blocks(blocks: Int[np.ndarray, " images"]) -> Iterator[Bool[np.ndarray, " images"]]:
    """Which images lie in each block, blocks numbered from 0."""
    for block in range(int(blocks.max()) + 1):
        yield blocks == block
