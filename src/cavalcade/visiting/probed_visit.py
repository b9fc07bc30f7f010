"""What a visit does to probe for labelled concepts: fit, encode, score, draw."""

import logging
from pathlib import Path

import pandas as pd
from lightning.pytorch.loggers import Logger

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ConceptSet, Found, Probes
from cavalcade.concepts.checkpoints import FOLDER, LAST, forget_previous
from cavalcade.concepts.encoding import Encoded, Encoding
from cavalcade.concepts.scoring import score_matrix, score_table
from cavalcade.data import ConceptDataModule
from cavalcade.report import tracking
from cavalcade.report.figures import DEPTH_UNIT, NO_UNIT, save
from cavalcade.report.heatmap import draw_matrices, with_depth
from cavalcade.runs import ProbedRun, write_halves
from cavalcade.table_files import read_table
from cavalcade.visiting.trainers import Trainers

LOSSES = "losses.csv"  # of each layer after each epoch

log = logging.getLogger(__name__)


def reduce_probed(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes,
    trainers: Trainers,
    folder: Path,
) -> tuple[ConceptSet, Encoded] | None:
    """Fit probes and look where they fire; scores, losses and halves go into the folder.

    None but in the first process, which alone writes.
    """
    found = method.find(backbone, data, trainers, folder)
    seen = _encode(backbone, data, found, trainers)
    if seen is None:
        return None
    encoded, scores = seen
    _say_absent(found)
    scores.to_csv(folder / "scores.csv", index=False, float_format="%.6g")
    found.losses.to_csv(folder / LOSSES, index=False, float_format="%.6g")
    _draw_scores(scores, backbone, data, folder / "scores")
    if found.halves:
        write_halves(folder, found.halves, encoded.halves)
    if method.checkpoints:
        forget_previous(folder / FOLDER / LAST)
    return found.concepts, encoded


def _encode(
    backbone: FrozenBackbone, data: ConceptDataModule, found: Found, trainers: Trainers
) -> tuple[Encoded, pd.DataFrame] | None:
    """What the test images show, and the scores of validation and test; None but in the first."""
    tables = []
    thresholds = {name: layer.thresholds for name, layer in found.concepts.layers.items()}
    for split, halves in (("val", ()), ("test", found.halves)):
        encoding = Encoding(
            backbone, found.concepts, data.data.grid, split, halves=halves, scored=True
        )
        trainers().test(encoding, data.in_order(split), verbose=False)
        counts = encoding.label_counts()
        if counts is not None:
            names = data.splits[split].concepts
            tables.append(score_table(counts, backbone.layers, names, thresholds, split))
    encoded = encoding.result()
    return None if encoded is None else (encoded, pd.concat(tables, ignore_index=True))


def _say_absent(found: Found) -> None:
    absent = _absent(found.concepts)
    if absent:
        log.warning(
            "no training pixel shows %s, or none at a centre of data.grid: kept, its scores and "
            "similarities are NaN",
            ", ".join(absent),
        )
    for number, half in enumerate(found.halves, start=1):
        missing = [name for name in _absent(half) if name not in absent]
        if missing:
            log.warning(
                "half %d of the training images does not show %s, or not at a centre of data.grid: "
                "its ceiling is NaN; concepts.split_half=false fits no halves",
                number,
                ", ".join(missing),
            )


def _absent(concepts: ConceptSet) -> list[str]:
    first = next(iter(concepts.layers.values()))
    return [n for n, t in zip(first.names, first.thresholds, strict=True) if t.isnan()]


def _draw_scores(
    scores: pd.DataFrame, backbone: FrozenBackbone, data: ConceptDataModule, path: Path
) -> None:
    matrix = score_matrix(scores, backbone.names, data.splits["test"].concepts, "jaccard", "test")
    matrix.index = pd.Index(with_depth(backbone.layers))
    figure = draw_matrices(
        [("scores on test images", matrix)],
        title=f"{backbone.label} on {data.data.name}",
        rows=f"layer, relative depth\n{DEPTH_UNIT}",
        columns="concept",
        scale=f"Jaccard index with the labels {NO_UNIT}",
    )
    save(figure, path, kinds=["png"])


def track_probed(run: ProbedRun, logger: Logger | None) -> None:
    """Say where a run lies; log scores and losses as tables, a picture, and its best layer."""
    tracking.log_table(logger, "scores", run.scores)
    losses = run.file(LOSSES)
    if losses is not None:
        tracking.log_table(logger, "losses", read_table(losses))
    tracking.log_picture(logger, "scores_by_layer", run.path / "scores.png")
    scores = run.score_matrix("jaccard", "test")
    per_layer = scores.dropna(axis=1).mean(axis=1)
    summary: dict[str, float | str] = {
        "run": run.path.name,
        "num_layers": len(run.layers),
        "num_concepts": len(run.concepts),
        "best/jaccard_per_concept": float(scores.max().mean()),
    }
    log.info("%s: finished: %s", run.label, run.path)
    if per_layer.notna().any():
        log.info(
            "%s: best layer %s, mean test Jaccard index %.3f",
            run.label,
            per_layer.idxmax(),
            per_layer.max(),
        )
        summary["best/layer"] = str(per_layer.idxmax())
        summary["best/test_jaccard"] = float(per_layer.max())
    tracking.log_summary(logger, summary)
