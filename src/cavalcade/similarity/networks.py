"""Network x network: which networks are alike, and how they cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cavalcade.errors import InputError
from cavalcade.similarity.derived import Number

Numbers = Mapping[tuple[str, str], Number]


@dataclass(frozen=True)
class NetworkMatrix:
    """One similarity for each pair of networks, in both orders.

    Attributes:
        networks: names of rows and columns.
        pairs: the similarity of each pair of different networks, in one order.
    """

    networks: tuple[str, ...]
    pairs: Numbers

    def __getitem__(self, names: tuple[str, str]) -> Number:
        """The similarity of two networks, in either order.

        Raises:
            InputError: if they are not of this matrix, or one network twice.
        """
        if names not in self.pairs and names[::-1] not in self.pairs:
            raise InputError(
                f"no pair of {names[0]!r} and {names[1]!r}; give two of {', '.join(self.networks)}"
            )
        return self.pairs[names] if names in self.pairs else self.pairs[names[::-1]]

    def frame(self) -> pd.DataFrame:
        """The matrix with names, NaN on the diagonal."""
        return pd.DataFrame(
            self._filled(np.array([number.value for number in self.pairs.values()]), np.nan),
            index=pd.Index(self.networks, name="network"),
            columns=list(self.networks),
        )

    def tree(self) -> "Tree | None":
        """The networks clustered; None for fewer than three, or if a similarity is undefined."""
        values = np.array([number.value for number in self.pairs.values()])
        if len(self.networks) < 3 or not np.isfinite(values).all():
            return None
        replicates = np.stack([number.replicates for number in self.pairs.values()])
        steps = self._linkage(values)
        clusters = _clusters(steps)
        again = [set(_clusters(self._linkage(column))) for column in replicates.T]
        support = tuple(float(np.mean([c in found for found in again])) for c in clusters)
        return Tree(self.networks, steps, support)

    def of(self, network: str) -> dict[str, Number]:
        """The similarity of one network with each other."""
        return {other: self[network, other] for other in self.networks if other != network}

    def _linkage(self, values: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, "merges 4"]:
        """Average linkage on the distance 1 - similarity, at least 0: noise may go beyond 1."""
        distances = np.clip(1 - values, 0, None)
        return linkage(squareform(self._filled(distances, 0.0)), method="average")

    def _filled(
        self, values: Float[np.ndarray, " pairs"], diagonal: float
    ) -> Float[np.ndarray, "n n"]:
        matrix = np.full((len(self.networks), len(self.networks)), diagonal)
        a, b = self._places
        matrix[a, b] = matrix[b, a] = values
        return matrix

    @cached_property
    def _places(self) -> Int[np.ndarray, "2 pairs"]:
        """Row and column of each pair."""
        places = {name: k for k, name in enumerate(self.networks)}
        return np.array([(places[a], places[b]) for a, b in self.pairs], dtype=int).reshape(-1, 2).T


@dataclass(frozen=True)
class Tree:
    """Networks clustered by average linkage.

    Attributes:
        networks: the leaves.
        linkage: SciPy's linkage matrix of the distances 1 - similarity.
        support: for each merge, the share of bootstrap resamples of blocks that make it too.
    """

    networks: tuple[str, ...]
    linkage: Float[np.ndarray, "merges 4"]
    support: tuple[float, ...]

    def drawn(self) -> "DrawnTree":
        """Where everything lies in a picture of the tree."""
        order = leaves_list(self.linkage)
        places = np.empty(2 * len(order) - 1)
        heights = np.zeros_like(places)
        places[order] = np.arange(len(order))
        merges = []
        for merge, (first, second, height, _) in enumerate(self.linkage, start=len(order)):
            left, right = sorted((int(first), int(second)), key=lambda node: places[node])
            places[merge], heights[merge] = (places[left] + places[right]) / 2, height
            merges.append(
                Merge(
                    across=(places[left], places[left], places[right], places[right]),
                    heights=(heights[left], height, height, heights[right]),
                    support=self.support[merge - len(order)],
                )
            )
        return DrawnTree(tuple(int(leaf) for leaf in order), tuple(merges))


@dataclass(frozen=True)
class Merge:
    """A merge of two clusters, drawn as three sides of a rectangle.

    Attributes:
        across: the place of the corners among the leaves; a leaf has its place in the order, a
            cluster lies between the two that it is made of.
        heights: of the corners, in units of the linkage; leaves are at 0.
        support: see `Tree`.
    """

    across: tuple[float, float, float, float]
    heights: tuple[float, float, float, float]
    support: float

    @property
    def middle(self) -> float:
        """Where the cluster lies among the leaves."""
        return (self.across[0] + self.across[-1]) / 2


@dataclass(frozen=True)
class DrawnTree:
    """A tree as it is drawn, without lines that cross.

    Attributes:
        order: numbers of the leaves.
        merges: in the order of the linkage.
    """

    order: tuple[int, ...]
    merges: tuple[Merge, ...]


def _clusters(steps: Float[np.ndarray, "merges 4"]) -> list[frozenset[int]]:
    """The leaves below each merge."""
    leaves = len(steps) + 1
    members = [frozenset([leaf]) for leaf in range(leaves)]
    for left, right in steps[:, :2].astype(int):
        members.append(members[left] | members[right])
    return members[leaves:]
