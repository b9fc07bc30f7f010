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
        return cells_of([self])

    def columns(self) -> list[np.ndarray]:
        """`KEYS` of all pairs of layers, a column each."""
        shape = (len(self.layers_a), len(self.layers_b))
        sides = []
        for network, layers in ((self.network_a, self.layers_a), (self.network_b, self.layers_b)):
            names = np.array([layer.name for layer in layers], dtype=object)
            depths = np.array([layer.depth for layer in layers], dtype=float)
            sides.append((np.full(len(layers), network, dtype=object), names, depths))
        rows, columns = sides
        spread = [np.broadcast_to(part[:, None], shape).ravel() for part in rows]
        return spread + [np.broadcast_to(part, shape).ravel() for part in columns]


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
        """A row for each cell; see `tidy`."""
        return tidy([self])

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


def cells_of(pairs: Sequence[Pair], times: int = 1) -> pd.DataFrame:
    """A row for each pair of layers of each pair of networks: names and depths.

    Args:
        pairs: of networks.
        times: how often the rows of a pair follow each other.
    """
    found = [pair.columns() for pair in pairs]
    columns = {
        name: np.concatenate([np.tile(keys[k], times) for keys in found])
        for k, name in enumerate(KEYS)
    }
    return pd.DataFrame(columns)


def tidy(matrices: Sequence[LayerMatrix]) -> pd.DataFrame:
    """A row for each cell of some matrices."""
    sizes = [matrix.values.size for matrix in matrices]
    measures = np.array([matrix.measure for matrix in matrices], dtype=object)
    return cells_of([matrix.pair for matrix in matrices]).assign(
        measure=np.repeat(measures, sizes),
        value=np.concatenate([matrix.values.ravel() for matrix in matrices]),
        stderr=np.concatenate([matrix.estimate.stderr.ravel() for matrix in matrices]),
        n_concepts=np.repeat([matrix.n_concepts for matrix in matrices], sizes),
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
