"""Mined concepts of one network on the test images where they are strongest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jaxtyping import Float, UInt8
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.encoding import LayerEncoding, unpack
from cavalcade.report.gallery import GalleryRow, Tile, draw_gallery
from cavalcade.truth import Truth

TILES = 6
PAGE_BYTES = 500_000  # about
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
        draw_gallery(rows, folder / f"{number:02d}-{layer.name}.jpg", title=title)


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
