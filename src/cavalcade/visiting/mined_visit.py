"""What a visit does to mine concepts: mine, encode, name, draw."""

import logging
import shutil
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import Logger
from torch import Tensor

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ConceptSet, Factorisation
from cavalcade.concepts.encoding import Encoded, Encoding, LayerEncoding, unpack
from cavalcade.data import ConceptDataModule
from cavalcade.folders import write_meta
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
) -> tuple[ConceptSet, Encoded]:
    """Mine concepts and look where they fire; tables and galleries go into the folder."""
    mined = method.fit(backbone, data, trainers)
    encoding = Encoding(backbone, mined.concepts, data.data.grid, "test")
    trainers().test(encoding, data.in_order("test"), verbose=False)
    encoded = encoding.result()
    area = firing_areas(mined.concepts, encoded, truth)
    table = mined.table.assign(area=area.numpy())
    table.to_csv(folder / "concepts.csv", index=False, float_format="%.6g")
    names = pd.DataFrame()
    if truth.concepts:
        names = _names(backbone, mined.concepts, encoded, truth)
        names.to_csv(folder / "names.csv", index=False, float_format="%.6g")
    captions = captions_of(table, names)
    draw_galleries(
        backbone.label, backbone.layers, encoded.layers, captions, truth, folder / "galleries"
    )
    return mined.concepts, encoded


def redraw_galleries(place: Path, truth: Truth) -> None:
    """Draw or remove the galleries of a finished run, as thumbnails are kept by now or not."""
    folder, run = place / "galleries", load_run(place)
    if not isinstance(run, MinedRun) or folder.exists() == bool(len(truth.thumbnails)):
        return
    if folder.exists():
        shutil.rmtree(folder)
    encodings = {
        layer.name: LayerEncoding(
            run.bits(layer.name), run.strengths(layer.name), run.features(layer.name)
        )
        for layer in run.layers
    }
    captions = captions_of(run.table, run.names)
    draw_galleries(run.label, run.layers, encodings, captions, truth, folder)
    write_meta(place, "run", run.meta)


def firing_areas(
    concepts: ConceptSet, encoded: Encoded, truth: Truth
) -> Float[Tensor, " concepts"]:
    """Share of the area that the network saw in which each concept fires, layer after layer.

    NaN for a concept without a threshold.
    """
    seen = unpack(encoded.seen, truth.grid).sum()
    areas = []
    for name, layer in concepts.layers.items():
        fired = [
            unpack(bits, truth.grid).sum() for bits in encoded.layers[name].masks.unbind(dim=1)
        ]
        share = torch.stack(fired).double() / seen
        areas.append(torch.where(layer.thresholds.isnan(), torch.nan, share))
    return torch.cat(areas)


def _names(
    backbone: FrozenBackbone, concepts: ConceptSet, encoded: Encoded, truth: Truth
) -> pd.DataFrame:
    layers = [concepts.layers[name] for name in backbone.names]
    firing = Firing(
        torch.cat([unpack(encoded.layers[n].masks, truth.grid) for n in backbone.names], dim=1),
        unpack(encoded.seen, truth.grid),
        ~torch.cat([layer.thresholds for layer in layers]).isnan(),
    )
    places = [
        (name, concept)
        for name, layer in zip(backbone.names, layers, strict=True)
        for concept in layer.names
    ]
    return name_table(backbone.layers, places, firing, labels_of_truth(truth), truth)


def track_mined(run: MinedRun, logger: Logger | None) -> None:
    """Say where a run lies and what was found; log its tables and galleries."""
    log.info("%s: finished: %s", run.label, run.path)
    tracking.log_table(logger, "concepts", run.table)
    for path in sorted((run.path / "galleries").glob("*.jpg")):
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
    summary: dict[str, float | str] = {"run": str(run.path)}
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
