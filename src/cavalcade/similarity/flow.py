"""How meaning changes with depth inside one network, and how alike its layers could be."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cavalcade.similarity.derived import Number
from cavalcade.similarity.estimates import Estimate, combined, critical_t
from cavalcade.similarity.layer_matrix import LayerMatrix


def ceilings(halves: LayerMatrix) -> Estimate:
    """How alike the probes of two halves of the training images are, at each layer."""
    return combined(lambda cells: np.diagonal(cells, axis1=-2, axis2=-1), halves.estimate)


def trunk_ceilings(halves: LayerMatrix) -> Estimate:
    """The same, of the layers of the trunk."""
    trunk = halves.pair.trunk[0]
    return combined(lambda cells: cells[..., trunk], ceilings(halves))


def attainable(a: Estimate, b: Estimate) -> Estimate:
    """The similarity of two layers whose probes differ by nothing but their training images.

    The geometric mean of the ceilings of both, as in Spearman's correction for attenuation
    (1904); NaN where a ceiling is not above 0 by more than its error.
    """

    def above_zero(ceiling: Estimate) -> Estimate:
        clear = ceiling.value > critical_t(ceiling) * ceiling.stderr
        return combined(lambda x: np.where(clear & (x > 0), x, np.nan), ceiling)

    def mean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt(x[..., :, None] * y[..., None, :])

    return combined(mean, above_zero(a), above_zero(b))


@dataclass(frozen=True)
class Flow:
    """How far apart two layers of one network must be to mean different things.

    Two layers mean different things where probes of the one and of the other, fitted on
    different halves of the training images, agree less than the geometric mean of what probes
    of either layer do: by more than chance, at the 5 % level over the same blocks for all later
    layers together. As this finds small differences too, it is also told where half of the
    agreement is lost.

    Attributes:
        halves: layers by layers, rows fitted on one half and columns on the other.
    """

    halves: LayerMatrix

    def losses(self) -> Estimate:
        """By how much two trunk layers are less alike than each is with itself."""
        return combined(lambda cells: _own(cells) - _mutual(cells), self._trunk())

    def curve(self) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
        """Distance of relative depth and loss of all pairs of different trunk layers."""
        depths = self._depths()
        first, second = np.triu_indices(len(depths), 1)
        return depths[second] - depths[first], self.losses().value[first, second]

    def table(self) -> pd.DataFrame:
        """For each trunk layer the next one that means something else.

        Columns: network, layer, depth; differs_from, distance (of relative depth), loss (how
        much less alike they are) and its stderr; halved_at and half_distance, of the next layer
        with which at most half of the agreement is left. NaN where no later layer is such.
        """
        layers = [layer for layer in self.halves.pair.layers_a if layer.trunk]
        losses, trunk = self.losses(), self._trunk()
        rows = []
        for k, (found, halved) in enumerate(
            zip(self._first_different(trunk.value), self._first_halved(trunk.value), strict=True)
        ):
            other = layers[found] if found >= 0 else None
            half = layers[halved] if halved >= 0 else None
            rows.append(
                {
                    "network": self.halves.pair.network_a,
                    "layer": layers[k].name,
                    "depth": layers[k].depth,
                    "differs_from": other.name if other else "",
                    "distance": other.depth - layers[k].depth if other else np.nan,
                    "loss": losses.value[k, found] if other else np.nan,
                    "stderr": losses.stderr[k, found] if other else np.nan,
                    "halved_at": half.name if half else "",
                    "half_distance": half.depth - layers[k].depth if half else np.nan,
                }
            )
        return pd.DataFrame(rows)

    def distances(self, weights: Int[np.ndarray, "resamples blocks"]) -> dict[str, Number]:
        """Mean over layers of `distance` and `half_distance`; layers without are left out.

        NaN where no layer has one; a resample without one counts as the whole depth.
        """
        trunk = self._trunk()
        again = trunk.replicates(weights)
        return {
            name: Number(
                float(self._mean_distance(first(trunk.value), nowhere=np.nan)),
                self._mean_distance(first(again), nowhere=float(np.ptp(self._depths()))),
                weights.shape[1],
                np.empty(0),
            )
            for name, first in (
                ("distance", self._first_different),
                ("half_distance", self._first_halved),
            )
        }

    def _mean_distance(
        self, found: Int[np.ndarray, "*stack layers"], *, nowhere: float
    ) -> Float[np.ndarray, "*stack"]:
        depths = self._depths()
        distances = np.where(found >= 0, depths[found] - depths, 0.0).sum(axis=-1)
        count = (found >= 0).sum(axis=-1)
        return np.where(count > 0, distances / np.maximum(count, 1), nowhere)

    def _first_different(
        self, cells: Float[np.ndarray, "*stack layers layers"]
    ) -> Int[np.ndarray, "*stack layers"]:
        """Position of the next layer that differs by more than chance; -1 where none does."""
        losses = self.losses()
        layers = len(losses.value)
        points = [critical_t(losses, max(layers - 1 - k, 1)) for k in range(layers)]
        critical = np.array(points)[:, None] * losses.stderr
        return _first_later(_own(cells) - _mutual(cells) > critical)

    def _first_halved(
        self, cells: Float[np.ndarray, "*stack layers layers"]
    ) -> Int[np.ndarray, "*stack layers"]:
        """Position of the next layer with at most half of the agreement; -1 for none."""
        return _first_later(_mutual(cells) <= _own(cells) / 2)

    def _depths(self) -> Float[np.ndarray, " layers"]:
        return np.array([layer.depth for layer in self.halves.pair.layers_a if layer.trunk])

    def _trunk(self) -> Estimate:
        trunk = self.halves.pair.trunk[0]
        return combined(lambda x: x[..., trunk, :][..., trunk], self.halves.estimate)


def _own(
    cells: Float[np.ndarray, "*stack layers layers"],
) -> Float[np.ndarray, "*stack layers layers"]:
    """How alike two layers would be if they were one: the geometric mean of their ceilings."""
    own = np.diagonal(cells, axis1=-2, axis2=-1)
    own = np.where(own > 0, own, np.nan)
    return np.sqrt(own[..., :, None] * own[..., None, :])


def _mutual(
    cells: Float[np.ndarray, "*stack layers layers"],
) -> Float[np.ndarray, "*stack layers layers"]:
    return (cells + cells.swapaxes(-1, -2)) / 2


def _first_later(
    such: Bool[np.ndarray, "*stack layers layers"],
) -> Int[np.ndarray, "*stack layers"]:
    """For each row the first column after it that is such; -1 for none."""
    later = such & np.triu(np.ones(such.shape[-2:], dtype=bool), 1)
    return np.where(later.any(axis=-1), later.argmax(axis=-1), -1)
