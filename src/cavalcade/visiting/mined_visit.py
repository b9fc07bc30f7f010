"""What a visit does to mine concepts: mine, encode, name, draw."""

import logging
import shutil
from pathlib import Path, PurePosixPath

import pandas as pd
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import Logger
from torch import Tensor

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ConceptSet, Factorisation
from cavalcade.concepts.encoding import Encoded, Encoding, LayerEncoding, unpack
from cavalcade.data import ConceptDataModule
from cavalcade.folders import write_meta, written_whole
from cavalcade.galleries import captions_of, draw_galleries
from cavalcade.names import labels_of_truth, name_table
from cavalcade.report import tracking
from cavalcade.runs import MinedRun, load_run
from cavalcade.similarity import Firing
from cavalcade.truth import Truth
from cavalcade.visiting.trainers import Trainers

log = logging.getLogger(__name__)


def reduce_mined(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    method: Factorisation,
    trainers: Trainers,
    truth: Truth,
    folder: Path,
) -> tuple[ConceptSet, Encoded] | None:
    """Mine concepts and look where they fire; tables and galleries go into the folder.

    None but in the first process, which alone writes.
    """
    mined = method.find(backbone, data, trainers)
    encoding = Encoding(backbone, mined.concepts, data.data.grid, "test")
    trainers().test(encoding, data.in_order("test"), verbose=False)
    encoded = encoding.result()
    if encoded is None:
        return None
    firing = firing_of(mined.concepts, encoded, truth)
    table = mined.table.assign(area=firing_areas(firing).numpy())
    table.to_csv(folder / "concepts.csv", index=False, float_format="%.6g")
    names = pd.DataFrame()
    if truth.concepts:
        labels = labels_of_truth(truth)
        names = name_table(backbone.layers, mined.concepts.places, firing, labels, truth)
        names.to_csv(folder / "names.csv", index=False, float_format="%.6g")
    captions = captions_of(table, names)
    draw_galleries(
        backbone.label, backbone.layers, encoded.layers, captions, truth, folder / "galleries"
    )
    return mined.concepts, encoded


def redraw_galleries(place: Path, truth: Truth) -> None:
    """Draw or remove the galleries of a finished run, as thumbnails are kept by now or not."""
    if (place / "galleries").exists() == bool(len(truth.thumbnails)):
        return
    run = load_run(place)
    assert isinstance(run, MinedRun)
    encodings = {
        layer.name: LayerEncoding(
            run.bits(layer.name), run.strengths(layer.name), run.features(layer.name)
        )
        for layer in run.layers
    }
    captions = captions_of(run.table, run.names)
    kept = [name for name in run.meta["files"] if not name.startswith("galleries/")]
    with written_whole(place, kind="run") as again:
        for name in kept:
            (again / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(place / name, again / name)
        draw_galleries(run.label, run.layers, encodings, captions, truth, again / "galleries")
        write_meta(again, "run", run.meta)


def firing_of(concepts: ConceptSet, encoded: Encoded, truth: Truth) -> Firing:
    """Where the concepts of all layers fire on the test images, layer after layer."""
    masks = [unpack(encoded.layers[name].masks, truth.grid) for name in concepts.layers]
    return Firing(torch.cat(masks, dim=1), unpack(encoded.seen, truth.grid), concepts.found)


def firing_areas(firing: Firing) -> Float[Tensor, " concepts"]:
    """Share of the area that the network saw in which each concept fires.

    NaN for a concept without a threshold.
    """
    share = firing.masks.sum(dim=(0, 2)).double() / firing.seen.sum()
    return share if firing.found is None else torch.where(firing.found, share, torch.nan)


def track_mined(run: MinedRun, logger: Logger | None) -> None:
    """Say where a run lies and what was found; log its tables and galleries."""
    log.info("%s: finished: %s", run.label, run.path)
    tracking.log_table(logger, "concepts", run.table)
    drawn = [name for name in run.meta["files"] if PurePosixPath(name).match("galleries/*.jpg")]
    for path in (run.path / name for name in sorted(drawn)):
        tracking.log_picture(logger, f"galleries/{path.stem}", path)
    errors = run.table.groupby("layer", sort=False)["relative_error"].first()
    log.info(
        "%s: %d concepts at %d layers in all, relative reconstruction error %.2f to %.2f",
        run.label,
        len(run.table),
        len(errors),
        errors.min(),
        errors.max(),
    )
    summary: dict[str, float | str] = {
        "run": run.path.name,
        "num_layers": len(run.layers),
        "num_concepts": len(run.table),
        "mean/relative_error": float(errors.mean()),
        "mean/reproducibility": float(run.table["reproducibility"].mean()),
    }
    if len(run.names):
        tracking.log_table(logger, "names", run.names)
        summary |= _best_names(run)
    tracking.log_summary(logger, summary)


def _best_names(run: MinedRun) -> dict[str, float | str]:
    """For each label the concept that overlaps it best; those that are found are said."""
    named = run.names[run.names["named"]].sort_values("adjusted", ascending=False, kind="stable")
    best = named.drop_duplicates("label")
    if len(best):
        found = (
            f"{row['label']} {row['adjusted']:.2f} ({row['layer']} {row['concept']})"
            for _, row in best.iterrows()
        )
        log.info(
            "%s: labels found among its concepts, by their adjusted Jaccard index: %s",
            run.label,
            ", ".join(found),
        )
    return {f"labels/{row['label']}": float(row["adjusted"]) for _, row in best.iterrows()}
