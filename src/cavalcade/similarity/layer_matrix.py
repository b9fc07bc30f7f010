"""How alike the layers of two networks are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from cavalcade.backbones import Layer
from cavalcade.similarity.estimates import Estimate, combined

KEYS = ["network_a", "layer_a", "depth_a", "network_b", "layer_b", "depth_b"]


@dataclass(frozen=True)
class Pair:
    """Two networks with their layers in execution order; may be one network twice."""

    network_a: str
    layers_a: tuple[Layer, ...]
    network_b: str
    layers_b: tuple[Layer, ...]

    @property
    def of_one(self) -> bool:
        """Whether a network is paired with itself."""
        return self.network_a == self.network_b

    @property
    def title(self) -> str:
        """The pair as it is called in plots and tables."""
        if self.of_one:
            return f"{self.network_a} with itself"
        return f"{self.network_a} and {self.network_b}"

    @property
    def trunk(self) -> tuple[Bool[np.ndarray, " layers_a"], Bool[np.ndarray, " layers_b"]]:
        """Which layers of either network belong to its trunk."""
        a, b = (
            np.array([layer.trunk for layer in part], dtype=bool)
            for part in (self.layers_a, self.layers_b)
        )
        return a, b

    def cells(self) -> pd.DataFrame:
        """A row for each pair of layers, row by row: names and depths."""
        rows = [
            (self.network_a, a.name, a.depth, self.network_b, b.name, b.depth)
            for a in self.layers_a
            for b in self.layers_b
        ]
        return pd.DataFrame(rows, columns=KEYS)


@dataclass(frozen=True)
class LayerMatrix:
    """A measure for every layer of one network with every layer of another.

    Attributes:
        pair: names and layers of rows and columns.
        measure: `adjusted`, `cka`, and so on.
        estimate: rows are layers of the first network; NaN where not defined.
        repaired: the same of re-paired images: what chance gives; may be empty.
        concepts: the concepts averaged over, the same in every cell; none for measures that
            know no concepts.
        without_chance: cells of unrelated networks are 0 on average, by definition.
    """

    pair: Pair
    measure: str
    estimate: Estimate
    repaired: Float[np.ndarray, "repairings rows columns"]
    concepts: tuple[str, ...] = ()
    without_chance: bool = False

    @property
    def values(self) -> Float[np.ndarray, "rows columns"]:
        """The matrix itself."""
        return self.estimate.value

    @property
    def n_concepts(self) -> float:
        """How many concepts are averaged over; NaN for measures that know none by name."""
        return float(len(self.concepts)) if self.concepts else float("nan")

    def frame(self) -> pd.DataFrame:
        """The matrix with the names of its layers."""
        return pd.DataFrame(
            self.values,
            index=pd.Index([layer.name for layer in self.pair.layers_a], name=self.pair.network_a),
            columns=pd.Index(
                [layer.name for layer in self.pair.layers_b], name=self.pair.network_b
            ),
        )

    def tidy(self) -> pd.DataFrame:
        """A row for each cell."""
        return self.pair.cells().assign(
            measure=self.measure,
            value=self.values.ravel(),
            stderr=self.estimate.stderr.ravel(),
            n_concepts=self.n_concepts,
        )

    def transposed(self) -> "LayerMatrix":
        """The same with rows and columns changed over."""
        pair = self.pair
        return LayerMatrix(
            Pair(pair.network_b, pair.layers_b, pair.network_a, pair.layers_a),
            self.measure,
            combined(lambda cells: cells.swapaxes(-1, -2), self.estimate),
            self.repaired.swapaxes(-1, -2),
            self.concepts,
            self.without_chance,
        )


def fixed_concepts(
    defined: Sequence[Bool[np.ndarray, " concepts"]], names: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """Positions and names of the concepts that are defined in every matrix.

    One set serves all matrices: means over different concepts could not be compared.

    Args:
        defined: for each matrix, the concepts of which all cells are finite, with their errors.
        names: of the concepts.
    """
    kept = np.flatnonzero(np.all(defined, axis=0)).tolist()
    return kept, tuple(names[k] for k in kept)


def mean_over(cells: Sequence[Estimate], kept: Sequence[int]) -> Estimate:
    """Mean over some of the concepts; all NaN where there are none."""
    if not kept:
        return combined(lambda x: np.full(x.shape, np.nan), cells[0])
    count = len(kept)
    return combined(lambda *parts: sum(parts) / count, *(cells[k] for k in kept))
