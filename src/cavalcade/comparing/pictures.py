"""Draws and tracks what a comparison says."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from lightning.pytorch.loggers import Logger
from matplotlib.figure import Figure

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.findings import summarise
from cavalcade.errors import listed, shown
from cavalcade.folders import digest_of, short_name
from cavalcade.progress import progress
from cavalcade.report import tracking
from cavalcade.report.curves import draw_best_matches, draw_flow, draw_series
from cavalcade.report.figures import DEPTH_UNIT, NO_UNIT, save
from cavalcade.report.heatmap import draw_matrices, with_depth
from cavalcade.report.networks import draw_agreement, draw_networks
from cavalcade.report.tables import print_places, print_sentence, print_table
from cavalcade.similarity import KEYS, MEASURE_TITLES, LayerMatrix, Pair, tidy
from cavalcade.similarity.derived import null_difference

log = logging.getLogger(__name__)

MOST_PAIRS = 40
LONGEST_PICTURE = 250  # bytes: a file has at most 255, with its suffix
REPORT, FIGURES = "report", "figures"
CELL_TABLES = ("layer_similarity", "concept_similarity", "undefined_cells", "nearer_layers")


def drawn_pairs(analysis: Analysis, pictures: int | None) -> list[Pair]:
    """The pairs that have pictures: the first ones in the order in which they are printed.

    A network with itself is drawn too while there are no more networks than that.

    Args:
        analysis: of the comparison.
        pictures: of so many pairs of different networks; None for all.
    """
    pairs = [matrix.pair for matrix in _by_kind(analysis)]
    own = [m.pair for m in analysis.comparison.matrices[analysis.similarity] if m.pair.of_one]
    few = pictures is None or len(own) <= pictures
    return [*(own if few else []), *pairs[:pictures]]


def draw_all(
    analysis: Analysis, folder: Path, series: pd.DataFrame | None, drawn: Collection[Pair]
) -> None:
    """Draw every figure of a comparison into its folder, and of each pair that is drawn."""
    comparison, measure = analysis.comparison, title_of(analysis.similarity)
    figures = folder / FIGURES
    for name in ("matrices", "depth"):
        (figures / name).mkdir(parents=True)
    for pair in progress(drawn, "figures", len(drawn)):
        save(_matrices(analysis, pair), figures / "matrices" / picture_of(pair))
        if not pair.of_one:
            cells = comparison.layer_matrix(pair.network_a, pair.network_b, analysis.similarity)
            save(_depth(analysis, cells), figures / "depth" / picture_of(pair))
    if len(comparison.networks) > 1:
        tree, random = analysis.tree, comparison.random
        drawn_networks = draw_networks(analysis.networks, tree, random, measure=measure)
        save(drawn_networks, figures / "networks")
        save(draw_agreement(_agreement_panels(analysis), measure=measure), figures / "agreement")
    if analysis.flows:
        save(_flow(analysis, measure), figures / "flow")
    if series is not None:
        save(draw_series(series, measure=measure), figures / "series")


def title_of(measure: str) -> str:
    """A measure as it is called in plots and tables."""
    return MEASURE_TITLES[measure]


def picture_of(pair: Pair) -> str:
    """The name of a picture of a pair, without a suffix; no two pairs have the same."""
    a, b = pair.network_a, pair.network_b
    name = f"{a}__{b}"
    if name.find("__") != len(a) or name.rfind("__") != len(a):  # a__b, c or a, b__c
        name += f"__{digest_of({'a': a, 'b': b})}"
    return short_name(name, LONGEST_PICTURE)


def track_comparison(
    analysis: Analysis, place: Path, tables: Mapping[str, pd.DataFrame], logger: Logger | None
) -> None:
    """Log the findings, short tables and pictures, and the cells of all pairs as one table.

    Other tables of a row for each cell stay in the folder, as do pictures of later pairs than
    the first `MOST_PAIRS`.
    """
    matrices = analysis.comparison.matrices[analysis.similarity]
    for name in (name for name in tables if name not in CELL_TABLES):
        tracking.log_table(logger, name, tables[name])
    cells = tidy(matrices)
    tracking.log_table(logger, "layer_similarity", cells[[*KEYS, "value", "stderr"]])
    shown = drawn_pairs(analysis, MOST_PAIRS)
    for path in pictures_to_track(place, [matrix.pair for matrix in matrices], shown):
        tracking.log_picture(logger, key_of(path, place), path)
    found = summarise(analysis)
    numbers = {f"findings/{name}": entry["value"] for name, entry in found["findings"].items()}
    tracking.log_summary(logger, numbers | {"sentence": found["sentence"]})


def pictures_to_track(place: Path, pairs: Sequence[Pair], shown: Collection[Pair]) -> list[Path]:
    """Pictures of a comparison folder: those of all pairs together, and of the pairs shown."""
    later = {picture_of(pair) for pair in pairs if pair not in shown}
    found = sorted([*place.rglob("*.png"), *place.rglob("*.jpg")])
    return [path for path in found if path.parent == place / FIGURES or path.stem not in later]


def key_of(path: Path, place: Path) -> str:
    """What a picture is tracked as.

    >>> key_of(Path("c/figures/depth/a__b.png"), Path("c"))
    'depth/a__b'
    """
    parts = path.relative_to(place).with_suffix("").parts
    return "/".join(parts[1:] if parts[0] == FIGURES else parts)


def print_comparison(analysis: Analysis, place: Path) -> None:
    """Print a row for each pair of networks, the findings, and where everything lies."""
    if len(analysis.comparison.networks) < 2:
        log.info("one run has no other to be compared with; its own matrix is drawn")
    else:
        _print_pairs(analysis)
        if len(analysis.agreement):
            print_table(
                f"Rank correlation with the {title_of(analysis.similarity)}, over pairs of layers",
                _short_agreement(analysis.agreement),
            )
        print_sentence(summarise(analysis)["sentence"])
    if analysis.comparison.left_out:
        log.warning(
            "left out of all matrices, since in some pair, half or re-pairing they are empty, too "
            "rare, or without a chance level (undefined_cells.csv): %s",
            listed([shown(name) for name in analysis.comparison.left_out]),
        )
        if not any(each.concepts for each in analysis.comparison.matrices["jaccard"]):
            log.warning("no concept is left, so that all numbers are NaN: add test images")
    places = {"pictures and tables": place}
    if (place / REPORT).is_dir():
        places["report, for any browser"] = place / REPORT / "index.html"
    print_places(places)


def _by_kind(analysis: Analysis) -> list[LayerMatrix]:
    """Of different networks: pairs of trained ones first, then mixed pairs, then random ones."""
    comparison = analysis.comparison
    return sorted(comparison.between(analysis.similarity), key=lambda m: comparison.rank(m.pair))


def _print_pairs(analysis: Analysis) -> None:
    """A row for each pair, see `_by_kind`."""
    comparison, matrices = analysis.comparison, _by_kind(analysis)
    kinds, rows = [comparison.kind(matrix.pair) for matrix in matrices[:MOST_PAIRS]], []
    for matrix in matrices[:MOST_PAIRS]:
        a, b = matrix.pair.network_a, matrix.pair.network_b
        numbers = analysis.numbers[analysis.similarity][a, b]
        twins = analysis.twin_numbers(analysis.similarity, (a, b))
        similarity, gap = numbers["similarity"], numbers["depth_gap"]
        row = {
            "networks": f"{a}\n{b}",
            "similarity": f"{similarity.value:.3f} ±{similarity.stderr:.3f}",
            "of ceiling": "",
            "depth gap": f"{gap.value:.3f}",
            "z of chance": f"{similarity.z:.1f}",
            "z of random": "",
        }
        if "share_of_ceiling" in numbers:
            row["of ceiling"] = f"{numbers['share_of_ceiling'].value:.2f}"
        if twins is not None:
            against = null_difference(similarity, twins["similarity"])
            row["z of random"] = f"{against['z_random']:.1f}"
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame = frame.drop(columns=[name for name in frame if (frame[name] == "").all()])
    title = f"Best matches of layers: {title_of(analysis.similarity)} above chance, ± error"
    apart = [k for k in range(len(kinds) - 1) if kinds[k] != kinds[k + 1]]
    print_table(title, frame, apart=apart)
    if len(matrices) > MOST_PAIRS:
        log.info("and %d more pairs in pairs.csv", len(matrices) - MOST_PAIRS)


def _short_agreement(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "measure": table["measure"],
            "all cells": table["value"],
            "from": table["low"],
            "to": table["high"],
            "within pairs": table["within_pairs"],
        }
    )


def _matrices(analysis: Analysis, pair: Pair) -> Figure:
    """The similarity beside the raw Jaccard index, or beside the adjusted one."""
    other = "jaccard" if analysis.similarity == "adjusted" else "adjusted"
    panels = []
    for measure in (other, analysis.similarity):
        matrix = analysis.comparison.layer_matrix(pair.network_a, pair.network_b, measure)
        frame = matrix.frame()
        frame.index = pd.Index(with_depth(pair.layers_a))
        frame.columns = pd.Index(with_depth(pair.layers_b))
        errors = matrix.estimate.stderr
        known = np.isfinite(errors).any()
        error = f"\n(median standard error {np.nanmedian(errors):.3f})" if known else ""
        panels.append((f"{title_of(measure)}{error}", frame))
        concepts = len(matrix.concepts)
    title = pair.title if not concepts else f"{pair.title}: {concepts} concepts"
    return draw_matrices(
        panels,
        title=title,
        rows=f"{pair.network_a}: layer, relative depth\n{DEPTH_UNIT}",
        columns=f"{pair.network_b}: layer, relative depth\n{DEPTH_UNIT}",
        scale=f"similarity {NO_UNIT}",
    )


def _depth(analysis: Analysis, matrix: LayerMatrix) -> Figure:
    matches = analysis.best_matches
    a, b = matrix.pair.network_a, matrix.pair.network_b
    ceilings = analysis.ceilings
    if len(ceilings):
        ceilings = ceilings[(ceilings["measure"] == matrix.measure) & ceilings["trunk"]]
    return draw_best_matches(
        matches[(matches["network_a"] == a) & (matches["network_b"] == b)],
        ceilings,
        title=f"Best matches of layers of {matrix.pair.title}",
        measure=title_of(matrix.measure),
    )


def _flow(analysis: Analysis, measure: str) -> Figure:
    """Trained networks first."""
    flows = dict(sorted(analysis.flows.items(), key=lambda x: analysis.comparison.random[x[0]]))
    curves = {network: flow.curve() for network, flow in flows.items()}
    distances = {network: flow.distances(analysis.weights) for network, flow in flows.items()}
    return draw_flow(curves, distances, measure=measure)


def _agreement_panels(analysis: Analysis) -> list[tuple[str, pd.DataFrame, float]]:
    comparison, panels = analysis.comparison, []
    reference = comparison.between(analysis.similarity)
    kinds = np.array([comparison.kind(matrix.pair) for matrix in reference], dtype=object)
    cells = {
        "x": np.concatenate([matrix.values.ravel() for matrix in reference]),
        "kind": np.repeat(kinds, [matrix.values.size for matrix in reference]),
    }
    for measure, rho in analysis.agreement[["measure", "value"]].to_numpy().tolist():
        y = np.concatenate([matrix.values.ravel() for matrix in comparison.between(measure)])
        panels.append((title_of(measure), pd.DataFrame({**cells, "y": y}), rho))
    return panels
