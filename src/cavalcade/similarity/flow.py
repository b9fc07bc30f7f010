"""How meaning changes with depth inside one network, and how alike its layers could be."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import t as student

from cavalcade.similarity.derived import Number
from cavalcade.similarity.estimates import Estimate, combined
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
    (1904); NaN where a ceiling is not above 0.
    """

    def mean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        product = (
            np.where(x > 0, x, np.nan)[..., :, None] * np.where(y > 0, y, np.nan)[..., None, :]
        )
        return np.sqrt(product)

    return combined(mean, a, b)


@dataclass(frozen=True)
class Flow:
    """How far apart two layers of one network must be to mean different things.

    Two layers mean different things where probes of the one and of the other, fitted on
    different halves of the training images, agree less than probes of one layer do; by more
    than chance at the 5 % level, over the same blocks.

    Attributes:
        halves: layers by layers, rows fitted on one half and columns on the other.
    """

    halves: LayerMatrix

    def losses(self) -> Estimate:
        """By how much two layers are less alike than each is with itself (layers, layers)."""

        def loss(cells: np.ndarray) -> np.ndarray:
            own = np.diagonal(cells, axis1=-2, axis2=-1)
            return (own[..., :, None] + own[..., None, :] - cells - cells.swapaxes(-1, -2)) / 2

        return combined(loss, self.halves.estimate)

    def curve(self) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
        """Distance of relative depth and loss of all pairs of different trunk layers."""
        depths = np.array([layer.depth for layer in self.halves.pair.layers_a if layer.trunk])
        first, second = np.triu_indices(len(depths), 1)
        return depths[second] - depths[first], self._of_trunk(self.losses()).value[first, second]

    def table(self) -> pd.DataFrame:
        """For each trunk layer the next one that means something else.

        Columns: network, layer, depth, differs_from, distance (of relative depth), loss (how
        much less alike they are), stderr. NaN where no later layer differs.
        """
        layers = [layer for layer in self.halves.pair.layers_a if layer.trunk]
        losses = self._of_trunk(self.losses())
        first = self._first_different(losses.value)
        rows = []
        for k, layer in enumerate(layers):
            found = first[k]
            other = layers[found] if found >= 0 else None
            rows.append(
                {
                    "network": self.halves.pair.network_a,
                    "layer": layer.name,
                    "depth": layer.depth,
                    "differs_from": other.name if other else "",
                    "distance": other.depth - layer.depth if other else np.nan,
                    "loss": losses.value[k, found] if other else np.nan,
                    "stderr": losses.stderr[k, found] if other else np.nan,
                }
            )
        return pd.DataFrame(rows)

    def distance(self, weights: Int[np.ndarray, "resamples blocks"]) -> Number:
        """Mean over layers of the distance to the next one that means something else.

        NaN where no layer differs from a later one.
        """
        losses = self._of_trunk(self.losses())
        replicates = losses.replicates(weights)
        return Number(
            float(self._mean_distance(losses.value)),
            self._mean_distance(replicates),
            weights.shape[1],
            np.empty(0),
        )

    def _mean_distance(
        self, losses: Float[np.ndarray, "*stack layers layers"]
    ) -> Float[np.ndarray, "*stack"]:
        depths = np.array([layer.depth for layer in self.halves.pair.layers_a if layer.trunk])
        first = self._first_different(losses)
        distances = np.where(first >= 0, depths[first] - depths, 0.0).sum(axis=-1)
        count = (first >= 0).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, distances / np.maximum(count, 1), np.nan)

    def _first_different(
        self, losses: Float[np.ndarray, "*stack layers layers"]
    ) -> Int[np.ndarray, "*stack layers"]:
        """Position of the next layer that differs; -1 where none does."""
        stderr = self._of_trunk(self.losses()).stderr
        critical = student.ppf(0.95, max(len(self.halves.estimate.without) - 1, 1)) * stderr
        later = np.triu(np.ones(stderr.shape, dtype=bool), 1)
        differs = later & (losses > critical)
        return np.where(differs.any(axis=-1), differs.argmax(axis=-1), -1)

    def _of_trunk(self, cells: Estimate) -> Estimate:
        trunk = self.halves.pair.trunk[0]
        return combined(lambda x: x[..., trunk, :][..., trunk], cells)
