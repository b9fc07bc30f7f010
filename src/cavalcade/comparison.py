"""Compares finished runs: from their masks to layer x layer matrices. Loads no network."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from cavalcade.errors import InputError
from cavalcade.report.progress import progress
from cavalcade.runs import Run, kind_of, load_run
from cavalcade.similarity import (
    JointCounts,
    LayerMatrix,
    Pair,
    PixelCounts,
    adjusted_jaccard,
    expected_intersection,
    mean_over_concepts,
)

MEASURES = ("jaccard", "adjusted")


@dataclass(frozen=True)
class Comparison:
    """All pairs of some runs, each network with itself among them.

    Attributes:
        networks: names of the runs, in the order of comparison.
        matrices: one for each pair and measure.
        concept_similarity: a row for each pair of layers, concept and measure.
        left_out: for each pair of networks the concepts that its matrices do not average over.
    """

    networks: tuple[str, ...]
    matrices: tuple[LayerMatrix, ...]
    concept_similarity: pd.DataFrame
    left_out: dict[str, tuple[str, ...]]

    @property
    def layer_similarity(self) -> pd.DataFrame:
        """A row for each pair of layers and measure."""
        return pd.concat([matrix.tidy() for matrix in self.matrices], ignore_index=True)

    @property
    def pairs(self) -> pd.DataFrame:
        """A row for each pair of different networks and measure: best match and depth gap."""
        rows = [
            {
                "network_a": matrix.pair.network_a,
                "network_b": matrix.pair.network_b,
                "measure": matrix.measure,
                **matrix.alignment(),
                "n_concepts": len(matrix.concepts),
            }
            for matrix in self.matrices
            if matrix.pair.network_a != matrix.pair.network_b
        ]
        columns = [
            "network_a",
            "network_b",
            "measure",
            "mean_best_match",
            "depth_gap",
            "n_concepts",
        ]
        return pd.DataFrame(rows, columns=columns)

    def matrix(self, network_a: str, network_b: str, measure: str = "adjusted") -> pd.DataFrame:
        """One matrix, layers of the first network by layers of the second.

        Raises:
            InputError: if there is none such.
        """
        for matrix in self.matrices:
            names = (matrix.pair.network_a, matrix.pair.network_b)
            if matrix.measure == measure and set(names) == {network_a, network_b}:
                return matrix.frame() if names == (network_a, network_b) else matrix.frame().T
        raise InputError(
            f"no {measure!r} matrix of {network_a!r} and {network_b!r}; networks: "
            f"{', '.join(self.networks)}; measures: {', '.join(MEASURES)}"
        )


def find_runs(patterns: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """Load the runs that some folders or globs name; a folder of runs stands for all of them.

    Raises:
        InputError: for a pattern that finds nothing, or a folder that is no finished run.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted(Path(p) for p in glob.glob(os.path.expanduser(pattern)))  # noqa: PTH111, PTH207
        found = [p for p in found if p.is_dir()]
        if not found:
            raise InputError(
                f"no run folder at {os.fspath(pattern)!r}; train one, or mend the path"
            )
        for path in found:
            inside = [] if (path / "meta.json").exists() else _finished_runs(path)
            paths |= dict.fromkeys(p.resolve() for p in inside or [path])
    return [load_run(path) for path in paths]


def latest_runs(root: Path) -> list[Run]:
    """All runs of the data set that was trained last.

    Raises:
        InputError: if there are none.
    """
    finished = _finished_runs(root)
    if not finished:
        raise InputError(
            f"{root} holds no finished run; run train.py first, or name some with runs="
        )
    latest = max(finished, key=lambda path: path.stat().st_mtime)
    return [load_run(path) for path in sorted(finished) if path.parent == latest.parent]


def _finished_runs(folder: Path) -> list[Path]:
    """Run folders at any level below a folder, without those that are being written."""
    metas = (meta for level in ("*", "*/*", "*/*/*") for meta in folder.glob(f"{level}/meta.json"))
    found = {meta.parent for meta in metas if kind_of(meta.parent) == "run"}
    return sorted(path for path in found if not path.name.startswith("."))


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise unless all runs saw the same test images on one grid for the same concepts.

    Raises:
        InputError: naming two runs and what differs.
    """
    first = runs[0]
    places = {run.path.name: run.path for run in runs}
    for run in runs:
        if places[run.path.name] != run.path:
            raise InputError(
                f"{run.path} and {places[run.path.name]} are one run twice; leave one of them out"
            )
    for run in runs[1:]:
        for what, ours, theirs in (
            ("method", first.method, run.method),
            ("data set", first.meta["data"]["name"], run.meta["data"]["name"]),
            ("grid", first.meta["data"]["grid"], run.meta["data"]["grid"]),
            ("concepts", list(first.concepts), list(run.concepts)),
            ("test images", first.meta["data"]["test"][:12], run.meta["data"]["test"][:12]),
        ):
            if ours != theirs:
                raise InputError(
                    f"{first.path.name} and {run.path.name} cannot be compared: they differ in "
                    f"their {what} ({ours}; {theirs}); compare runs of one data set"
                )


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare every run with every other and with itself.

    Raises:
        InputError: if the runs cannot be compared.
    """
    if not runs:
        raise InputError("there is no run to compare; name some with runs=")
    check_comparable(runs)
    names = _distinct_names(runs)
    matrices: list[LayerMatrix] = []
    tables: list[pd.DataFrame] = []
    left_out = {}
    for (i, j), jaccard, adjusted in _similarities(runs):
        pair = Pair(names[i], runs[i].layers, names[j], runs[j].layers)
        for measure, cells in zip(MEASURES, (jaccard, adjusted), strict=True):
            values, kept = mean_over_concepts(cells, adjusted, runs[0].concepts)
            matrices.append(LayerMatrix(pair, measure, values, kept))
            for concept, concept_cells in zip(runs[0].concepts, cells, strict=True):
                table = pair.cells().assign(
                    concept=concept, measure=measure, value=concept_cells.ravel()
                )
                tables.append(table)
        left_out[pair.title] = tuple(c for c in runs[0].concepts if c not in kept)
    concept_similarity = pd.concat(tables, ignore_index=True)
    return Comparison(tuple(names), tuple(matrices), concept_similarity, left_out)


Cells = Float[np.ndarray, "concepts rows columns"]


def _similarities(runs: Sequence[Run]) -> Iterator[tuple[tuple[int, int], Cells, Cells]]:
    """For each pair of runs the raw and adjusted cells (concepts, layers, layers)."""
    truth = runs[0].truth
    blocks = torch.tensor(truth.blocks)
    num_blocks, num_pixels = int(blocks.max()) + 1, truth.grid[0] * truth.grid[1]
    num_concepts = len(truth.concepts)
    pixels = [PixelCounts(num_blocks, num_concepts, len(run.layers), num_pixels) for run in runs]
    joint = {
        (i, j): JointCounts(
            num_blocks, num_concepts, len(runs[i].layers), len(runs[j].layers), num_pixels
        )
        for i, j in itertools.combinations_with_replacement(range(len(runs)), 2)
    }
    for block in progress(range(num_blocks), "counting where masks meet"):
        images = (blocks == block).nonzero()[:, 0]
        read = [run.read_masks(images) for run in runs]
        for counts, (masks, seen) in zip(pixels, read, strict=True):
            counts.update(block, masks, seen)
        for (i, j), pair_counts in joint.items():
            (masks_a, seen_a), (masks_b, seen_b) = read[i], read[j]
            pair_counts.update(block, masks_a, masks_b, seen_a, seen_b)
    for (i, j), both in progress(joint.items(), "removing chance"):
        expected = expected_intersection(
            pixels[i].fired, pixels[j].fired, pixels[i].seen, pixels[j].seen, both.joint.sum(dim=0)
        )
        adjusted = adjusted_jaccard(both.jaccard(), expected, both.area_sums())
        yield (i, j), both.jaccard().numpy(), adjusted.numpy()


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    """Labels of the runs, with their digest where two runs share a label."""
    labels = [run.label for run in runs]
    return [run.path.name if labels.count(run.label) > 1 else run.label for run in runs]
