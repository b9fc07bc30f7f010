"""What the report of a comparison shows, as plain values and arrays.

The part `start` is there at once: findings, networks, pairs, images. Of each pair, of each
network and of each of its layers there is a part that is loaded when it is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.findings import summarise
from cavalcade.report.page import Page, Rounded, picture
from cavalcade.runs import MinedRun, ProbedRun, Run
from cavalcade.similarity import MEASURE_TITLES, LayerMatrix, Pair
from cavalcade.similarity.derived import Number, null_difference
from cavalcade.truth import Truth

MOST_IMAGES, FEWEST_IMAGES = 16, 6  # test images on which masks are shown
NAMED = 3  # networks in a title
MASK_BYTES = 50_000_000  # before they are compressed, to half or less
SMALLEST = 1e-12


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
    page, parts = Page(folder), ReportParts(analysis, runs, names)
    page.add_part("start", parts.start())
    for pair in parts.pairs:
        page.add_part(parts.name_of(pair), parts.pair(pair))
    for number, run in enumerate(runs):
        page.add_part(f"network-{number}", parts.network(number))
        for place, layer in enumerate(run.layers if parts.images else ()):
            page.add_part(f"masks-{number}-{place}", parts.masks(run, layer.name))
    if parts.images:
        page.add_part("pictures", parts.pictures())


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

    @property
    def truth(self) -> Truth:
        """Of the test images."""
        return self.runs[0].truth

    @cached_property
    def pairs(self) -> list[Pair]:
        """Of different networks first, trained ones before mixed and random ones."""
        comparison, kinds = self.analysis.comparison, ("trained", "mixed", "random")
        found = [matrix.pair for matrix in comparison.matrices[self.analysis.similarity]]
        return sorted(found, key=lambda pair: (pair.of_one, kinds.index(comparison.kind(pair))))

    def name_of(self, pair: Pair) -> str:
        """Of the part of a pair."""
        return f"pair-{self._places[pair.network_a]}-{self._places[pair.network_b]}"

    @cached_property
    def _places(self) -> dict[str, int]:
        """The number of each network."""
        return {name: k for k, name in enumerate(self.analysis.comparison.networks)}

    @cached_property
    def images(self) -> list[int]:
        """The test images on which masks are shown: those that show the most concepts strongly.

        None without thumbnails.
        """
        if not len(self.truth.thumbnails):
            return []
        layers = [(run, layer.name) for run in self.runs for layer in run.layers]
        best = torch.cat([_relative(run.strengths(layer)) for run, layer in layers], dim=1)
        room = MASK_BYTES // (best.shape[1] * self.truth.masks.shape[-1])
        return sorted(_covering(best, self.truth, min(max(room, FEWEST_IMAGES), MOST_IMAGES)))

    def start(self) -> dict[str, Any]:
        """What is there from the start."""
        analysis, comparison = self.analysis, self.analysis.comparison
        summary = summarise(analysis)
        grid = self.truth.grid
        return {
            "title": self._title(),
            "data": self.truth.data,
            "method": self.runs[0].method,
            "similarity": analysis.similarity,
            "measures": [
                {"key": measure, "title": MEASURE_TITLES[measure], "of_one": _has_own(matrices)}
                for measure, matrices in comparison.matrices.items()
            ],
            "blocks": comparison.num_blocks,
            "test_images": len(self.truth.ids),
            "sentence": summary["sentence"],
            "findings": summary["findings"],
            "networks": [
                self._described(run, name)
                for run, name in zip(self.runs, comparison.networks, strict=True)
            ],
            "matrix": self._networks(),
            "tree": self._tree(),
            "pairs": [self._pair_numbers(pair) for pair in self.pairs],
            "left_out": list(comparison.left_out),
            "grid": list(grid),
            "images": [self.truth.ids[k] for k in self.images],
            "concepts": list(self.truth.concepts),
        }

    def _title(self) -> str:
        """The networks by their names, or how many there are."""
        names = self.analysis.comparison.networks
        return f"{len(names)} networks" if len(names) > NAMED else ", ".join(names)

    def _described(self, run: Run, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "random": run.random,
            "layers": [
                {"name": layer.name, "depth": layer.depth, "trunk": layer.trunk,
                 "channels": layer.channels, "grid": list(layer.grid)}
                for layer in run.layers
            ],
        }  # fmt: skip

    def _networks(self) -> dict[str, Any]:
        """Network x network: similarity, error and interval of each pair."""
        matrix = self.analysis.networks
        frame = matrix.frame()
        errors = np.full(frame.shape, np.nan)
        for (a, b), number in matrix.pairs.items():
            i, j = self._places[a], self._places[b]
            errors[i, j] = errors[j, i] = number.stderr
        return {"values": frame.to_numpy(dtype=float), "stderr": errors}

    def _tree(self) -> dict[str, Any] | None:
        tree = self.analysis.networks.tree()
        if tree is None:
            return None
        drawn = tree.drawn()
        return {
            "order": list(drawn.order),
            # as SciPy counts: leaves are ten apart
            "across": [[10 * place + 5 for place in merge.across] for merge in drawn.merges],
            "heights": [list(merge.heights) for merge in drawn.merges],
            "support": [merge.support for merge in drawn.merges],
        }

    def _pair_numbers(self, pair: Pair) -> dict[str, Any]:
        """The numbers of a pair by each measure."""
        described: dict[str, Any] = {
            "a": self._places[pair.network_a],
            "b": self._places[pair.network_b],
            "kind": self.analysis.comparison.kind(pair),
            "numbers": {},
        }
        names = (pair.network_a, pair.network_b)
        for measure, found in self.analysis.numbers.items():
            if names in found:
                twins = self.analysis.twin_numbers(measure, names)
                described["numbers"][measure] = {
                    statistic: _number(number, twins[statistic] if twins else None)
                    for statistic, number in found[names].items()
                }
        return described

    def pair(self, pair: Pair) -> dict[str, Any]:
        """Matrices of all measures, best matches and concepts of a pair."""
        names = (pair.network_a, pair.network_b)
        measures = {
            measure: self._matrix(found[names])
            for measure, found in self._matrices.items()
            if names in found
        }
        content: dict[str, Any] = {"measures": measures, "matches": [], "ceilings": []}
        if names in self._matches:
            own = self._matches[names].drop(columns=["network_a", "network_b"])
            content["matches"] = own.to_dict("records")
        ceilings = self.analysis.ceilings
        if len(ceilings):
            chosen = (ceilings["measure"] == self.analysis.similarity) & ceilings["trunk"]
            own = ceilings[chosen & ceilings["network"].isin(names)]
            content["ceilings"] = own[["network", "layer", "depth", "value"]].to_dict("records")
        content["concepts"] = self._concepts(pair)
        content["partners"] = self._partners(pair)
        return content

    @cached_property
    def _matrices(self) -> dict[str, dict[tuple[str, str], LayerMatrix]]:
        """For each measure the matrix of each pair."""
        return {
            measure: {(m.pair.network_a, m.pair.network_b): m for m in matrices}
            for measure, matrices in self.analysis.comparison.matrices.items()
        }

    @cached_property
    def _matches(self) -> dict[tuple[str, str], pd.DataFrame]:
        return _by_pair(self.analysis.best_matches)

    def _matrix(self, matrix: LayerMatrix) -> dict[str, Any]:
        found: dict[str, Any] = {"value": matrix.values, "stderr": matrix.estimate.stderr}
        if len(matrix.repaired) > 1:
            found["z"] = _z(matrix)
            found["chance"] = matrix.repaired.mean(axis=0)
        most = self.analysis.comparison.attainable(matrix)
        if most is not None:
            found["ceiling"] = most.value
        return found

    def _concepts(self, pair: Pair) -> dict[str, Any] | None:
        """Of probed runs the adjusted index of each concept at each pair of layers."""
        table = self.analysis.comparison.concept_similarity
        if table.empty:
            return None
        key = (pair.network_a, pair.network_b)
        cells = self._concept_cells[key]
        shape = (-1, len(pair.layers_a), len(pair.layers_b))
        return {
            "names": list(cells["concept"].unique()),
            "value": Rounded(cells["value"].to_numpy(dtype=float).reshape(shape)),
            "stderr": Rounded(cells["stderr"].to_numpy(dtype=float).reshape(shape)),
        }

    @cached_property
    def _concept_cells(self) -> dict[tuple[str, str], pd.DataFrame]:
        table = self.analysis.comparison.concept_similarity
        return _by_pair(table[table["measure"] == "adjusted"])

    def _partners(self, pair: Pair) -> dict[str, Any] | None:
        """Of mined runs, for each pair of layers, the best partner of each concept."""
        cells = self.analysis.comparison.concept_cells
        key = (pair.network_a, pair.network_b)
        if key not in cells:
            return None
        found = cells[key]
        rows, columns = (_places(concepts) for concepts in (found.concepts_a, found.concepts_b))
        most = max(len(own) for own in rows)
        shape = (len(rows), len(columns), most)
        partner = np.full(shape, 255, dtype=np.uint8)
        value, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
        for i, own in enumerate(rows):
            for j, others in enumerate(columns):
                part = found.adjusted[np.ix_(own, others)]
                best = np.where(np.isfinite(part), part, -np.inf).argmax(axis=1)
                each = np.arange(len(own))
                partner[i, j, each] = best
                value[i, j, each] = part[each, best]
                stderr[i, j, each] = found.stderr[np.ix_(own, others)][each, best]
        return {"partner": partner, "value": Rounded(value), "stderr": Rounded(stderr)}

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
                "table": flow.table().drop(columns="network").to_dict("records"),
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

    def masks(self, run: Run, layer: str) -> dict[str, Any]:
        """Where the concepts of a layer fire on the images that are shown, and how strongly."""
        strengths = _relative(run.strengths(layer))[self.images]
        return {
            "names": list(run.concept_set.layers[layer].names),
            "bits": run.bits(layer)[self.images].numpy(),
            "strengths": Rounded(strengths.numpy()),
        }

    def pictures(self) -> dict[str, Any]:
        """The images that are shown, and where the labelled concepts are in them."""
        files = (self.truth.thumbnails.pictures[image] for image in self.images)
        return {
            "pictures": [picture(file.numpy().tobytes()) for file in files],
            "names": list(self.truth.concepts),
            "bits": self.truth.masks[self.images].numpy(),
        }


def _covering(strengths: Float[Tensor, "images concepts"], truth: Truth, count: int) -> list[int]:
    """Images of which each adds the most to how strongly concepts are shown at all.

    No two are of the same block while there are others.
    """
    shown, blocks = torch.zeros(strengths.shape[1]), torch.tensor(truth.blocks)
    left = torch.ones(len(strengths), dtype=torch.bool)
    other_blocks, chosen = left.clone(), list[int]()
    while len(chosen) < min(count, len(strengths)):
        if not (left & other_blocks).any():
            other_blocks[:] = True
        gains = torch.maximum(strengths, shown).sum(dim=1)
        image = int(torch.where(left & other_blocks, gains, -torch.inf).argmax())
        chosen.append(image)
        left[image] = False
        other_blocks &= blocks != blocks[image]
        shown = torch.maximum(shown, strengths[image])
    return chosen


def _relative(
    strengths: Float[Tensor, "images concepts"],
) -> Float[Tensor, "images concepts"]:
    """As shares of what each concept reaches on any image."""
    return strengths / strengths.amax(dim=0).clamp(min=SMALLEST)


def _by_pair(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each pair of networks."""
    if table.empty:
        return {}
    groups = table.groupby(["network_a", "network_b"], sort=False)
    return {(str(a), str(b)): own for (a, b), own in groups}


def _has_own(matrices: Sequence[LayerMatrix]) -> bool:
    return any(matrix.pair.of_one for matrix in matrices)


def _number(number: Number, twin: Number | None = None) -> dict[str, Any]:
    """Value, error, interval, and both nulls."""
    found: dict[str, Any] = number.row()
    return found | null_difference(number, twin)


def _z(matrix: LayerMatrix) -> Float[np.ndarray, "rows columns"]:
    """By how many of their standard deviations cells differ from re-paired images."""
    mean, spread = matrix.repaired.mean(axis=0), matrix.repaired.std(axis=0, ddof=1)
    return np.where(spread > 0, (matrix.values - mean) / np.where(spread > 0, spread, 1), np.nan)


def _places(concepts: Sequence[tuple[str, str]]) -> list[np.ndarray]:
    """Positions of the concepts of each layer, layer after layer."""
    layers = np.array([layer for layer, _ in concepts], dtype=object)
    return [np.flatnonzero(layers == layer) for layer in dict.fromkeys(layers)]
