"""Visits one network once: reduces it, on a labelled data set, to a run folder."""

import logging
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from lightning.pytorch.loggers import Logger

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ConceptSet, Found, Probes
from cavalcade.concepts.encoding import Encoded, Encoding, score_matrix, score_table
from cavalcade.data import ConceptDataModule
from cavalcade.folders import check_name, digest_of, written_whole
from cavalcade.report import tracking
from cavalcade.report.heatmap import draw_matrices, with_depth
from cavalcade.runs import Run, load_run, write_run
from cavalcade.trainers import Trainers
from cavalcade.truth import Truth, data_folder

log = logging.getLogger(__name__)

RESUME_FROM = "checkpoints/last.ckpt"


def visit(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes,
    trainers: Trainers,
    *,
    runs: Path,
    config: Mapping[str, Any],
    force: bool = False,
) -> Path:
    """Find the concepts of one network and record where they fire on the test images.

    A finished run of the same digest is left as it is. An interrupted one goes on.

    Args:
        backbone: the network.
        data: the images as it sees them.
        method: how concepts are found.
        trainers: makes the trainer of each pass.
        runs: where run folders lie.
        config: what was asked, kept beside the results.
        force: run again even if finished.

    Returns:
        The run folder.
    """
    check_name("the label of the network", backbone.label)
    check_name("data.name", data.data.name)
    identity = identify(backbone, data, method, trainers)
    home = data_folder(runs, data)
    place = home / method.name / f"{backbone.label}-{digest_of(identity)}"
    if _finished(place) and not force:
        log.info(
            "%s: finished before, skipped (force=true runs it again): %s", backbone.label, place
        )
        os.utime(place)  # compare.py takes the data set that was asked for last
        return place
    trainers.check()
    _announce(backbone, data, method)
    tracking.log_config(trainers.logger, config)
    if not _finished(home / "truth"):
        Truth.of(data).save(home / "truth")
    resume = None if force else RESUME_FROM
    with written_whole(place, kind="run", resume=resume) as folder:
        found = method.fit(backbone, data, trainers, (folder / RESUME_FROM).parent)
        encoded, scores = _encode(backbone, data, found, trainers)
        _say_absent(found)
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
        _draw_scores(scores, backbone, data, folder / "scores.png")
        write_run(
            folder,
            meta=_describe(backbone, data, method, identity),
            layers=backbone.layers,
            found=found,
            encoded=encoded,
            scores=scores,
        )
    track_run(load_run(place), trainers.logger)
    return place


def identify(
    backbone: FrozenBackbone, data: ConceptDataModule, method: Probes, trainers: Trainers
) -> dict[str, Any]:
    """All that changes the results of a visit."""
    return {
        "cavalcade": version("cavalcade"),
        "backbone": backbone.identity(),
        "method": method.identity(),
        "trainer": trainers.identity(),
        "data": data.fingerprints,
        "grid": list(data.data.grid),
        "concepts": list(data.splits["test"].concepts),
        "batch_size": data.batch_size,
        "seed": data.seed,
    }


def _describe(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run's `meta.json` says of its origin."""
    return {
        "label": backbone.label,
        "random": backbone.random,
        "method": method.name,
        "digest": digest_of(identity),
        "identity": identity,
        "data": {
            "name": data.data.name,
            "test": data.fingerprints["test"],
            "grid": list(data.data.grid),
        },
        "concepts": list(data.splits["test"].concepts),
    }


def track_run(run: Run, logger: Logger | None) -> None:
    """Say where a run lies; log its scores as one table and one picture, and its best layer."""
    tracking.log_table(logger, "scores", run.scores)
    tracking.log_picture(logger, "scores_by_layer", run.path / "scores.png")
    per_layer = run.score_matrix("jaccard", "test").dropna(axis=1).mean(axis=1)
    log.info("%s: finished: %s", run.label, run.path)
    if per_layer.notna().any():
        log.info(
            "%s: best layer %s, mean test Jaccard index %.3f",
            run.label,
            per_layer.idxmax(),
            per_layer.max(),
        )
        best: dict[str, float | str] = {
            "best/layer": str(per_layer.idxmax()),
            "best/test_jaccard": float(per_layer.max()),
        }
        tracking.log_summary(logger, best | {"run": str(run.path)})


def _finished(place: Path) -> bool:
    return (place / "meta.json").is_file()


def _encode(
    backbone: FrozenBackbone, data: ConceptDataModule, found: Found, trainers: Trainers
) -> tuple[Encoded, pd.DataFrame]:
    """What the test images show, and the scores of validation and test."""
    tables = []
    thresholds = {name: layer.thresholds for name, layer in found.concepts.layers.items()}
    for split, halves in (("val", ()), ("test", found.halves)):
        encoding = Encoding(backbone, found.concepts, data.data.grid, split, halves)
        trainers().test(encoding, data.in_order(split), verbose=False)
        encoded = encoding.result()
        names = data.splits[split].concepts
        tables.append(score_table(encoded.layers, backbone.layers, names, thresholds, split))
    return encoded, pd.concat(tables, ignore_index=True)


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
    matrix.index = pd.Index(with_depth([(layer.name, layer.depth) for layer in backbone.layers]))
    draw_matrices(
        [("Jaccard index on test images", matrix)],
        path,
        title=f"{backbone.label} on {data.data.name}",
        rows="layer, relative depth",
        columns="concept",
    )


def _announce(backbone: FrozenBackbone, data: ConceptDataModule, method: Probes) -> None:
    """Print the taps, and the time and disk that the visit will take."""
    listed = ", ".join(f"{layer.name} ({layer.depth:.2f})" for layer in backbone.layers)
    log.info(
        "%s: %d layers with their relative depth: %s", backbone.label, len(backbone.layers), listed
    )
    test = data.splits["test"]
    elsewhere = {group for split in ("train", "val") for group in data.splits[split].groups}
    shared = elsewhere & set(test.groups)
    if shared and len(set(test.groups)) < len(test):  # groups are named, not one for each image
        log.warning(
            "%s: the groups %s are in the test split and in training or validation, so that test "
            "scores are too good; split by group to avoid it",
            data.data.name,
            ", ".join(sorted(shared)[:5]),
        )
    sizes = {split: len(dataset) for split, dataset in data.splits.items()}
    images = sizes["train"] * method.passes + sizes["val"] * (method.epochs + 1) + sizes["test"]
    seconds = images * _seconds_per_image(backbone, data.batch_size)
    rows, columns = data.data.grid
    masks = len(test.concepts) * len(backbone.layers) * method.replicates
    bits = sizes["test"] * masks * rows * columns
    features = 32 * sizes["test"] * sum(layer.channels for layer in backbone.layers)
    log.info(
        "%s: %d images through the network, whose forwards alone take about %.0f s on a CPU; "
        "%.1f MB on disk",
        backbone.label,
        images,
        seconds,
        (bits + features) / 8e6,
    )


def _seconds_per_image(backbone: FrozenBackbone, batch_size: int) -> float:
    inputs = torch.zeros(batch_size, 3, *backbone.preprocessing.size)
    backbone(inputs)
    start = time.perf_counter()
    backbone(inputs)
    return (time.perf_counter() - start) / batch_size
