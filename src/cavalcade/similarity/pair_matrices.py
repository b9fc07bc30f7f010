"""Measures that compare layers by what each makes of every pair of images.

Centred kernel alignment, representational similarity analysis and mutual nearest neighbours
are all one number, the cosine <R_a, R_b> / sqrt(<R_a, R_a> <R_b, R_b>) of a matrix (images,
images) for each layer. The matrices of all layers are stacked, so that all cells of two
networks are one matrix product.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from cavalcade.similarity.estimates import Estimate
from cavalcade.similarity.prepared import ROUNDING, Prepared, inside_blocks

NEIGHBOURS = 10
CHUNK = 2**16  # pairs of images in float64 at a time


@dataclass(frozen=True)
class CentredMatrices(Prepared):
    """A centred matrix per layer, each entry made of two images and then centred over all.

    Without some images a matrix is a submatrix, centred again. With r the sums of its rows and
    s the sum of its entries, the product of two matrices centred over m images follows from
    that of the two as they are,

        <A', B'> = <A, B> + f(m) s_a s_b - h(m) <r_a, r_b>

    so that leaving out a block is exact and costs little more than the product itself.

    Attributes:
        measure: its name.
        matrices: symmetric, of Frobenius norm 1 or all zero where the layer is not defined.
        centring: f and h for a number of images.
        fewest: with fewer images nothing is defined.
    """

    measure: str
    matrices: Float[np.ndarray, "layers images images"]
    centring: Callable[[int], tuple[float, float]]
    fewest: int

    @property
    def num_images(self) -> int:
        """See `Prepared`."""
        return self.matrices.shape[1]

    def similarity(self, other: Prepared) -> Float[np.ndarray, "layers others"]:
        """See `Prepared`."""
        assert isinstance(other, CentredMatrices)
        return _cosines(_inner_products(self.matrices, other.matrices), len(self.matrices))

    def estimate(self, other: Prepared, blocks: Int[np.ndarray, " images"]) -> Estimate:
        """See `Prepared`."""
        assert isinstance(other, CentredMatrices)
        stacks = self.matrices, other.matrices
        row_sums = np.concatenate([stack.sum(axis=2, dtype=np.float64) for stack in stacks])
        products, changes = [], []
        for inside in inside_blocks(blocks):
            rows = [stack[:, inside] for stack in stacks]
            inside_sums = np.concatenate([part.sum(axis=1, dtype=np.float64) for part in rows])
            products.append(_inner_products(*rows))
            twice = _inner_products(*(part[:, :, inside] for part in rows))
            again = self._recentring((row_sums - inside_sums)[:, ~inside])
            changes.append(twice - 2 * products[-1] + again)
        whole, layers = np.sum(products, axis=0), len(self.matrices)
        without = [_cosines(whole + change, layers) for change in changes]
        return Estimate(_cosines(whole, layers), np.array(without))

    def _recentring(self, row_sums: Float[np.ndarray, "all kept"]) -> Float[np.ndarray, "all all"]:
        """What centring over the kept images adds to the products of all layers."""
        layers, kept = row_sums.shape
        if kept < self.fewest:
            return np.full((layers, layers), np.nan)
        total_factor, row_factor = self.centring(kept)
        totals = row_sums.sum(axis=1)
        return total_factor * np.outer(totals, totals) - row_factor * (row_sums @ row_sums.T)


class RecomputedMatrices(Prepared):
    """Matrices whose entries depend on all images: made again without each block."""

    @abstractmethod
    def vectors(self, kept: Bool[np.ndarray, " images"]) -> Shaped[np.ndarray, "layers *pairs"]:
        """The matrices made of some images alone, zero elsewhere and where not defined."""

    def similarity(self, other: Prepared) -> Float[np.ndarray, "layers others"]:
        """See `Prepared`."""
        return self._similarity_on(np.ones(self.num_images, dtype=bool), other)

    def estimate(self, other: Prepared, blocks: Int[np.ndarray, " images"]) -> Estimate:
        """See `Prepared`."""
        without = [self._similarity_on(~inside, other) for inside in inside_blocks(blocks)]
        return Estimate(self.similarity(other), np.array(without))

    def _similarity_on(
        self, kept: Bool[np.ndarray, " images"], other: Prepared
    ) -> Float[np.ndarray, "layers others"]:
        assert isinstance(other, RecomputedMatrices)
        mine = self.vectors(kept)
        return _cosines(_inner_products(mine, other.vectors(kept)), len(mine))


@dataclass(frozen=True)
class RankedPairs(RecomputedMatrices):
    """Pairs of images in order of dissimilarity, for each layer.

    Attributes:
        measure: its name.
        places: place of each pair i < j, row by row, in the layer's order, from 1; tied pairs
            share one; all 0 where the layer is not defined.
        images: how many.
    """

    measure: str
    places: Int[np.ndarray, "layers pairs"]
    images: int

    @property
    def num_images(self) -> int:
        """See `Prepared`."""
        return self.images

    def vectors(self, kept: Bool[np.ndarray, " images"]) -> Float[np.ndarray, "layers pairs"]:
        """Ranks among the pairs of kept images, ties averaged, with mean zero."""
        one, other = np.triu_indices(self.images, 1)
        pairs = kept[one] & kept[other]
        return np.stack([_centred_ranks(np.where(pairs, places, 0)) for places in self.places])


@dataclass(frozen=True)
class Neighbours(RecomputedMatrices):
    """All other images from the nearest to the farthest of each image, for each layer.

    Attributes:
        measure: its name.
        nearest: indices of images.
        defined: whether the layer tells images apart at all.
    """

    measure: str
    nearest: Int[np.ndarray, "layers images others"]
    defined: Bool[np.ndarray, " layers"]

    @property
    def num_images(self) -> int:
        """See `Prepared`."""
        return self.nearest.shape[1]

    def vectors(
        self, kept: Bool[np.ndarray, " images"]
    ) -> Bool[np.ndarray, "layers images images"]:
        """Which kept images are nearest neighbours of which."""
        dropped = int((~kept).sum())
        count = min(NEIGHBOURS, len(kept) - dropped - 2)
        nearest = self.nearest[:, :, : max(count, 0) + dropped]
        usable = kept[nearest] & kept[:, None] & self.defined[:, None, None]
        chosen = usable & (usable.cumsum(axis=2) <= count)
        adjacent = np.zeros((*self.nearest.shape[:2], self.num_images), dtype=bool)
        np.put_along_axis(adjacent, nearest, chosen, axis=2)
        return adjacent


def _inner_products(*stacks: Shaped[np.ndarray, "_ *pairs"]) -> Float[np.ndarray, "all all"]:
    """Inner products of all layers of all stacks, in float64 whatever the storage."""
    flats = [stack.reshape(len(stack), -1) for stack in stacks]
    layers = sum(len(flat) for flat in flats)
    total = np.zeros((layers, layers))
    for first in range(0, flats[0].shape[1], CHUNK):
        parts = [flat[:, first : first + CHUNK].astype(np.float64) for flat in flats]
        part = np.concatenate(parts)
        total += part @ part.T
    return total


def _cosines(
    products: Float[np.ndarray, "all all"], layers: int
) -> Float[np.ndarray, "layers others"]:
    """Cosines of the first layers with the others; NaN where one of the two has no length."""
    squares = np.diagonal(products)
    lengths = np.sqrt(np.where(squares > ROUNDING, squares, np.nan))
    return products[:layers, layers:] / np.outer(lengths[:layers], lengths[layers:])


def _centred_ranks(places: Int[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """Ranks less their mean, ties averaged, of what has a place; 0 at place 0."""
    counts = np.bincount(places)
    counts[0] = 0
    last = counts.cumsum()
    ranks = last - (counts - 1) / 2 - (last[-1] + 1) / 2
    ranks[0] = 0.0
    return ranks.astype(np.float32)[places]  # multiples of a half: exact
