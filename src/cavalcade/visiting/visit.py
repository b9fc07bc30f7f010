"""Visits one network once: reduces it, on a data set, to a run folder."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ActivationCache, Factorisation, Probes
from cavalcade.data import ConceptDataModule
from cavalcade.data.left_out import LEFT_OUT
from cavalcade.errors import listed
from cavalcade.folders import check_name, digest_of, recover, written_whole
from cavalcade.locks import locked
from cavalcade.report import tables
from cavalcade.report.artifacts import log_run_artifacts
from cavalcade.report.tracking import TrackedJob, Tracker, train_job
from cavalcade.runs import MinedRun, ProbedRun, load_run, write_run
from cavalcade.truth import Truth, data_folder
from cavalcade.version import __version__
from cavalcade.visiting.cost import BESIDE_CACHE, IF_CACHED, cost_of, seconds_per_image
from cavalcade.visiting.failures import failures_said
from cavalcade.visiting.mined_visit import redraw_galleries, reduce_mined, track_mined
from cavalcade.visiting.probed_visit import reduce_probed, track_probed
from cavalcade.visiting.signals import told_to_stop
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visited import Visited

MAX_ROWS = 40  # of the table of concepts

log = logging.getLogger(__name__)


def visit(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes | Factorisation,
    trainers: Trainers,
    *,
    runs: Path,
    config: Mapping[str, Any],
    force: bool = False,
    tracker: Tracker | None = None,
    cache: ActivationCache | None = None,
) -> Visited:
    """Find the concepts of one network and record where they fire on the test images.

    A finished run of the same digest is left as it is. An interrupted one goes on, however it
    was interrupted. While another process is at work on the run, this one waits for it.

    Args:
        backbone: the network.
        data: the images as it sees them.
        method: how concepts are found.
        trainers: makes the trainer of each pass.
        runs: where run folders lie.
        config: what was asked, kept beside the results.
        force: run again even if finished, from the start unless that was interrupted too.
        tracker: makes the logger of the fit, unless the visit is skipped; None tracks nothing.
        cache: has activations, or gets them; None computes them in every pass.

    Returns:
        The run folder, and whether it was finished before.
    """
    check_name("data.name", data.data.name)
    identity = identify(backbone, data, method, trainers)
    home = data_folder(runs, data)
    place = home / method.name / f"{backbone.label}-{digest_of(identity)}"
    tracker = tracker or Tracker()
    with (
        told_to_stop(),
        failures_said(backbone.label, data.num_workers),
        ExitStack() as held,
    ):
        processes.from_first(lambda: held.enter_context(locked(place)))
        if processes.from_first(lambda: _finished(place, "run", force=force)):
            if processes.is_first():
                _keep(place, backbone, data, method)
            return Visited(place, skipped=True)
        trainers.check()
        processes.from_first(
            lambda: _announce(backbone, data, method, trainers, cached=cache is not None)
        )
        if cache:
            held.callback(cache.release, data)
            cache.serve(backbone, data, trainers, trainers.precision)
        meta = _describe(backbone, data, method, identity)
        job = train_job(place, meta, len(backbone.layers), force=force)
        trainers.logger = _begun(tracker, job, config)
        _make(place, backbone, data, method, trainers, meta=meta, config=config, force=force)
        if processes.is_first():
            track_run(load_run(place), tracker)
    return Visited(place, skipped=False)


def _keep(
    place: Path, backbone: FrozenBackbone, data: ConceptDataModule, method: Probes | Factorisation
) -> None:
    """Leave a finished run as it is, but for its galleries."""
    log.info("%s: finished before, skipped (force=true runs it again): %s", backbone.label, place)
    truth = _keep_truth(place.parents[1] / "truth", data)
    if isinstance(method, Factorisation):
        redraw_galleries(place, truth)
    os.utime(place)  # compare.py takes the data set that was asked for last


def _make(
    place: Path,
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes | Factorisation,
    trainers: Trainers,
    *,
    meta: Mapping[str, Any],
    config: Mapping[str, Any],
    force: bool,
) -> None:
    """Reduce a network to its run folder; goes on where a process was killed."""
    truth = processes.from_first(lambda: _keep_truth(place.parents[1] / "truth", data))
    with ExitStack() as writing:
        folder = processes.from_first(
            lambda: writing.enter_context(
                written_whole(place, kind="run", resume=method.checkpoints, again=force)
            )
        )
        within = replace(trainers, root=folder)
        if isinstance(method, Probes):
            reduced = reduce_probed(backbone, data, method, within, folder)
        else:
            reduced = reduce_mined(backbone, data, method, within, truth, folder)
        if reduced is None:  # the first process writes
            return
        concepts, encoded = reduced
        if not data.left_out.empty:
            data.left_out.to_csv(folder / LEFT_OUT, index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
        write_run(
            folder,
            meta=meta,
            layers=backbone.layers,
            concepts=concepts,
            encoded=encoded,
        )


def track_run(run: ProbedRun | MinedRun, tracker: Tracker) -> None:
    """Say where a run lies and what it found; log its tables, pictures and files."""
    if isinstance(run, MinedRun):
        track_mined(run, tracker.logger)
    else:
        track_probed(run, tracker.logger)
    if tracker.artifacts:
        log_run_artifacts(tracker.logger, run.path, run.meta)


def identify(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes | Factorisation,
    trainers: Trainers,
) -> dict[str, Any]:
    """All that changes the results of a visit, and what was left out of its data."""
    left_out = {str(split): list(rows["id"]) for split, rows in data.left_out.groupby("split")}
    told = {"left_out": digest_of(left_out)} if left_out else {}
    return {
        "cavalcade": __version__,
        "backbone": backbone.identity(),
        "method": method.identity(),
        "trainer": trainers.identity(),
        "data": data.fingerprints,
        "grid": list(data.data.grid),
        "concepts": list(data.splits["test"].concepts),
        "batch_size": data.batch_size,
        "seed": data.seed,
        **told,
    }


def _describe(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes | Factorisation,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run's `meta.json` says of its origin."""
    left_out = data.left_out["split"].value_counts(sort=False).to_dict()
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
            **({"left_out": left_out} if left_out else {}),
        },
        "concepts": list(data.splits["test"].concepts),
    }


def _keep_truth(place: Path, data: ConceptDataModule) -> Truth:
    """The truth folder of a data set, made again only where other thumbnails are asked for."""
    with locked(place):  # jobs of one sweep ask for it at the same time
        if _finished(place, "truth"):
            truth = Truth.load(place)
            if truth.thumbnail_size == data.data.thumbnails:
                return truth
        truth = Truth.of(data)
        truth.save(place)
        return truth


def _finished(place: Path, kind: str, *, force: bool = False) -> bool:
    """Whether there is nothing to do at a place; what was nearly finished is finished."""
    recovered = recover(place, kind, again=force)
    return recovered or (place.exists() and not force)


def _begun(tracker: Tracker, job: TrackedJob, config: Mapping[str, Any]) -> Logger | None:
    """The logger of a visit; what fails in the first process fails in all."""

    def begin() -> None:
        tracker.begin(job, config)

    processes.from_first(begin)
    return tracker.logger if processes.is_first() else tracker.begin(job, config)


def _announce(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Probes | Factorisation,
    trainers: Trainers,
    *,
    cached: bool,
) -> None:
    """Print the taps, the concepts, and the time and disk that the visit will take."""
    layers = ", ".join(f"{layer.name} ({layer.depth:.2f})" for layer in backbone.layers)
    log.info(
        "%s: %d layers with their relative depth: %s", backbone.label, len(backbone.layers), layers
    )
    _show_concepts(data)
    _say_shared_groups(data)
    cost = cost_of(
        backbone,
        data.data,
        method,
        sizes={split: len(dataset) for split, dataset in data.splits.items()},
        labels=data.splits["test"].concepts,
        seconds_per_image=seconds_per_image(
            backbone.to(trainers.device), data.batch_size, trainers.precision, trainers.device
        ),
    )
    backbone.cpu()  # each pass takes it to the device
    log.info(
        "%s: %d images through the network%s, whose forwards alone take about %.0f s on a %s; "
        "%.1f MB on disk%s",
        *(backbone.label, cost.images, IF_CACHED if cached else "", cost.seconds),
        *(
            "GPU" if trainers.device.type == "cuda" else "CPU",
            cost.megabytes,
            BESIDE_CACHE if cached else "",
        ),
    )


def _show_concepts(data: ConceptDataModule) -> None:
    """Print how often each concept is shown, the largest first if there are many."""
    table = data.concept_table()
    if table.empty:
        return
    title = f"Concepts of {data.data.name}, percent of labelled pixels"
    largest = table.sort_values(table.columns[2], ascending=False, kind="stable")
    tables.print_table(title, table if len(table) <= MAX_ROWS else largest[:MAX_ROWS])
    if len(table) > MAX_ROWS:
        tables.print_sentence(f"and {len(table) - MAX_ROWS} smaller concepts")
    for split in data.splits:
        absent = table.loc[table[f"{split} images"] == 0, "concept"].tolist()
        if absent and split != "train":  # of training images, a fit says so
            log.warning(
                "%s: no %s image shows %s, which cannot be scored there",
                *(data.data.name, split, listed(absent)),
            )


def _say_shared_groups(data: ConceptDataModule) -> None:
    test = data.splits["test"]
    others = [split for name, split in data.splits.items() if name != "test"]
    elsewhere = {group for split in others for group in split.groups}
    shared = elsewhere & set(test.groups)
    if shared and len(set(test.groups)) < len(test):  # groups are named, not one for each image
        log.warning(
            "%s: the groups %s are in the test split and in training or validation, so that test "
            "scores and masks are better than on new images; split by group to avoid it",
            data.data.name,
            ", ".join(sorted(shared)[:5]),
        )
