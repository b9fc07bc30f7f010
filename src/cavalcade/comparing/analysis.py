"""What a comparison says: numbers of each pair and network, with errors and nulls."""

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cavalcade.comparing.comparison import Comparison
from cavalcade.comparing.concept_matches import concept_matches
from cavalcade.comparing.pair_store import bytes_digest
from cavalcade.comparing.stored_numbers import stored_numbers
from cavalcade.errors import InputError, check_choice
from cavalcade.similarity import LayerMatrix, block_weights
from cavalcade.similarity.agreement import agreement, disagreements
from cavalcade.similarity.depth import match_columns
from cavalcade.similarity.derived import (
    Number,
    ceiling_number,
    cell_number,
    null_difference,
    rows_of,
    share_numbers,
)
from cavalcade.similarity.flow import Flow, ceilings, trunk_ceilings
from cavalcade.similarity.nearer import nearer_layers, nearer_networks, nearer_of
from cavalcade.similarity.networks import NetworkMatrix, Tree
from cavalcade.similarity.threads import in_threads

Names = tuple[str, str]
Named = str | tuple[str, str]


class Analysis:
    """The numbers derived from a comparison; each is made when it is asked for.

    Attributes:
        comparison: of some runs.
        similarity: the measure that they are compared by.
        weights: of the block bootstrap, the same for all numbers.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison, self.similarity = comparison, comparison.similarity
        self.weights = block_weights(comparison.num_blocks)

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[Names, Mapping[str, Number]]]:
        """For each measure and pair of different networks its statistics."""
        weights = bytes_digest(self.weights)
        return {
            measure: {
                (matrix.pair.network_a, matrix.pair.network_b): numbers
                for matrix, numbers in self._all_numbers(measure, weights)
            }
            for measure in self.comparison.matrices
        }

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """A row for each pair of different networks, measure and statistic.

        Columns: network_a, network_b, kind (trained, random, mixed), measure, statistic, value,
        stderr, low and high (interval of 95 %), repaired (mean over re-paired images) and
        z_repaired, random (the same of the random twins) and z_random, n_concepts.
        """
        about, numbers = list[tuple[Any, ...]](), list[Number]()
        nulls = list[tuple[float, float]]()
        for measure in self.numbers:
            for matrix in self.comparison.between(measure):
                names = (matrix.pair.network_a, matrix.pair.network_b)
                found, twins = self.numbers[measure][names], self.twin_numbers(measure, names)
                kind = self.comparison.kind(matrix.pair)
                for statistic, number in found.items():
                    about.append((*names, kind, measure, statistic, matrix.n_concepts))
                    null = null_difference(number, twins.get(statistic) if twins else None)
                    nulls.append((null["random"], null["z_random"]))
                    numbers.append(number)
        table = pd.DataFrame(about, columns=[*PAIR_COLUMNS[:5], "n_concepts"])
        if numbers:
            table[list(PAIR_COLUMNS[5:11])] = pd.DataFrame(rows_of(numbers))
            table[["random", "z_random"]] = nulls
        return table.reindex(columns=PAIR_COLUMNS)

    @cached_property
    def best_matches(self) -> pd.DataFrame:
        """The best-match curve of each pair of different networks; see `match_columns`."""
        matrices = self.comparison.between(self.similarity)
        parts = list(in_threads(lambda matrix: match_columns(matrix, self.weights), matrices))
        if not parts:
            return pd.DataFrame()
        sizes = [len(part["layer"]) for part in parts]
        a, b = (
            np.repeat(np.array([getattr(m.pair, side) for m in matrices], dtype=object), sizes)
            for side in ("network_a", "network_b")
        )
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return pd.DataFrame(table | {"network_a": a, "network_b": b})

    @cached_property
    def concept_matches(self) -> pd.DataFrame:
        """Partners among the concepts of mined runs; see `concept_matches`."""
        tables = []
        for matrix in self.comparison.between(self.similarity):
            a, b = matrix.pair.network_a, matrix.pair.network_b
            if (a, b) in self.comparison.concept_cells:
                cells, matches = self.comparison.concept_cells[a, b], self.best_matches
                own = matches[(matches["network_a"] == a) & (matches["network_b"] == b)]
                tables.append(concept_matches(matrix.pair, cells, own, self.comparison.num_blocks))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    @cached_property
    def ceilings(self) -> pd.DataFrame:
        """For each network with split halves, layer and measure: how alike its probes are."""
        tables = []
        for measure, halves in self.comparison.halves.items():
            for network, matrix in halves.items():
                ceiling = ceilings(matrix)
                layers = matrix.pair.layers_a
                tables.append(
                    pd.DataFrame(
                        {
                            "network": network,
                            "layer": [layer.name for layer in layers],
                            "depth": [layer.depth for layer in layers],
                            "trunk": [layer.trunk for layer in layers],
                            "measure": measure,
                            "value": ceiling.value,
                            "stderr": ceiling.stderr,
                            "n_concepts": matrix.n_concepts,
                        }
                    )
                )
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    @cached_property
    def flows(self) -> Mapping[str, Flow]:
        """How meaning changes inside each network that has split halves."""
        halves = self.comparison.halves.get(self.similarity, {})
        return {name: Flow(matrix) for name, matrix in halves.items() if matrix.concepts}

    @cached_property
    def flow(self) -> pd.DataFrame:
        """For each layer of those networks the next that means something else; see `Flow`."""
        tables = [flow.table() for flow in self.flows.values()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    @cached_property
    def networks(self) -> NetworkMatrix:
        """The similarity of each pair of networks."""
        numbers = self.numbers[self.similarity]
        pairs = {names: found["similarity"] for names, found in numbers.items()}
        return NetworkMatrix(self.comparison.networks, pairs)

    @cached_property
    def tree(self) -> Tree | None:
        """The networks clustered; all resamples of blocks are clustered too."""
        return self.networks.tree()

    @cached_property
    def nearer(self) -> pd.DataFrame:
        """For each network and two others which is nearer; see `nearer_networks`."""
        return nearer_networks(self.networks)

    @cached_property
    def nearer_layers(self) -> pd.DataFrame:
        """For each layer and two other networks in which it has the nearer match."""
        return nearer_layers(self.comparison.between(self.similarity), self.weights)

    def is_nearer(self, a: Named, b: Named, c: Named) -> dict[str, object]:
        """Whether `a` is nearer to `b` or to `c`, tested over the same blocks; see `nearer_of`.

        Args:
            a: a network, or a pair of a network and its layer; as are `b` and `c`.
            b: one candidate.
            c: the other.

        Raises:
            InputError: if there is no such network or layer, or networks and layers are mixed.
        """
        called = [each if isinstance(each, str) else ": ".join(each) for each in (b, c)]
        return nearer_of(called[0], self.similarity_of(a, b), called[1], self.similarity_of(a, c))

    def similarity_of(self, a: Named, b: Named) -> Number:
        """The similarity of two networks, or of two layers named with their networks.

        Raises:
            InputError: if there is no such network or layer, or a network is asked for with
                itself or with a layer.
        """
        if isinstance(a, str) and isinstance(b, str):
            others = [name for name in self.comparison.networks if name != a]
            check_choice("network", a, self.comparison.networks)
            check_choice(f"a network to compare with {a}", b, others)
            return self.networks[a, b]
        if isinstance(a, str) or isinstance(b, str):
            raise InputError(
                f"{a!r} and {b!r} are a network and a layer; give two networks, or two pairs of "
                "a network and its layer"
            )
        matrix = self.comparison.layer_matrix(a[0], b[0], self.similarity)
        return cell_number(matrix, a[1], b[1], self.weights)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Rank correlation of the similarity with every other measure; see `agreement`."""
        if len(self.comparison.networks) < 2:
            return pd.DataFrame()
        return agreement(*self._with_others, self.weights)

    @cached_property
    def disagreements(self) -> pd.DataFrame:
        """The layers on which other measures differ most from the similarity."""
        if len(self.comparison.networks) < 2:
            return pd.DataFrame()
        return disagreements(*self._with_others)

    def twin_numbers(self, measure: str, names: Names) -> Mapping[str, Number] | None:
        """The statistics of the `twin_pair` of two trained networks."""
        twins, found = self.twin_pair(names), self.numbers[measure]
        if twins is None:
            return None
        return found[twins] if twins in found else found[twins[::-1]]

    def twin_pair(self, names: Names) -> Names | None:
        """The first two different random twins of two trained networks."""
        pairs = itertools.product(*(self.comparison.twins[name] for name in names))
        return next(((a, b) for a, b in pairs if a != b), None)

    @property
    def _with_others(self) -> tuple[tuple[LayerMatrix, ...], dict[str, tuple[LayerMatrix, ...]]]:
        others = {
            measure: self.comparison.between(measure)
            for measure in self.comparison.matrices
            if measure != self.similarity
        }
        return self.comparison.between(self.similarity), others

    def _all_numbers(
        self, measure: str, weights: str
    ) -> Iterator[tuple[LayerMatrix, dict[str, Number]]]:
        """The numbers of each pair of different networks."""
        store, matrices = self.comparison.store, self.comparison.between(measure)
        ceilings = {
            network: ceiling_number(trunk_ceilings(half), self.weights)
            for network, half in self.comparison.halves.get(measure, {}).items()
        }
        found = in_threads(lambda m: stored_numbers(m, self.weights, weights, store), matrices)
        for matrix, numbers in zip(matrices, found, strict=True):
            both = [ceilings.get(x) for x in (matrix.pair.network_a, matrix.pair.network_b)]
            own = [each for each in both if each is not None]
            if matrix.without_chance and len(own) == 2:
                numbers |= share_numbers(numbers["similarity"], own)
            yield matrix, numbers


PAIR_COLUMNS = (
    *("network_a", "network_b", "kind", "measure", "statistic", "value", "stderr", "low", "high"),
    *("repaired", "z_repaired", "random", "z_random", "n_concepts"),
)
