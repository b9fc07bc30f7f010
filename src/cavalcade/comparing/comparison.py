"""Compares finished runs: from their masks and features to layer matrices. Loads no network."""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cavalcade.comparing.chunks import Key
from cavalcade.comparing.comparable import (
    check_comparable,
    check_nulls,
    distinct_names,
    random_twins,
    say_differences,
    say_left_out,
)
from cavalcade.comparing.feature_matrices import feature_matrices
from cavalcade.comparing.matrices import ConceptMatrices
from cavalcade.comparing.mined_matrices import MinedMatrices
from cavalcade.comparing.pair_store import PairsInMemory, PairsOnDisk, PairStore
from cavalcade.errors import InputError, check_choice, check_whole
from cavalcade.runs import MinedRun, ProbedRun, Run
from cavalcade.similarity import (
    CONCEPT_MEASURES,
    FEATURE_MEASURES,
    KEYS,
    MINED_MEASURES,
    ConceptCells,
    Estimate,
    LayerMatrix,
    Pair,
    attainable,
    ceilings,
    repaired_orders,
    tidy,
)

log = logging.getLogger(__name__)

MEASURES = (*dict.fromkeys(CONCEPT_MEASURES + MINED_MEASURES), *FEATURE_MEASURES)
REPAIRINGS = 16
KINDS = ("trained", "mixed", "random")  # of pairs, in the order in which they are shown


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
        concept_similarity: a row for each pair of layers, labelled concept and measure.
        weights: a digest for each network.
        left_out: the concepts that no matrix averages over, since one of them has no value.
        concept_cells: for each pair of mined runs their concepts with each other.
        store: where numbers of pairs are kept.
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
    weights: Mapping[str, str] = field(default_factory=dict)
    concept_cells: Mapping[tuple[str, str], ConceptCells] = field(default_factory=dict)
    store: PairStore = field(default_factory=PairsInMemory)

    @property
    def layer_similarity(self) -> pd.DataFrame:
        """A row for each pair of layers and measure, with standard error, ceiling and share."""
        matrices = list(itertools.chain.from_iterable(self.matrices.values()))
        table, ceiling = tidy(matrices), np.concatenate([self._ceiling(m) for m in matrices])
        return table.assign(ceiling=ceiling, share_of_ceiling=table["value"] / ceiling)

    @property
    def undefined(self) -> pd.DataFrame:
        """The cells of `concept_similarity` that are empty, too rare, or have no chance level."""
        table = self.concept_similarity
        if table.empty:
            return table
        return table.loc[table["value"].isna(), [*KEYS, "concept", "measure"]]

    def between(self, measure: str) -> tuple[LayerMatrix, ...]:
        """The matrices of different networks."""
        return tuple(matrix for matrix in self.matrices[measure] if not matrix.pair.of_one)

    def kind(self, pair: Pair) -> str:
        """`trained`, `random` or `mixed`, after the weights of both."""
        kinds = {self.random[pair.network_a], self.random[pair.network_b]}
        return "mixed" if len(kinds) == 2 else "random" if kinds == {True} else "trained"

    def rank(self, pair: Pair) -> int:
        """Place of a pair's kind in `KINDS`: pairs are shown in this order."""
        return KINDS.index(self.kind(pair))

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

    def _ceiling(self, matrix: LayerMatrix) -> Float[np.ndarray, " cells"]:
        most = self.attainable(matrix)
        return np.full(matrix.values.size, np.nan) if most is None else most.value.ravel()


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
    cache: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Compare every run with every other and with itself.

    A pair is computed once: the numbers are the same, to the last bit, whether it is computed or
    read from the cache, and whichever runs it is compared beside.

    Args:
        runs: of one data set.
        similarity: one of `MEASURES`; those of concepts are always made.
        against: other measures that it is held against.
        repairings: how often whole blocks of images are re-paired, for the nulls.
        cache: folder in which pairs are kept for other comparisons; None keeps nothing.

    Raises:
        InputError: if the runs cannot be compared, or the cache cannot be written.
    """
    if not runs:
        raise InputError("there is no run to compare; name some with runs=")
    check_measures(similarity, against)
    check_whole("repairings", repairings, 0)
    check_comparable(runs)
    _check_measures_of(runs[0], similarity, *against)
    check_nulls(runs)
    say_differences(runs)
    say_left_out(runs)
    names = distinct_names(runs)
    blocks = np.array(runs[0].truth.blocks)
    orders = repaired_orders(blocks, repairings)
    pairs = {
        (i, j): Pair(names[i], runs[i].layers, names[j], runs[j].layers)
        for i, j in itertools.combinations_with_replacement(range(len(runs)), 2)
    }
    store = PairsInMemory() if cache is None else PairsOnDisk(Path(cache).expanduser())
    counted = _counted(runs, pairs, orders, store)
    matrices: dict[str, tuple[LayerMatrix, ...]] = counted.matrices()
    if similarity in FEATURE_MEASURES:
        matrices[similarity] = feature_matrices(runs, pairs, similarity, blocks, orders, store)
    different = {key: pair for key, pair in pairs.items() if not pair.of_one}
    for measure in against:
        if measure not in matrices:
            again = orders[:0]
            matrices[measure] = feature_matrices(runs, different, measure, blocks, again, store)
    if cache is not None:
        _say_computed(len(store.computed), len(pairs), cache)
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
        left_out=counted.left_out,
        weights={name: run.weights for name, run in zip(names, runs, strict=True)},
        concept_cells=counted.concept_cells(),
        store=store,
    )


def _say_computed(computed: int, pairs: int, cache: str | os.PathLike[str]) -> None:
    log.info(
        "%d of %d pairs computed, %d read from %s",
        *(computed, pairs, pairs - computed, os.fspath(cache)),
    )


def _counted(
    runs: Sequence[Run],
    pairs: Mapping[Key, Pair],
    orders: Int[np.ndarray, "repairings images"],
    store: PairStore,
) -> ConceptMatrices | MinedMatrices:
    """All concepts of runs of one method."""
    mined = [run for run in runs if isinstance(run, MinedRun)]
    if mined:
        return MinedMatrices(mined, pairs, orders, store)
    probed = [run for run in runs if isinstance(run, ProbedRun)]
    return ConceptMatrices(probed, pairs, orders, store)


def check_measures(similarity: str, against: Sequence[str]) -> None:
    """Raise unless all of these are measures.

    Raises:
        InputError: naming the setting and the one that is none.
    """
    check_choice("similarity", similarity, MEASURES)
    for measure in against:
        check_choice("agreement", measure, MEASURES)


def _check_measures_of(run: Run, *measures: str) -> None:
    """Raise for a measure of probed concepts on mined runs, or the reverse.

    Raises:
        InputError: naming it.
    """
    known = MINED_MEASURES if isinstance(run, MinedRun) else CONCEPT_MEASURES
    for measure in measures:
        if measure not in (*known, *FEATURE_MEASURES):
            raise InputError(
                f"{measure} does not exist between runs of {run.method}; give one of "
                f"{', '.join((*known, *FEATURE_MEASURES))}"
            )


def _twins(names: Sequence[str], runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    called = dict(zip(map(id, runs), names, strict=True))
    return {
        called[id(run)]: tuple(called[id(twin)] for twin in random_twins(run, runs)) for run in runs
    }
