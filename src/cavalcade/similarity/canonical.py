"""Measures that turn one layer onto another: Procrustes and canonical correlations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cavalcade.similarity.estimates import Estimate
from cavalcade.similarity.prepared import ROUNDING, Prepared, centred, inside_blocks

KEPT_VARIANCE = 0.99


class Principal(NamedTuple):
    """A layer along its principal axes; no axis where it is constant.

    Attributes:
        scores: centred features along each axis.
        axes: orthonormal.
    """

    scores: Float[np.ndarray, "images axes"]
    axes: Float[np.ndarray, "axes channels"]


class Basis(NamedTuple):
    """An orthonormal basis of the directions that explain most of a layer's variance.

    Attributes:
        vectors: orthonormal columns with mean zero.
        channels: products of the basis with the layer's channels.
    """

    vectors: Float[np.ndarray, "images directions"]
    channels: Float[np.ndarray, "directions channels"]


@dataclass(frozen=True)
class ProcrustesLayers(Prepared):
    """Principal scores of each layer with Frobenius norm 1; no column where it is constant."""

    measure: str
    scores: tuple[Float[np.ndarray, "images _"], ...]

    @property
    def num_images(self) -> int:
        """See `Prepared`."""
        return len(self.scores[0])

    def similarity(self, other: Prepared) -> Float[np.ndarray, "layers others"]:
        """See `Prepared`."""
        assert isinstance(other, ProcrustesLayers)
        cells = [[_nuclear_norm(one.T @ two) for two in other.scores] for one in self.scores]
        return np.array(cells)

    def estimate(self, other: Prepared, blocks: Int[np.ndarray, " images"]) -> Estimate:
        """See `Prepared`; by a spectrum for each block, since small singular values add up."""
        assert isinstance(other, ProcrustesLayers)
        insides = list(inside_blocks(blocks))
        leaving = [[_leaving(scores, inside) for inside in insides] for scores in self.scores]
        others = [[_leaving(scores, inside) for inside in insides] for scores in other.scores]
        without = np.empty((len(insides), len(leaving), len(others)))
        for i, one in enumerate(self.scores):
            for j, two in enumerate(other.scores):
                without[:, i, j] = _without(one.T @ two, leaving[i], others[j])
        return Estimate(self.similarity(other), without)


@dataclass(frozen=True)
class CanonicalLayers(Prepared):
    """Principal scores of each layer, and the basis of those that explain most variance.

    Which directions those are changes in steps and turns with the images, so that a number
    without a block is computed again from the images that are left.
    """

    measure: str
    layers: tuple[Principal, ...]
    bases: tuple[Basis, ...]
    of_some: dict[bytes, tuple[Basis, ...]] = field(default_factory=dict, compare=False)

    @property
    def num_images(self) -> int:
        """See `Prepared`."""
        return len(self.layers[0].scores)

    def similarity(self, other: Prepared) -> Float[np.ndarray, "layers others"]:
        """See `Prepared`."""
        assert isinstance(other, CanonicalLayers)
        return self._cells(self.bases, other.bases)

    def estimate(self, other: Prepared, blocks: Int[np.ndarray, " images"]) -> Estimate:
        """See `Prepared`."""
        assert isinstance(other, CanonicalLayers)
        without = [
            self._cells(self._bases_of(~inside), other._bases_of(~inside))
            for inside in inside_blocks(blocks)
        ]
        return Estimate(self.similarity(other), np.array(without))

    def _bases_of(self, kept: Bool[np.ndarray, " images"]) -> tuple[Basis, ...]:
        """The bases from some images; the same for every pair that a network is in."""
        key = kept.tobytes()
        if key not in self.of_some:
            self.of_some[key] = _bases(self.layers, kept)
        return self.of_some[key]

    def _cells(
        self, bases: Sequence[Basis], others: Sequence[Basis]
    ) -> Float[np.ndarray, "layers others"]:
        mean = _projection_weighted if self.measure == "pwcca" else _unweighted
        cells = [[mean(*sorted((one, two), key=_width)) for two in others] for one in bases]
        return np.array(cells)


def prepare_procrustes(
    measure: str, features: Sequence[Float[np.ndarray, "images _"]]
) -> ProcrustesLayers:
    """Principal scores, which have the nuclear norms of the features; see `features.prepare`."""
    scores = [_principal(layer).scores for layer in features]
    return ProcrustesLayers(measure, tuple(x / (np.linalg.norm(x) or 1.0) for x in scores))


def prepare_canonical(
    measure: str, features: Sequence[Float[np.ndarray, "images _"]]
) -> CanonicalLayers:
    """Principal scores, and the axes that explain 99% of variance; see `features.prepare`."""
    layers = tuple(_principal(layer) for layer in features)
    return CanonicalLayers(measure, layers, _bases(layers, np.ones(len(features[0]), dtype=bool)))


def _principal(features: Float[np.ndarray, "images channels"]) -> Principal:
    """All axes that are more than rounding, from the smaller of covariance and Gram matrix."""
    deviations = centred(features)
    images, channels = deviations.shape
    if channels < images:
        variances, axes = _descending(deviations.T @ deviations)
        return Principal(deviations @ axes, axes.T)
    variances, vectors = _descending(deviations @ deviations.T)
    lengths = np.sqrt(variances)
    return Principal(vectors * lengths, vectors.T @ deviations / lengths[:, None])


def _descending(
    symmetric: Float[np.ndarray, "size size"],
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, "size kept"]]:
    """Eigenvalues and eigenvectors, largest first, without those that are rounding alone."""
    values, vectors = np.linalg.eigh(symmetric)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > ROUNDING * np.abs(values).max(initial=0.0)
    return values[kept], vectors[:, kept]


def _bases(layers: Sequence[Principal], kept: Bool[np.ndarray, " images"]) -> tuple[Basis, ...]:
    return tuple(_basis(layer, kept) for layer in layers)


def _basis(layer: Principal, kept: Bool[np.ndarray, " images"]) -> Basis:
    """The fewest principal directions of some images that explain 99% of their variance."""
    scores = layer.scores[kept]
    scores = scores - scores.sum(axis=0) / max(len(scores), 1)
    variances, turns = _descending(scores.T @ scores)
    explained = variances.cumsum() / variances.sum() if len(variances) else variances
    count = int(np.searchsorted(explained, KEPT_VARIANCE - ROUNDING)) + 1
    lengths, turns = np.sqrt(variances[:count]), turns[:, :count]
    return Basis(scores @ turns / lengths, lengths[:, None] * (turns.T @ layer.axes))


def _width(basis: Basis) -> int:
    return basis.vectors.shape[1]


def _nuclear_norm(product: Float[np.ndarray, "axes others"]) -> float:
    """Sum of singular values, from the smaller of the two Gram matrices; NaN for no axis."""
    if product.size == 0:
        return np.nan
    narrow = product if product.shape[0] <= product.shape[1] else product.T
    return float(np.sqrt(np.linalg.eigvalsh(narrow @ narrow.T).clip(0)).sum())


def _leaving(
    scores: Float[np.ndarray, "images axes"], inside: Bool[np.ndarray, " images"]
) -> Float[np.ndarray, "rows axes"]:
    """What leaves a layer with a block: its rows, and one for the mean of the rest that shifts.

    Products of two layers, each centred again without the block, are those with it less the
    products of what leaves.
    """
    block, others = scores[inside], max(int((~inside).sum()), 1)
    return np.concatenate([block, block.sum(axis=0, keepdims=True) / np.sqrt(others)])


def _without(
    product: Float[np.ndarray, "axes others"],
    leaving: Sequence[Float[np.ndarray, "_ axes"]],
    others: Sequence[Float[np.ndarray, "_ others"]],
) -> list[float]:
    """Procrustes similarity of two layers without each block; NaN where one is constant then."""
    cells = []
    for one, two in zip(leaving, others, strict=True):
        squares = 1 - (one**2).sum(), 1 - (two**2).sum()
        length = np.sqrt(squares[0] * squares[1]) if min(squares) > ROUNDING else np.nan
        cells.append(_nuclear_norm(product - one.T @ two) / length)
    return cells


def _unweighted(narrow: Basis, wide: Basis) -> float:
    """Mean canonical correlation; NaN where a layer has no direction."""
    if _width(narrow) == 0:
        return np.nan
    product = narrow.vectors.T @ wide.vectors
    return float(np.sqrt(np.linalg.eigvalsh(product @ product.T).clip(0, 1)).mean())


def _projection_weighted(narrow: Basis, wide: Basis) -> float:
    """Mean canonical correlation weighted by the channels of each layer in turn."""
    if _width(narrow) == 0:
        return np.nan
    product = narrow.vectors.T @ wide.vectors
    squares, turns = np.linalg.eigh(product @ product.T)
    correlations = np.sqrt(squares.clip(0, 1))
    partners = product.T @ turns
    partners = partners / np.maximum(np.linalg.norm(partners, axis=0), ROUNDING)
    shares = _channel_shares(turns, narrow) + _channel_shares(partners, wide)
    return float(shares @ correlations / 2)


def _channel_shares(
    turns: Float[np.ndarray, "directions variates"], basis: Basis
) -> Float[np.ndarray, " variates"]:
    """How much of the channels each canonical variate accounts for, summing to 1."""
    weights = np.abs(turns.T @ basis.channels).sum(axis=1)
    return weights / weights.sum()
