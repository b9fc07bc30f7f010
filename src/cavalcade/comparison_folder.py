"""The folder that a comparison leaves: tables, labelled matrices, heat maps.

comparisons/<name>/layer_similarity.csv      a row for each pair of layers and measure
comparisons/<name>/concept_similarity.csv    the same for each concept
comparisons/<name>/pairs.csv                 a row for each pair of networks and measure
comparisons/<name>/matrices.npz              the matrices with the names of their layers
comparisons/<name>/heatmaps/<a>__<b>.png     a picture for each pair
comparisons/<name>/meta.json                 the runs, and the concepts left out
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.loggers import Logger

from cavalcade.comparison import MEASURES, Comparison
from cavalcade.report import tracking
from cavalcade.report.heatmap import draw_matrices, with_depth
from cavalcade.report.tables import print_places, print_table
from cavalcade.runs import Run, digest_of, read_meta, read_table, write_meta, written_whole
from cavalcade.similarity import LayerMatrix

log = logging.getLogger(__name__)

TITLES = {
    "jaccard": "Jaccard index, mean over concepts",
    "adjusted": "adjusted Jaccard index (chance removed)",
}


def default_name(runs: Sequence[Run]) -> str:
    """A name for the comparison of some runs: their data set, and a digest of which they are."""
    digest = digest_of({"runs": sorted(run.path.name for run in runs)})
    return f"{runs[0].path.parents[1].name}-{digest[:8]}"


def write_comparison(comparison: Comparison, runs: Sequence[Run], place: Path) -> None:
    """Write a comparison to a folder, replacing what was there."""
    with written_whole(place, kind="comparison") as folder:
        for name in ("layer_similarity", "concept_similarity", "pairs"):
            table: pd.DataFrame = getattr(comparison, name)
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        arrays: dict[str, Any] = _labelled_arrays(comparison)
        np.savez_compressed(folder / "matrices.npz", **arrays)
        (folder / "heatmaps").mkdir()
        for matrices in _by_pair(comparison):
            _draw(matrices, folder / heat_map_path(matrices[0]))
        meta = {
            "networks": list(comparison.networks),
            "runs": [run.path.name for run in runs],
            "left_out": comparison.left_out,
        }
        write_meta(folder, "comparison", meta)


def track_comparison(comparison: Comparison, place: Path, logger: Logger | None) -> None:
    """Log each pair's matrices as a picture and a labelled table, and the pairs as one table."""
    tracking.log_table(logger, "pairs", comparison.pairs)
    tracking.log_table(logger, "layer_similarity", comparison.layer_similarity)
    for matrices in _by_pair(comparison):
        path = heat_map_path(matrices[0])
        tracking.log_picture(logger, f"heatmaps/{path.stem}", place / path)
        for matrix in matrices:
            table = matrix.frame().reset_index(names="layer")
            tracking.log_table(logger, f"matrices/{path.stem}/{matrix.measure}", table)


def print_comparison(comparison: Comparison, place: Path) -> None:
    """Print a row for each pair of networks, and where tables and pictures lie."""
    measures = dict(list(comparison.pairs.groupby("measure", sort=False)))
    if measures:
        raw, adjusted = (measures[name].reset_index(drop=True) for name in MEASURES)
        table = pd.DataFrame(
            {
                "networks": adjusted["network_a"] + "\n" + adjusted["network_b"],
                "concepts": adjusted["n_concepts"],
                "adjusted": adjusted["mean_best_match"],
                "raw": raw["mean_best_match"],
                "depth gap": adjusted["depth_gap"],
            }
        )
        print_table("Best matches of layers: mean Jaccard index", table)
    else:
        log.info("one run has no other to be compared with; its own matrix is drawn")
    for title, concepts in comparison.left_out.items():
        if concepts:
            log.warning(
                "%s: left out, at some layer empty or without a chance level: %s",
                title,
                ", ".join(concepts),
            )
    print_places({"pictures": place / "heatmaps", "tables": place})


def heat_map_path(matrix: LayerMatrix) -> Path:
    """Where the picture of a pair lies in the folder."""
    return Path("heatmaps") / f"{matrix.pair.network_a}__{matrix.pair.network_b}.png"


@dataclass(frozen=True)
class LoadedComparison:
    """The tables of a comparison folder.

    Attributes:
        path: the folder.
        layer_similarity: a row for each pair of layers and measure.
        concept_similarity: the same for each concept.
        pairs: a row for each pair of networks and measure.
    """

    path: Path
    layer_similarity: pd.DataFrame
    concept_similarity: pd.DataFrame
    pairs: pd.DataFrame

    def matrix(self, network_a: str, network_b: str, measure: str = "adjusted") -> pd.DataFrame:
        """One matrix, layers of the first network by layers of the second, in depth order.

        Raises:
            KeyError: if the comparison holds no such pair or measure.
        """
        rows = self.layer_similarity
        rows = rows[rows["measure"] == measure]
        for a, b in ((network_a, network_b), (network_b, network_a)):
            cells = rows[(rows["network_a"] == a) & (rows["network_b"] == b)]
            if len(cells):
                matrix = cells.pivot(index="layer_a", columns="layer_b", values="value")
                matrix = matrix.loc[cells["layer_a"].unique(), cells["layer_b"].unique()]
                return matrix if a == network_a else matrix.T
        raise KeyError(f"no {measure} matrix of {network_a} and {network_b} in {self.path}")


def load_comparison(path: str | os.PathLike[str]) -> LoadedComparison:
    """Read a comparison folder.

    Raises:
        InputError: if it is none, or a file is damaged.
    """
    folder = Path(path)
    read_meta(folder, "comparison")
    tables = (
        read_table(folder / f"{name}.csv")
        for name in ("layer_similarity", "concept_similarity", "pairs")
    )
    return LoadedComparison(folder, *tables)


def _by_pair(comparison: Comparison) -> Iterator[list[LayerMatrix]]:
    pairs: dict[tuple[str, str], list[LayerMatrix]] = {}
    for matrix in comparison.matrices:
        key = (matrix.pair.network_a, matrix.pair.network_b)
        pairs.setdefault(key, []).append(matrix)
    yield from pairs.values()


def _labelled_arrays(comparison: Comparison) -> dict[str, Any]:
    """For each matrix its values, and for each network the names and depths of its layers."""
    arrays = {}
    for matrix in comparison.matrices:
        pair = matrix.pair
        arrays[f"{pair.network_a}|{pair.network_b}|{matrix.measure}"] = matrix.values
        arrays[f"layers|{pair.network_a}"] = np.array([layer.name for layer in pair.layers_a])
        arrays[f"depths|{pair.network_a}"] = np.array([layer.depth for layer in pair.layers_a])
    return arrays


def _draw(matrices: Sequence[LayerMatrix], path: Path) -> None:
    pair = matrices[0].pair
    panels = []
    for matrix in matrices:
        frame = matrix.frame()
        frame.index = pd.Index(with_depth([(a.name, a.depth) for a in pair.layers_a]))
        frame.columns = pd.Index(with_depth([(b.name, b.depth) for b in pair.layers_b]))
        panels.append((TITLES[matrix.measure], frame))
    draw_matrices(
        panels,
        path,
        title=f"{pair.title}: {len(matrices[0].concepts)} concepts",
        rows=f"{pair.network_a}: layer, relative depth",
        columns=f"{pair.network_b}: layer, relative depth",
    )
