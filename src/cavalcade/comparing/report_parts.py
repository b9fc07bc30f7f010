"""What the report of a comparison shows, as plain values and arrays.

The part `start` is there at once: findings, networks, pairs, images. Of each pair, of each
network and of each of its layers there is a part that is loaded when it is looked at.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparable import images_left_out
from cavalcade.comparing.findings import summarise
from cavalcade.comparing.report_answers import (
    concept_agreement,
    layer_matches,
    least_alike,
    left_out,
    most_alike,
    partners,
    why_undefined,
    z_of_chance,
)
from cavalcade.comparing.report_images import masks, pictures, shown_images
from cavalcade.progress import progress
from cavalcade.report.page import Page, Rounded
from cavalcade.runs import MinedRun, ProbedRun, Run
from cavalcade.similarity import MEASURE_TITLES, LayerMatrix, Pair
from cavalcade.similarity.derived import Number, null_difference
from cavalcade.truth import Truth

NAMED = 3  # networks in a title
DECIMALS = 6  # of numbers that the page rounds to three or fewer
SHOWN = {  # numbers of a pair that are there from the start; there are thousands of pairs
    "similarity": ("value", "stderr", "low", "high", "z_repaired", "random"),
    "depth_gap": ("value", "repaired"),
    "share_of_ceiling": ("value",),
}
Names = tuple[str, str]


def write_report(
    analysis: Analysis, runs: Sequence[Run], names: pd.DataFrame | None, folder: Path
) -> None:
    """Write the page of a comparison.

    Args:
        analysis: what it says.
        runs: that were compared.
        names: labels of mined concepts, see `names_of_runs`.
        folder: which is made.
    """
    page, parts = Page(folder), list(ReportParts(analysis, runs, names).all())
    for name, make in progress(parts, "writing the report", len(parts)):
        page.add_part(name, make())


@dataclass(frozen=True)
class ReportParts:
    """All parts of a report.

    Attributes:
        analysis: what a comparison says.
        runs: that were compared.
        labels: of mined concepts.
    """

    analysis: Analysis
    runs: Sequence[Run]
    labels: pd.DataFrame | None

    def all(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """The name of each part, and what makes it."""
        yield "start", self.start
        for pair in self.pairs:
            yield self.name_of(pair), partial(self.pair, pair)
        for number, run in enumerate(self.runs):
            yield f"network-{number}", partial(self.network, number)
            for place, layer in enumerate(run.layers if self.images else ()):
                yield f"masks-{number}-{place}", partial(masks, run, layer.name, self.images)
        if self.images:
            yield "pictures", partial(pictures, self.runs[0], self.images)

    @property
    def truth(self) -> Truth:
        """Of the test images."""
        return self.runs[0].truth

    @property
    def labelled(self) -> bool:
        """Whether concepts were probed, and not mined."""
        return isinstance(self.runs[0], ProbedRun)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Of different networks first, trained ones before mixed and random ones."""
        comparison = self.analysis.comparison
        found = [matrix.pair for matrix in self._compared]
        return sorted(found, key=lambda pair: (pair.of_one, comparison.rank(pair)))

    @property
    def _compared(self) -> tuple[LayerMatrix, ...]:
        """By the measure that networks are compared by."""
        return self.analysis.comparison.matrices[self.analysis.similarity]

    def name_of(self, pair: Pair) -> str:
        """Of the part of a pair."""
        return f"pair-{self._places[pair.network_a]}-{self._places[pair.network_b]}"

    @cached_property
    def _places(self) -> dict[str, int]:
        """The number of each network."""
        return {name: k for k, name in enumerate(self.analysis.comparison.networks)}

    @cached_property
    def images(self) -> list[int]:
        """See `shown_images`."""
        return shown_images(self.runs)

    def start(self) -> dict[str, Any]:
        """What is there from the start."""
        analysis, comparison = self.analysis, self.analysis.comparison
        summary = summarise(analysis)
        networks = zip(self.runs, comparison.networks, strict=True)
        return {
            "title": self._title(),
            "data": self.truth.data,
            "method": self.runs[0].method,
            "similarity": analysis.similarity,
            "measures": [
                {"key": measure, "title": MEASURE_TITLES[measure]} for measure in self._matrices
            ],
            "blocks": comparison.num_blocks,
            "repairings": max(len(matrix.repaired) for matrix in self._compared),
            "without_chance": all(matrix.without_chance for matrix in self._compared),
            "test_images": len(self.truth.ids),
            "sentence": summary["sentence"],
            "findings": summary["findings"],
            "networks": [_described(run, name) for run, name in networks],
            "matrix": self._networks(),
            "tree": self._tree(),
            "pairs": [self._described_pair(pair) for pair in self.pairs],
            "left_out": left_out(comparison, self.runs),
            "images_left_out": images_left_out(self.runs),
            "labelled": self.labelled,
            "grid": list(self.truth.grid),
            "images": [self.truth.ids[k] for k in self.images],
        }

    def _title(self) -> str:
        """The networks by their names, or how many there are."""
        names = self.analysis.comparison.networks
        return f"{len(names)} networks" if len(names) > NAMED else ", ".join(names)

    def _networks(self) -> dict[str, Any]:
        """Network x network: the similarity of each pair."""
        return {"values": self.analysis.networks.frame().to_numpy(dtype=float)}

    def _tree(self) -> dict[str, Any] | None:
        tree = self.analysis.tree
        if tree is None:
            return None
        drawn = tree.drawn()
        return {
            "order": list(drawn.order),
            "across": [list(merge.across) for merge in drawn.merges],
            "heights": [list(merge.heights) for merge in drawn.merges],
            "support": [merge.support for merge in drawn.merges],
        }

    def _described_pair(self, pair: Pair) -> dict[str, Any]:
        """The numbers of a pair, and the layers and concepts that answer what is asked first."""
        names, similarity = _names(pair), self.analysis.similarity
        found: dict[str, Any] = {
            "a": self._places[pair.network_a],
            "b": self._places[pair.network_b],
        }
        if pair.of_one:
            return found
        matrix, raw = (self._matrices[measure][names] for measure in (similarity, "jaccard"))
        found["numbers"] = self._shown_numbers(names)
        if not np.isfinite(self.analysis.numbers[similarity][names]["similarity"].value):
            found["undefined"] = why_undefined(matrix, self.labelled)
        layers = most_alike(matrix, raw)
        found["layers"] = layers and layers | self._beside(pair, layers["row"], layers["column"])
        found["matches"] = layer_matches(matrix)
        found["concepts"] = self._least_alike(pair, layers) if layers else None
        return _shortened(found)

    def _beside(self, pair: Pair, row: int, column: int) -> dict[str, Any]:
        """What to hold the likeness of two layers against.

        How well their probes find the labels: early layers are alike in what they mistake. And
        how alike the layers of random twins are.
        """
        found: dict[str, Any] = {}
        if self.labelled:
            layers = zip(_names(pair), (row, column), strict=True)
            found["scores"] = [self._mean_scores[name][layer] for name, layer in layers]
        twins = self.analysis.twin_pair(_names(pair))
        if twins is not None:
            own = self._matrices[self.analysis.similarity]
            values = own[twins].values if twins in own else own[twins[::-1]].values.T
            found["random"] = values[row, column]
        return found

    @cached_property
    def _mean_scores(self) -> dict[str, list[float]]:
        """How well each layer of each probed network shows the concepts, on average."""
        return {
            name: run.score_matrix().mean(axis=1).tolist()
            for name, run in zip(self.analysis.comparison.networks, self.runs, strict=True)
            if isinstance(run, ProbedRun)
        }

    def _shown_numbers(self, names: Names) -> dict[str, dict[str, Any]]:
        """`SHOWN` of two networks."""
        similarity = self.analysis.similarity
        twins = self.analysis.twin_numbers(similarity, names) or {}
        numbers = self.analysis.numbers[similarity][names]
        found = {key: _number(numbers[key], twins.get(key)) for key in SHOWN if key in numbers}
        return {key: {each: number[each] for each in SHOWN[key]} for key, number in found.items()}

    def _least_alike(self, pair: Pair, layers: dict[str, Any]) -> dict[str, Any] | None:
        """The concept that differs most; of mined ones at the layers that are most alike."""
        if _names(pair) in self._partners:
            found, at = self._partners[_names(pair)], (layers["row"], layers["column"])
            one, other = pair.layers_a[at[0]].name, pair.layers_b[at[1]].name
            names = self.runs[self._places[pair.network_a]].concept_set.layers[one].names
            values, errors = (found[key][at][: len(names)] for key in ("value", "stderr"))
            called = [f"{name} of {one}" for name in names]
            known = zip(values, errors, strict=True)
            return least_alike(called, known, f"with its best partner in {other}")
        concepts = self._concepts(pair)
        return concepts and least_alike(concepts["names"], self._agreement(pair))

    def pair(self, pair: Pair) -> dict[str, Any]:
        """Matrices of all measures, best matches and concepts of a pair."""
        names = _names(pair)
        content: dict[str, Any] = {
            "measures": {
                measure: self._matrix(found[names])
                for measure, found in self._matrices.items()
                if names in found
            },
            "matches": [],
            "ceilings": self._ceilings(names),
            "concepts": self._concepts(pair),
        }
        if names in self._matches:
            own = self._matches[names].drop(columns=["network_a", "network_b"])
            content["matches"] = own.to_dict("records")
        if content["concepts"]:
            content["concepts"]["agreement"] = [value for value, _ in self._agreement(pair)]
        if names in self._partners:
            found = self._partners[names]
            rounded = {key: Rounded(found[key]) for key in ("value", "stderr")}
            content["partners"] = rounded | {"partner": found["partner"]}
        return content

    @cached_property
    def _matrices(self) -> dict[str, dict[Names, LayerMatrix]]:
        """For each measure the matrix of each pair."""
        return {
            measure: {_names(matrix.pair): matrix for matrix in matrices}
            for measure, matrices in self.analysis.comparison.matrices.items()
        }

    @cached_property
    def _matches(self) -> dict[Names, pd.DataFrame]:
        return _by_pair(self.analysis.best_matches)

    def _matrix(self, matrix: LayerMatrix) -> dict[str, Any]:
        """Values, errors and, where they say something, chance and ceiling of each cell."""
        found: dict[str, Any] = {
            "value": matrix.values,
            "stderr": Rounded(matrix.estimate.stderr),
        }
        again = len(matrix.repaired) > 1
        if again and matrix.measure == self.analysis.similarity:
            found["z"] = z_of_chance(matrix)
        if again and matrix.measure == "jaccard":
            found["chance"] = Rounded(matrix.repaired.mean(axis=0))
        most = self.analysis.comparison.attainable(matrix)
        if most is not None and matrix.measure in (self.analysis.similarity, "adjusted"):
            found["ceiling"] = most.value
        return found

    def _ceilings(self, names: Names) -> list[dict[Hashable, Any]]:
        """Of the trunk layers of both networks."""
        ceilings = self.analysis.ceilings
        if ceilings.empty:
            return []
        chosen = (ceilings["measure"] == self.analysis.similarity) & ceilings["trunk"]
        own = ceilings[chosen & ceilings["network"].isin(names)]
        return own[["network", "depth", "value"]].to_dict("records")

    def _concepts(self, pair: Pair) -> dict[str, Any] | None:
        """Of probed runs the adjusted index of each concept at each pair of layers."""
        cells = self._concept_cells.get(_names(pair))
        if cells is None:
            return None
        shape = (-1, len(pair.layers_a), len(pair.layers_b))
        value, stderr = (
            cells[column].to_numpy(dtype=float).reshape(shape) for column in ("value", "stderr")
        )
        names = list(cells["concept"].unique())
        return {"names": names, "value": Rounded(value), "stderr": Rounded(stderr)}

    def _agreement(self, pair: Pair) -> list[tuple[float, float]]:
        """See `concept_agreement`."""
        concepts = self._concepts(pair)
        assert concepts is not None
        matrix = self._matrices[self.analysis.similarity][_names(pair)]
        return concept_agreement(matrix, concepts["value"].values, concepts["stderr"].values)

    @cached_property
    def _concept_cells(self) -> dict[Names, pd.DataFrame]:
        table = self.analysis.comparison.concept_similarity
        return {} if table.empty else _by_pair(table[table["measure"] == "adjusted"])

    @cached_property
    def _partners(self) -> dict[Names, dict[str, np.ndarray]]:
        """Of mined runs the best partner of each concept at each pair of layers."""
        cells = self.analysis.comparison.concept_cells
        return {names: partners(found) for names, found in cells.items()}

    def network(self, number: int) -> dict[str, Any]:
        """Scores, flow and concepts of a network."""
        run, name = self.runs[number], self.analysis.comparison.networks[number]
        content: dict[str, Any] = {"flow": None, "scores": None, "concepts": None}
        if name in self.analysis.flows:
            flow = self.analysis.flows[name]
            distance, loss = flow.curve()
            numbers = flow.distances(self.analysis.weights)
            content["flow"] = {
                "distance": distance.tolist(),
                "loss": loss.tolist(),
                "numbers": {key: _number(found) for key, found in numbers.items()},
            }
        if isinstance(run, ProbedRun):
            content["scores"] = {
                "concepts": list(run.concepts),
                "value": run.score_matrix().to_numpy(dtype=float),
            }
        if isinstance(run, MinedRun):
            content["concepts"] = self._mined(run, name)
        return content

    def _mined(self, run: MinedRun, name: str) -> list[dict[str, Any]]:
        table = run.table[["layer", "concept", "area", "reproducibility"]].copy()
        table["label"] = ""
        if self.labels is not None:
            own = self.labels[(self.labels["network"] == name) & self.labels["named"].astype(bool)]
            named = own.set_index(["layer", "concept"])["label"].to_dict()
            table["label"] = [named.get((r.layer, r.concept), "") for r in table.itertuples()]
        return [dict(zip(table.columns, row, strict=True)) for row in table.to_numpy().tolist()]


def _described(run: Run, name: str) -> dict[str, Any]:
    layers = [{"name": x.name, "depth": x.depth, "trunk": x.trunk} for x in run.layers]
    return {"name": name, "layers": layers}


def _names(pair: Pair) -> Names:
    return pair.network_a, pair.network_b


def _by_pair(table: pd.DataFrame) -> dict[Names, pd.DataFrame]:
    """The rows of each pair of networks."""
    if table.empty:
        return {}
    groups = table.groupby(["network_a", "network_b"], sort=False)
    return {(str(a), str(b)): own for (a, b), own in groups}


def _number(number: Number, twin: Number | None = None) -> dict[str, Any]:
    """Value, error, interval, and both nulls."""
    found: dict[str, Any] = number.row()
    return found | null_difference(number, twin)


def _shortened(value: Any) -> Any:  # noqa: ANN401
    """Plain values with `DECIMALS`, less what is not known."""
    if isinstance(value, dict):
        found = {key: _shortened(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each is not None}
    if isinstance(value, float | np.floating):
        return round(float(value), DECIMALS) if np.isfinite(value) else None
    return value
