"""The folder that a comparison leaves: tables, labelled matrices, pictures, a summary.

comparisons/<name>/summary.json              the findings, in numbers and in one sentence
comparisons/<name>/layer_similarity.csv      a row for each pair of layers and measure
comparisons/<name>/concept_similarity.csv    the same for each concept
comparisons/<name>/undefined_cells.csv       those of them that are NaN
comparisons/<name>/pairs.csv                 a row for each pair of networks, measure, statistic
comparisons/<name>/best_matches.csv          for each layer its best match in the other network
comparisons/<name>/concept_matches.csv       which mined concepts are the same
comparisons/<name>/names.csv                 the label that each mined concept overlaps best
comparisons/<name>/ceilings.csv              for each layer how alike it could be
comparisons/<name>/flow.csv                  for each layer the next that means something else
comparisons/<name>/networks.csv              network x network
comparisons/<name>/nearer.csv                which of two networks is nearer to a third
comparisons/<name>/nearer_layers.csv         in which of two networks a layer has its nearer match
comparisons/<name>/agreement.csv             rank correlation with every other measure
comparisons/<name>/disagreements.csv         the layers on which measures differ most
comparisons/<name>/series.csv                how alike a series is to its last member
comparisons/<name>/matrices.npz              the matrices with the names of their layers
comparisons/<name>/concept_matrices.npz      mined concepts by mined concepts, with their names
comparisons/<name>/galleries/                matched concepts of two networks side by side
comparisons/<name>/figures/                  pictures of all that, for papers: PDF and PNG
comparisons/<name>/figures/matrices/, depth/ of the first pairs
comparisons/<name>/report/index.html         a page that shows all of it, in any browser
comparisons/<name>/meta.json                 the runs, and the concepts left out
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparable import images_left_out
from cavalcade.comparing.comparison import Comparison, matrix_of
from cavalcade.comparing.findings import summarise
from cavalcade.comparing.match_galleries import draw_match_galleries
from cavalcade.comparing.pictures import MOST_PAIRS, REPORT, draw_all, drawn_pairs
from cavalcade.comparing.report_parts import write_report
from cavalcade.comparing.series import series_table
from cavalcade.errors import InputError
from cavalcade.folders import META, digest_of, read_meta, write_meta, written_whole
from cavalcade.locks import locked
from cavalcade.meta_fields import WAY_OUT, Fields, read_json
from cavalcade.progress import progress
from cavalcade.runs import Run
from cavalcade.similarity import KEYS
from cavalcade.similarity.nearer import NEAREST
from cavalcade.table_files import read_table, write_table

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
NEEDED = {  # by what their rows are told apart; each has a value
    "layer_similarity": [*KEYS, "measure"],
    "pairs": ["network_a", "network_b", "measure", "statistic"],
}
TABLES = (
    *("pairs", "best_matches", "concept_matches", "ceilings", "flow", "nearer", "nearer_layers"),
    *("agreement", "disagreements"),
)


def default_name(
    runs: Sequence[Run],
    similarity: str = "adjusted",
    *,
    series: bool = False,
    named_by: Run | None = None,
) -> str:
    """A name for the comparison of some runs: their data set, and a digest of which they are."""
    names = [run.path.name for run in runs]
    digest = digest_of({"runs": names if series else sorted(names)})
    parts = [runs[0].path.parents[1].name, digest[:8]]
    parts += ["series"] if series else []
    parts += [f"named-{digest_of({'by': named_by.path.name})[:6]}"] if named_by else []
    parts += [similarity] if similarity != "adjusted" else []
    return "-".join(parts)


def tables_of(
    analysis: Analysis, names: pd.DataFrame | None = None, *, series: bool = False
) -> dict[str, pd.DataFrame]:
    """All tables of a comparison by name; those that have nothing to say are left out.

    Args:
        analysis: what it says.
        names: labels of mined concepts, see `names_of_runs`.
        series: the runs are checkpoints of one network, in their order.
    """
    comparison = analysis.comparison
    tables = {
        "layer_similarity": comparison.layer_similarity,
        "concept_similarity": comparison.concept_similarity,
        "undefined_cells": comparison.undefined,
        "networks": analysis.networks.frame().reset_index(),
        **{name: getattr(analysis, name) for name in progress(TABLES, "tables", len(TABLES))},
    }
    if names is not None:
        tables["names"] = names
    if series:
        tables["series"] = series_table(analysis)
    return {name: table for name, table in tables.items() if len(table.columns)}


def write_comparison(
    analysis: Analysis,
    runs: Sequence[Run],
    place: Path,
    tables: Mapping[str, pd.DataFrame],
    named_by: Run | None = None,
    pictures: int | None = MOST_PAIRS,
    report: bool = True,
) -> None:
    """Write a comparison to a folder, replacing what was there.

    Args:
        analysis: what it says.
        runs: that were compared.
        place: the folder.
        tables: see `tables_of`.
        named_by: the run that names mined concepts.
        pictures: of so many pairs; None for all. See `drawn_pairs`.
        report: write the page too.
    """
    comparison, drawn = analysis.comparison, drawn_pairs(analysis, pictures)
    pairs = len(comparison.matrices[analysis.similarity])
    if len(drawn) < pairs:
        log.info("%d of %d pairs have no pictures; see pictures=", pairs - len(drawn), pairs)
    others = len(comparison.networks) - 1
    if others > NEAREST:
        log.info(
            "nearer.csv and nearer_layers.csv test, for each network and layer, the %d nearest of "
            "%d others against each other; Analysis.is_nearer tests any two",
            *(NEAREST, others),
        )
    with locked(place), written_whole(place, kind="comparison") as folder:
        for name, table in tables.items():
            write_table(table, folder / f"{name}.csv")
        arrays: dict[str, Any] = _labelled_arrays(comparison)
        np.savez_compressed(folder / "matrices.npz", **arrays)
        if comparison.concept_cells:
            np.savez_compressed(folder / "concept_matrices.npz", **_concept_arrays(comparison))
        draw_all(analysis, folder, tables.get("series"), drawn)
        draw_match_galleries(analysis, runs, tables.get("names"), folder / "galleries", drawn)
        if report:
            write_report(analysis, runs, tables.get("names"), folder / REPORT)
        told = summarise(analysis) | {"images_left_out": images_left_out(runs)}
        summary = json.dumps(told, indent=1)
        (folder / SUMMARY).write_text(summary, encoding="utf-8")
        meta = {
            "networks": list(comparison.networks),
            "runs": [run.path.name for run in runs],
            "similarity": analysis.similarity,
            "left_out": comparison.left_out,
            "named_by": named_by.path.name if named_by else "truth",
        }
        write_meta(folder, "comparison", meta)


@dataclass(frozen=True)
class LoadedComparison:
    """The tables of a comparison folder.

    Attributes:
        path: the folder.
        summary: the findings.
        tables: all CSV files by name.
    """

    path: Path
    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    @property
    def layer_similarity(self) -> pd.DataFrame:
        """A row for each pair of layers and measure."""
        return self.tables["layer_similarity"]

    @property
    def concept_similarity(self) -> pd.DataFrame:
        """A row for each pair of layers, concept and measure."""
        return self.tables["concept_similarity"]

    @property
    def pairs(self) -> pd.DataFrame:
        """A row for each pair of networks, measure and statistic."""
        return self.tables["pairs"]

    def matrix(self, network_a: str, network_b: str, measure: str = "adjusted") -> pd.DataFrame:
        """One matrix, layers of the first network by layers of the second, in depth order.

        Raises:
            InputError: if the comparison holds no such pair or measure.
        """
        return matrix_of(self.layer_similarity, network_a, network_b, measure)


def load_comparison(path: str | os.PathLike[str]) -> LoadedComparison:
    """Read a comparison folder.

    Raises:
        InputError: if it is none, or a file is damaged.
    """
    folder = Path(path)
    files = read_meta(folder, "comparison")["files"]
    names = [name for name in files if "/" not in name and name.endswith(".csv")]
    tables = {Path(name).stem: read_table(folder / name) for name in names}
    for name in {f"{needed}.csv" for needed in NEEDED} | {SUMMARY}:
        if name not in files:
            raise InputError(f"{folder / META} does not list {name}; {WAY_OUT}")
    for name, keys in NEEDED.items():
        path, table = folder / f"{name}.csv", tables[name]
        missing = [column for column in (*keys, "value") if column not in table.columns]
        if missing:
            raise InputError(f"{path} has no column {missing[0]}; {WAY_OUT}")
        if not pd.api.types.is_numeric_dtype(table["value"]):
            raise InputError(f"{path}: value holds something else than numbers; {WAY_OUT}")
        if table.duplicated(keys).any():
            raise InputError(f"{path} has two rows for the same {', '.join(keys)}; {WAY_OUT}")
    summary = Fields(read_json(folder / SUMMARY), folder / SUMMARY).content
    return LoadedComparison(folder, summary, tables)


def _labelled_arrays(comparison: Comparison) -> dict[str, Any]:
    """For each matrix its values and errors, for each network names and depths of its layers."""
    arrays = {}
    for matrices in comparison.matrices.values():
        for matrix in matrices:
            pair = matrix.pair
            key = f"{pair.network_a}|{pair.network_b}|{matrix.measure}"
            arrays[key] = matrix.values
            arrays[f"{key}|stderr"] = matrix.estimate.stderr
            arrays[f"layers|{pair.network_a}"] = np.array([layer.name for layer in pair.layers_a])
            arrays[f"depths|{pair.network_a}"] = np.array([layer.depth for layer in pair.layers_a])
    return arrays


def _concept_arrays(comparison: Comparison) -> dict[str, Any]:
    """For each pair all concepts by all concepts, for each network layers and names of them."""
    arrays: dict[str, Any] = {}
    for (a, b), found in comparison.concept_cells.items():
        arrays[f"{a}|{b}|jaccard"] = found.jaccard
        arrays[f"{a}|{b}|adjusted"] = found.adjusted
        arrays[f"{a}|{b}|adjusted|stderr"] = found.stderr
        arrays[f"concepts|{a}"] = np.array(found.concepts_a)
    return arrays
