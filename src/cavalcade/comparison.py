"""Compares finished runs: from their masks and features to layer matrices. Loads no network."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cavalcade.comparable import check_comparable, check_nulls, distinct_names, random_twins
from cavalcade.errors import InputError, check_choice, check_whole
from cavalcade.report.progress import progress
from cavalcade.runs import Run
from cavalcade.similarity import (
    CONCEPT_MEASURES,
    FEATURE_MEASURES,
    KEYS,
    WITHOUT_CHANCE,
    Estimate,
    Firing,
    LayerMatrix,
    Pair,
    PairCells,
    attainable,
    ceilings,
    feature_similarity,
    fixed_concepts,
    mean_over,
    prepare,
    repaired_orders,
    similarity_of_pairs,
)
from cavalcade.similarity.threads import in_threads

MEASURES = (*CONCEPT_MEASURES, *FEATURE_MEASURES)
REPAIRINGS = 16

Key = tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """All pairs of some runs, each network with itself among them.

    Attributes:
        similarity: the measure that networks are compared by.
        networks: names of the runs, in the order of comparison.
        random: which of them have random weights.
        twins: for each trained network its random twins.
        architectures: a digest for each network.
        num_blocks: of test images.
        matrices: for each measure one for each pair; measures that the similarity is only held
            against have none of a network with itself, and no re-paired images.
        halves: for each measure of concepts and each network that has them, its probes of one
            half of the training images (rows) against those of the other.
        concept_similarity: a row for each pair of layers, concept and measure.
        left_out: the concepts that no matrix averages over, since one of them has no value.
    """

    similarity: str
    networks: tuple[str, ...]
    random: Mapping[str, bool]
    twins: Mapping[str, tuple[str, ...]]
    architectures: Mapping[str, str]
    num_blocks: int
    matrices: Mapping[str, tuple[LayerMatrix, ...]]
    halves: Mapping[str, Mapping[str, LayerMatrix]]
    concept_similarity: pd.DataFrame
    left_out: tuple[str, ...]

    @property
    def layer_similarity(self) -> pd.DataFrame:
        """A row for each pair of layers and measure, with standard error, ceiling and share."""
        matrices = itertools.chain.from_iterable(self.matrices.values())
        return pd.concat([self._tidy(matrix) for matrix in matrices], ignore_index=True)

    @property
    def undefined(self) -> pd.DataFrame:
        """The cells of `concept_similarity` that are empty, too rare, or have no chance level."""
        table = self.concept_similarity
        return table.loc[table["value"].isna(), [*KEYS, "concept", "measure"]]

    def between(self, measure: str) -> tuple[LayerMatrix, ...]:
        """The matrices of different networks."""
        return tuple(matrix for matrix in self.matrices[measure] if not matrix.pair.of_one)

    def kind(self, pair: Pair) -> str:
        """`trained`, `random` or `mixed`, after the weights of both."""
        kinds = {self.random[pair.network_a], self.random[pair.network_b]}
        return "mixed" if len(kinds) == 2 else "random" if kinds == {True} else "trained"

    def matrix(self, network_a: str, network_b: str, measure: str = "adjusted") -> pd.DataFrame:
        """One matrix, layers of the first network by layers of the second.

        Raises:
            InputError: if there is none such.
        """
        return matrix_of(self.layer_similarity, network_a, network_b, measure)

    def layer_matrix(self, network_a: str, network_b: str, measure: str) -> LayerMatrix:
        """The matrix of two networks, rows of the first, with all that its errors need.

        Raises:
            InputError: if there is none such.
        """
        check_choice("measure", measure, self.matrices)
        for network in (network_a, network_b):
            check_choice("network", network, self.networks)
        for matrix in self.matrices[measure]:
            names = (matrix.pair.network_a, matrix.pair.network_b)
            if names == (network_a, network_b):
                return matrix
            if names == (network_b, network_a):
                return matrix.transposed()
        raise InputError(
            f"{measure} was made between different networks alone; compare by it with "
            f"similarity={measure}"
        )

    def attainable(self, matrix: LayerMatrix) -> Estimate | None:
        """How alike two probes of such layers are, from the split halves of both networks.

        None without halves, and for measures with a chance level, which is no share of anything.
        """
        found = self.halves.get(matrix.measure, {})
        names = (matrix.pair.network_a, matrix.pair.network_b)
        if not matrix.without_chance or not all(name in found for name in names):
            return None
        return attainable(*(ceilings(found[name]) for name in names))

    def _tidy(self, matrix: LayerMatrix) -> pd.DataFrame:
        most = self.attainable(matrix)
        ceiling = np.full(matrix.values.size, np.nan) if most is None else most.value.ravel()
        table = matrix.tidy()
        return table.assign(ceiling=ceiling, share_of_ceiling=table["value"] / ceiling)


def matrix_of(
    layer_similarity: pd.DataFrame, network_a: str, network_b: str, measure: str
) -> pd.DataFrame:
    """One matrix out of a table of layer similarities, layers in depth order.

    Raises:
        InputError: if the table holds no such pair or measure.
    """
    rows = layer_similarity[layer_similarity["measure"] == measure]
    for a, b in ((network_a, network_b), (network_b, network_a)):
        cells = rows[(rows["network_a"] == a) & (rows["network_b"] == b)]
        if len(cells):
            matrix = cells.pivot(index="layer_a", columns="layer_b", values="value")
            matrix = matrix.loc[cells["layer_a"].unique(), cells["layer_b"].unique()]
            matrix = matrix.rename_axis(index=a, columns=b)
            return matrix if a == network_a else matrix.T
    networks, measures = (
        ", ".join(layer_similarity[column].unique()) for column in ("network_a", "measure")
    )
    raise InputError(
        f"no {measure!r} matrix of {network_a!r} and {network_b!r}; networks: {networks}; "
        f"measures: {measures}"
    )


def compare(
    runs: Sequence[Run],
    similarity: str = "adjusted",
    against: Sequence[str] = (),
    repairings: int = REPAIRINGS,
) -> Comparison:
    """Compare every run with every other and with itself.

    Args:
        runs: of one data set.
        similarity: one of `MEASURES`; those of concepts are always made.
        against: other measures that it is held against.
        repairings: how often whole blocks of images are re-paired, for the nulls.

    Raises:
        InputError: if the runs cannot be compared.
    """
    if not runs:
        raise InputError("there is no run to compare; name some with runs=")
    check_measures(similarity, against)
    check_whole("repairings", repairings, 0)
    check_comparable(runs)
    check_nulls(runs)
    names = distinct_names(runs)
    blocks = np.array(runs[0].truth.blocks)
    orders = repaired_orders(blocks, repairings)
    pairs = {
        (i, j): Pair(names[i], runs[i].layers, names[j], runs[j].layers)
        for i, j in itertools.combinations_with_replacement(range(len(runs)), 2)
    }
    counted = _Counted(runs, pairs, orders)
    matrices: dict[str, tuple[LayerMatrix, ...]] = counted.matrices()
    if similarity in FEATURE_MEASURES:
        matrices[similarity] = _of_features(runs, pairs, similarity, blocks, orders)
    different = {key: pair for key, pair in pairs.items() if not pair.of_one}
    for measure in against:
        if measure not in matrices:
            matrices[measure] = _of_features(runs, different, measure, blocks, orders[:0])
    return Comparison(
        similarity=similarity,
        networks=names,
        random={name: run.random for name, run in zip(names, runs, strict=True)},
        twins=_twins(names, runs),
        architectures={name: run.architecture for name, run in zip(names, runs, strict=True)},
        num_blocks=int(blocks.max()) + 1,
        matrices=matrices,
        halves=counted.halves(),
        concept_similarity=counted.table(),
        left_out=tuple(name for name in runs[0].concepts if name not in counted.kept[1]),
    )


def check_measures(similarity: str, against: Sequence[str]) -> None:
    """Raise unless all of these are measures.

    Raises:
        InputError: naming the setting and the one that is none.
    """
    check_choice("similarity", similarity, MEASURES)
    for measure in against:
        check_choice("agreement", measure, MEASURES)


def _twins(names: Sequence[str], runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    called = dict(zip(map(id, runs), names, strict=True))
    return {
        called[id(run)]: tuple(called[id(twin)] for twin in random_twins(run, runs)) for run in runs
    }


def _of_features(
    runs: Sequence[Run],
    pairs: Mapping[Key, Pair],
    measure: str,
    blocks: Int[np.ndarray, " images"],
    orders: Int[np.ndarray, "repairings images"],
) -> tuple[LayerMatrix, ...]:
    """Matrices of one measure of pooled features."""
    features = [[run.features(layer.name).numpy() for layer in run.layers] for run in runs]
    prepared = [prepare(measure, layers) for layers in features]

    def estimate(key: Key) -> Estimate:
        return feature_similarity(prepared[key[0]], prepared[key[1]], blocks)

    estimates = list(progress(in_threads(estimate, pairs), measure, len(pairs)))
    repaired: list[list[np.ndarray]] = [[] for _ in pairs]
    for order in progress(orders, f"{measure} of re-paired images", len(orders)):
        # not always a permutation, where blocks differ in size: so prepared from the start
        other = [prepare(measure, [layer[order] for layer in layers]) for layers in features]
        for (i, j), found in zip(pairs, repaired, strict=True):
            found.append(prepared[i].similarity(other[j]))
    return tuple(
        LayerMatrix(pair, measure, value, np.array(again).reshape(len(orders), *value.value.shape))
        for pair, value, again in zip(pairs.values(), estimates, repaired, strict=True)
    )


class _Counted:
    """All concepts in all pairs of runs, counted one concept after the other."""

    def __init__(
        self,
        runs: Sequence[Run],
        pairs: Mapping[Key, Pair],
        orders: Int[np.ndarray, "repairings images"],
    ) -> None:
        self.runs, self.pairs = runs, pairs
        self.concepts = runs[0].concepts
        truth = runs[0].truth
        self.blocks, self.orders = torch.tensor(truth.blocks), torch.from_numpy(orders)
        self.cells: dict[Key, list[PairCells]] = {key: [] for key in pairs}
        self.half_cells: dict[int, list[PairCells]] = {
            i: [] for i, run in enumerate(runs) if run.has_halves
        }
        for concept in progress(
            range(len(self.concepts)), "comparing where concepts fire", len(self.concepts)
        ):
            self._count(concept, truth.strata(concept))
        self.kept = self._fixed()

    def _fixed(self) -> tuple[list[int], tuple[str, ...]]:
        """The concepts that every matrix averages over, so that all can be compared.

        Those defined in all cells of all pairs of different networks, and of all halves.
        """
        between = [part for (i, j), part in self.cells.items() if i != j]
        parts = [*(between or self.cells.values()), *self.half_cells.values()]
        estimates = [
            [cells[k].measures[measure] for cells in parts for measure in CONCEPT_MEASURES]
            for k in range(len(self.concepts))
        ]
        return fixed_concepts(estimates, self.concepts)

    def _count(self, concept: int, strata: Bool[Tensor, "images strata pixels"]) -> None:
        firing = [
            Firing(run.concept_masks(concept), run.seen, run.found(concept)) for run in self.runs
        ]
        found = similarity_of_pairs(firing, list(self.pairs), strata, self.blocks, self.orders)
        for key, cells in zip(self.pairs, found, strict=True):
            self.cells[key].append(cells)
        for i, part in self.half_cells.items():
            run = self.runs[i]
            halves = [
                Firing(run.half_masks(half, concept), run.seen, run.found(concept, half))
                for half in (1, 2)
            ]
            part += similarity_of_pairs(halves, [(0, 1)], strata, self.blocks, self.orders[:0])

    def matrices(self) -> dict[str, tuple[LayerMatrix, ...]]:
        """For each measure the matrices of all pairs."""
        return {
            measure: tuple(
                self._mean(pair, measure, self.cells[key]) for key, pair in self.pairs.items()
            )
            for measure in CONCEPT_MEASURES
        }

    def halves(self) -> dict[str, dict[str, LayerMatrix]]:
        """For each measure and network the matrix of its two halves."""
        return {
            measure: {
                self.pairs[i, i].network_a: self._mean(self.pairs[i, i], measure, part)
                for i, part in self.half_cells.items()
            }
            for measure in CONCEPT_MEASURES
        }

    def table(self) -> pd.DataFrame:
        """A row for each pair of layers, concept and measure, with its standard error."""
        tables = [
            pair.cells().assign(
                concept=concept,
                measure=measure,
                value=cells.measures[measure].value.ravel(),
                stderr=cells.measures[measure].stderr.ravel(),
            )
            for key, pair in self.pairs.items()
            for concept, cells in zip(self.concepts, self.cells[key], strict=True)
            for measure in CONCEPT_MEASURES
        ]
        return pd.concat(tables, ignore_index=True)

    def _mean(self, pair: Pair, measure: str, cells: Sequence[PairCells]) -> LayerMatrix:
        positions, names = self.kept
        estimate = mean_over([part.measures[measure] for part in cells], positions)
        again = [cells[k].repaired[measure] for k in positions]
        repaired = np.nanmean(again, axis=0) if again else np.empty((0, *estimate.value.shape))
        return LayerMatrix(
            pair, measure, estimate, repaired, names, without_chance=measure in WITHOUT_CHANCE
        )
