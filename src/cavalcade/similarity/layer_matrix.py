"""How alike the layers of two networks are, and how well their depths align."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from cavalcade.backbones import Layer

KEYS = ["network_a", "layer_a", "depth_a", "network_b", "layer_b", "depth_b"]


@dataclass(frozen=True)
class Pair:
    """Two networks with their layers in execution order; may be one network twice."""

    network_a: str
    layers_a: tuple[Layer, ...]
    network_b: str
    layers_b: tuple[Layer, ...]

    @property
    def title(self) -> str:
        """The pair as it is called in plots and tables."""
        if self.network_a == self.network_b:
            return f"{self.network_a} with itself"
        return f"{self.network_a} and {self.network_b}"

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
        measure: `jaccard` or `adjusted`.
        values: rows are layers of the first network; NaN where not defined.
        concepts: the concepts averaged over, the same in every cell.
    """

    pair: Pair
    measure: str
    values: Float[np.ndarray, "rows columns"]
    concepts: tuple[str, ...]

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
        cells = self.pair.cells()
        return cells.assign(
            measure=self.measure, value=self.values.ravel(), n_concepts=len(self.concepts)
        )

    def best_matches(self) -> pd.DataFrame:
        """For each trunk layer of either network the trunk layer of the other most like it.

        Columns: network, layer, depth, match, match_depth, value, gap (absolute difference of
        relative depths). A layer without any defined cell has no row.
        """
        return pd.concat(self._both_ways(), ignore_index=True)

    def alignment(self) -> dict[str, float]:
        """Mean best match and mean absolute depth gap, both directions averaged."""
        ways = self._both_ways()
        return {
            "mean_best_match": float(np.mean([way["value"].mean() for way in ways])),
            "depth_gap": float(np.mean([way["gap"].mean() for way in ways])),
        }

    def _both_ways(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        pair = self.pair
        return (
            _best(pair.network_a, pair.layers_a, pair.layers_b, self.values),
            _best(pair.network_b, pair.layers_b, pair.layers_a, self.values.T),
        )


def _best(
    network: str,
    layers: tuple[Layer, ...],
    others: tuple[Layer, ...],
    values: Float[np.ndarray, "layers others"],
) -> pd.DataFrame:
    trunk = np.array([other.trunk for other in others])
    rows = []
    for layer, row in zip(layers, values, strict=True):
        candidates = np.where(trunk & np.isfinite(row), row, -np.inf)
        best = int(candidates.argmax())
        if layer.trunk and np.isfinite(candidates[best]):
            match = others[best]
            gap = abs(layer.depth - match.depth)
            rows.append((network, layer.name, layer.depth, match.name, match.depth, row[best], gap))
    columns = ["network", "layer", "depth", "match", "match_depth", "value", "gap"]
    return pd.DataFrame(rows, columns=columns)


def mean_over_concepts(
    cells: Float[np.ndarray, "concepts rows columns"],
    defined: Float[np.ndarray, "concepts rows columns"],
    names: tuple[str, ...],
) -> tuple[Float[np.ndarray, "rows columns"], tuple[str, ...]]:
    """Mean over the concepts whose `defined` cells are all finite, and which these are.

    One set serves the whole matrix: cells averaged over different concepts could not be
    compared. All NaN where no concept is left.
    """
    kept = np.isfinite(defined).all(axis=(1, 2))
    names = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
    if not names:
        return np.full(cells.shape[1:], np.nan), names
    return cells[kept].mean(axis=0), names
