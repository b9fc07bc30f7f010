"""Mined concepts on the test images where they are strongest: of one network, and matched."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cavalcade.analysis import Analysis
from cavalcade.backbones import Layer
from cavalcade.concepts.encoding import LayerEncoding, unpack
from cavalcade.report.gallery import GalleryRow, Tile, draw_gallery
from cavalcade.runs import MinedRun, Run
from cavalcade.truth import Truth

TILES, MATCHED_TILES = 6, 4  # of a concept, and of each of two that match
MATCHED_LAYERS, PARTNERS = 6, 2
SMALLEST = 1e-12
NO_LABEL = "no label"


def draw_galleries(
    label: str,
    layers: Sequence[Layer],
    encodings: Mapping[str, LayerEncoding],
    captions: Mapping[tuple[str, str], Sequence[str]],
    truth: Truth,
    folder: Path,
) -> None:
    """A page for each layer, its concepts in rows; nothing without thumbnails.

    Args:
        label: of the network.
        layers: the taps.
        encodings: masks and strengths.
        captions: for each layer and concept some lines.
        truth: of the test images.
        folder: which is made.
    """
    if not len(truth.thumbnails):
        return
    folder.mkdir()
    for number, layer in enumerate(layers):
        encoding = encodings[layer.name]
        names = [name for where, name in captions if where == layer.name]
        rows = [
            GalleryRow(
                name,
                tuple(captions[layer.name, name]),
                (
                    tiles(
                        encoding.masks[:, k],
                        strongest(encoding.strengths[:, k], truth.blocks),
                        truth,
                    ),
                ),
            )
            for k, name in enumerate(names)
        ]
        title = f"{label}, {layer.name} (depth {layer.depth:.2f}): where each concept is strongest"
        draw_gallery(rows, folder / f"{number:02d}-{layer.name}.png", title=title)


def draw_match_galleries(
    analysis: Analysis, runs: Sequence[Run], names: pd.DataFrame | None, folder: Path
) -> None:
    """A page for each pair of mined networks, concepts that match side by side on the same images.

    From up to six pairs of layers spread over depth the two best partners each. Nothing without
    thumbnails.
    """
    mined = {
        network: run
        for network, run in zip(analysis.comparison.networks, runs, strict=True)
        if isinstance(run, MinedRun)
    }
    matches = analysis.concept_matches
    if not len(matches) or not len(runs[0].truth.thumbnails):
        return
    folder.mkdir()
    labels = {} if names is None else _labels(names)
    for (a, b), table in matches.groupby(["network_a", "network_b"], sort=False):
        rows = [
            _match_row(mined[str(a)], mined[str(b)], match, labels)
            for _, match in _spread(table).iterrows()
        ]
        draw_gallery(
            rows,
            folder / f"{a}__{b}.png",
            title=f"Concepts of {a} and of {b} that match, from shallow to deep",
            groups=(str(a), str(b)),
        )


def _spread(matches: pd.DataFrame) -> pd.DataFrame:
    """The best partners of some pairs of layers, evenly over depth, in its order."""
    table = matches[matches["mutual"]] if matches["mutual"].any() else matches
    layers = table[["layer_a", "layer_b"]].drop_duplicates()
    chosen = np.unique(np.linspace(0, len(layers) - 1, MATCHED_LAYERS).round().astype(int))
    kept = layers.iloc[chosen].merge(table, on=["layer_a", "layer_b"], how="left")
    best = kept.sort_values("adjusted", ascending=False, kind="stable")
    best = best.groupby(["layer_a", "layer_b"]).head(PARTNERS)
    return best.sort_values(["depth_a", "depth_b", "adjusted"], ascending=[True, True, False])


def _match_row(
    a: MinedRun, b: MinedRun, match: pd.Series, labels: Mapping[tuple[str, str, str], str]
) -> GalleryRow:
    """Two partners on the images where both are strong."""
    places = [(a, match["network_a"], match["layer_a"], match["concept_a"]),
              (b, match["network_b"], match["layer_b"], match["concept_b"])]  # fmt: skip
    strengths, masks, notes = [], [], []
    for run, network, layer, concept in places:
        k = run.concept_set.layers[layer].names.index(concept)
        strength = run.strengths(layer)[:, k]
        strengths.append(strength / strength.max().clamp(min=SMALLEST))
        masks.append(run.bits(layer)[:, k])
        notes.append(f"{layer} {concept}: {labels.get((network, layer, concept), NO_LABEL)}")
    truth = a.truth
    images = strongest(torch.minimum(*strengths), truth.blocks, MATCHED_TILES)
    return GalleryRow(
        f"{match['adjusted']:.2f} ±{match['stderr']:.2f}",
        tuple(notes),
        tuple(tiles(bits, images, truth) for bits in masks),
    )


def _labels(names: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The label of each concept that has one."""
    named = names[names["named"]]
    keys = zip(named["network"], named["layer"], named["concept"], strict=True)
    return dict(zip(keys, named["label"], strict=True))


def strongest(
    strengths: Float[Tensor, " images"], blocks: Sequence[int], count: int = TILES
) -> list[int]:
    """The images of largest strength, no two of the same or of neighbouring blocks.

    Frames of a video that follow each other are alike. Images on which the concept does not fire
    at all are left out.
    """
    chosen: dict[int, int] = {}
    for image in strengths.argsort(descending=True, stable=True).tolist():
        block = blocks[image]
        if strengths[image] > 0 and not {block - 1, block, block + 1} & chosen.keys():
            chosen[block] = image
    return list(chosen.values())[:count]


def tiles(
    masks: UInt8[Tensor, "images bytes"], images: Sequence[int], truth: Truth
) -> tuple[Tile, ...]:
    """Some images with the mask of one concept."""
    return tuple(
        Tile(truth.thumbnails[k], unpack(masks[k], truth.grid).view(*truth.grid)) for k in images
    )


def captions_of(table: pd.DataFrame, names: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """What is said beside each concept: its label, its area, and how reproducible it is.

    Args:
        table: see `Mined`, with the column area.
        names: see `name_table`, of the same rows; may be empty.
    """
    captions = {}
    for number, row in enumerate(table.to_dict("records")):
        lines = _named(names.iloc[number]) if len(names) else []
        lines.append(f"{row['area']:.1%} of all area")
        if pd.notna(row["reproducibility"]):
            lines.append(f"reproducible {row['reproducibility']:.2f}")
        captions[row["layer"], row["concept"]] = lines
    return captions


def _named(row: pd.Series) -> list[str]:
    """The label, how well it fits, and how much fires where it is not."""
    if not row["named"]:
        return [NO_LABEL]
    lines = [f"{row['label']} {row['adjusted']:.2f} ±{row['stderr']:.2f}"]
    if pd.notna(row["area_without"]):
        lines.append(f"{row['area_without']:.1%} in images without it")
    return lines
