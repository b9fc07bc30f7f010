"""Mined concepts of one network on the test images where they are strongest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jaxtyping import Float, UInt8
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.encoding import LayerEncoding, unpack
from cavalcade.meta_fields import LONGEST_NAME
from cavalcade.report.gallery import GalleryRow, Tile, draw_gallery
from cavalcade.truth import Truth

Captions = Mapping[str, Mapping[str, Sequence[str]]]

TILES, ROWS = 6, 50  # of a concept, and on a page
ROW_BYTES = 100_000  # about
NO_LABEL = "no label"


def draw_galleries(
    label: str,
    layers: Sequence[Layer],
    encodings: Mapping[str, LayerEncoding],
    captions: Captions,
    truth: Truth,
    folder: Path,
) -> None:
    """A page or more for each layer, its concepts in rows; nothing without thumbnails.

    Args:
        label: of the network.
        layers: the taps.
        encodings: masks and strengths.
        captions: see `captions_of`.
        truth: of the test images.
        folder: which is made.
    """
    if not len(truth.thumbnails):
        return
    folder.mkdir()
    for number, layer in enumerate(layers):
        encoding = encodings[layer.name]
        rows = [
            GalleryRow(
                name,
                tuple(lines),
                (tiles(encoding.masks[:, k], strongest(encoding.strengths[:, k], truth), truth),),
            )
            for k, (name, lines) in enumerate(captions[layer.name].items())
        ]
        title = (
            f"{label}, {layer.name}, depth {layer.depth:.2f}: each concept fires inside the line"
        )
        for page, first in enumerate(range(0, len(rows), ROWS)):
            name = f"{number:02d}-{_in_a_path(layer.name)}{f'-{page + 1}' if page else ''}.jpg"
            draw_gallery(rows[first : first + ROWS], folder / name, title=title)


def _in_a_path(layer: str) -> str:
    """The name of a layer as part of that of a file."""
    name = "".join(c if c.isprintable() and c not in "/\\ " else "-" for c in layer)
    return name.encode()[-LONGEST_NAME:].decode(errors="ignore")


def strongest(strengths: Float[Tensor, " images"], truth: Truth, count: int = TILES) -> list[int]:
    """The images of largest strength, no two of the same block, nor of neighbours in a group.

    Frames of a video that follow each other are alike. Images on which the concept does not fire
    at all are left out.
    """
    chosen: list[int] = []
    for image in strengths.argsort(descending=True, stable=True).tolist():
        if strengths[image] > 0 and not any(_alike(image, other, truth) for other in chosen):
            chosen.append(image)
        if len(chosen) == count:
            break
    return chosen


def _alike(image: int, other: int, truth: Truth) -> bool:
    apart = abs(truth.blocks[image] - truth.blocks[other])
    return apart == 0 or (apart == 1 and truth.groups[image] == truth.groups[other])


def tiles(
    masks: UInt8[Tensor, "images bytes"], images: Sequence[int], truth: Truth
) -> tuple[Tile, ...]:
    """Some images with the mask of one concept."""
    return tuple(
        Tile(truth.thumbnails[k], unpack(masks[k], truth.grid).view(*truth.grid)) for k in images
    )


def captions_of(table: pd.DataFrame, names: pd.DataFrame) -> Captions:
    """What is said beside each concept of each layer: label, area, and how reproducible it is.

    Args:
        table: see `Mined`, with the column area.
        names: see `name_table`, of the same rows; may be empty.
    """
    captions: dict[str, dict[str, list[str]]] = {}
    for number, row in enumerate(table.to_dict("records")):
        lines = _named(names.iloc[number]) if len(names) else []
        if pd.notna(row["area"]):
            lines.append(f"in all images: {row['area']:.1%}")
        if pd.notna(row["reproducibility"]):
            lines.append(f"reproducible {row['reproducibility']:.2f}")
        captions.setdefault(row["layer"], {})[row["concept"]] = lines
    return captions


def _named(row: pd.Series) -> list[str]:
    """The label, how well it fits, and how much fires where it is not."""
    if not row["named"]:
        return [NO_LABEL]
    lines = [f"{row['label']} {row['adjusted']:.3f} ±{row['stderr']:.3f}"]
    if pd.notna(row["area_without"]):
        lines.append(f"in images without it: {row['area_without']:.1%}")
    return lines
