"""Concepts as pictures: the images where each is strongest, with its mask drawn over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from cavalcade.report.lettering import font_of, wrapped

# a mask is drawn at twice the size of its image, so that its border gets soft edges
FINE = 2
DARK_RADIUS, LINE_RADIUS = 1, 4  # of the border outside of a mask, in fine pixels
LINE, DARK = (255, 225, 25), (0, 0, 0)
BRIGHTNESS = 0.5  # of what is outside of a mask

# a page of photos is a fourth as large as JPEG; PNG twice as fast as by default, and no larger
SAVING: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 88, "subsampling": 0},
    ".png": {"compress_level": 3},
}

# in pixels
MARGIN, TILE_GAP, ROW_GAP, GROUP_GAP = 24, 8, 14, 44
LABEL_WIDTH, PAGE_WIDTH = 300, 600  # the widest label, the narrowest page
TITLE, HEADING, NAME, NOTE = (24, True), (19, True), (20, True), (16, False)  # size, bold
INK, PALE_INK = "#1a1a1a", "#4d4d4d"


class Tile(NamedTuple):
    """An image and where a concept fires in it.

    Attributes:
        image: RGB, drawn as large as it is: some 176 pixels along the longer side look best.
        mask: over the whole image, on any grid.
    """

    image: UInt8[Tensor, "3 height width"]
    mask: Bool[Tensor, "rows columns"]


@dataclass(frozen=True)
class GalleryRow:
    """A concept, or a match of several.

    Attributes:
        title: its name.
        notes: lines below the name, wrapped where they are long.
        tiles: for each group of columns its tiles, of any number.
    """

    title: str
    notes: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]


def draw_gallery(
    rows: Sequence[GalleryRow], path: Path, *, title: str, groups: Sequence[str] = ("",)
) -> None:
    """Draw a row of tiles for each concept; what is outside of a mask is dark and grey.

    All cells have one size, that of the largest image. An image is in the middle of its cell.

    Args:
        rows: from top to bottom.
        path: of the file, `.jpg` or `.png`.
        title: over all of them.
        groups: headings of the groups of columns, such as names of networks.
    """
    sheet = _sheet_for(rows, len(groups))
    bands = [_title_band(title, sheet)]
    if any(groups):
        bands.append(_heading_band(groups, sheet))
    bands += [_row_band(row, sheet) for row in rows]
    height = sum(band.height for band in bands) - ROW_GAP + MARGIN
    page = Image.new("RGB", (sheet.width, height), "white")
    top = 0
    for band in bands:
        page.paste(band, (0, top))
        top += band.height
    page.save(path, **SAVING[path.suffix])


def highlighted(tile: Tile) -> UInt8[Tensor, "3 height width"]:
    """The image, dark and grey outside of the mask, with a bright line around the mask.

    The line lies outside of the mask, so that thin objects keep all of their pixels; there is
    none along the edges of the image. A dark hairline parts it from the mask, which may be as
    bright: a white sky. All of the image is grey where the mask is empty.
    """
    image = tile.image.float()
    fired = _fine_mask(tile.mask, *image.shape[1:])
    luma = torch.tensor([0.299, 0.587, 0.114])
    picture = BRIGHTNESS * torch.einsum("c,chw->hw", luma, image).expand_as(image)
    for colour, shape in (
        (_full(LINE), _grown(fired, LINE_RADIUS)),
        (_full(DARK), _grown(fired, DARK_RADIUS)),
        (image, fired),
    ):
        picture = torch.lerp(picture, colour.expand_as(image), _coverage(shape))
    return picture.round().to(torch.uint8)


def _fine_mask(
    mask: Bool[Tensor, "rows columns"], height: int, width: int
) -> Bool[Tensor, "fine_height fine_width"]:
    """The mask in fine pixels; interpolated, for its cells would be ugly blocks."""
    size = [FINE * height, FINE * width]
    return F.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0] > 0.5


def _grown(mask: Bool[Tensor, "height width"], radius: int) -> Bool[Tensor, "height width"]:
    """All pixels up to some distance from the mask."""
    height, width = mask.shape
    padded = F.pad(mask, [radius] * 4)
    grown = torch.zeros_like(mask)
    # shifted copies: several times as fast as a convolution with a disc
    for down, right in product(range(-radius, radius + 1), repeat=2):
        if down**2 + right**2 <= radius**2:
            grown |= padded[radius + down :, radius + right :][:height, :width]
    return grown


def _coverage(mask: Bool[Tensor, "fine_height fine_width"]) -> Float[Tensor, "height width"]:
    """How much of each pixel is covered, from 0 to 1."""
    return F.avg_pool2d(mask[None].float(), FINE)[0]


def _full(colour: tuple[int, int, int]) -> Float[Tensor, "3 1 1"]:
    return torch.tensor(colour, dtype=torch.float32)[:, None, None]


@dataclass(frozen=True)
class _Sheet:
    """Where things are from left to right, in pixels.

    Attributes:
        label: width of the column of names.
        cell: width and height of a tile with the room around it.
        columns: for each group, how many tiles are side by side.
    """

    label: int
    cell: tuple[int, int]
    columns: tuple[int, ...]

    @property
    def width(self) -> int:
        """The width of the page."""
        return max(PAGE_WIDTH, self.left(len(self.columns)) - GROUP_GAP + MARGIN)

    def left(self, group: int) -> int:
        """Where a group begins."""
        before = sum(self.span(earlier) + GROUP_GAP for earlier in range(group))
        return MARGIN + self.label + MARGIN + before

    def span(self, group: int) -> int:
        """The width of a group."""
        return self.columns[group] * (self.cell[0] + TILE_GAP) - TILE_GAP


def _sheet_for(rows: Sequence[GalleryRow], num_groups: int) -> _Sheet:
    """A sheet on which all tiles have room, with labels as wide as they need to be."""
    shapes = [tile.image.shape for row in rows for tiles in row.tiles for tile in tiles]
    height = max((shape[1] for shape in shapes), default=1)
    width = max((shape[2] for shape in shapes), default=1)
    columns = [max([1, *(len(row.tiles[group]) for row in rows)]) for group in range(num_groups)]
    texts = [(row.title, NAME) for row in rows]
    texts += [(note, NOTE) for row in rows for note in row.notes]
    label = max((font_of(*style).getlength(text) for text, style in texts), default=0)
    return _Sheet(min(LABEL_WIDTH, int(label) + 1), (width, height), tuple(columns))


def _title_band(title: str, sheet: _Sheet) -> Image.Image:
    text = _text([(title, TITLE, INK)], sheet.width - 2 * MARGIN)
    band = Image.new("RGB", (sheet.width, MARGIN + text.height + ROW_GAP), "white")
    band.paste(text, (MARGIN, MARGIN))
    return band


def _heading_band(groups: Sequence[str], sheet: _Sheet) -> Image.Image:
    """The heading of each group above a line as wide as the group."""
    texts = [_text([(name, HEADING, INK)], sheet.span(k)) for k, name in enumerate(groups)]
    height = max(text.height for text in texts)
    band = Image.new("RGB", (sheet.width, height + ROW_GAP), "white")
    draw = ImageDraw.Draw(band)
    for group, text in enumerate(texts):
        left = sheet.left(group)
        band.paste(text, (left, height - text.height))
        line = (left, height + 3, left + sheet.span(group) - 1, height + 4)
        draw.rectangle(line, fill=INK)
    return band


def _row_band(row: GalleryRow, sheet: _Sheet) -> Image.Image:
    """The name and the notes of a concept beside its tiles, all centred vertically."""
    notes = [(note, NOTE, PALE_INK) for note in row.notes]
    label = _text([(row.title, NAME, INK), *notes], sheet.label)
    height = max(sheet.cell[1], label.height)
    band = Image.new("RGB", (sheet.width, height + ROW_GAP), "white")
    band.paste(label, (MARGIN, (height - label.height) // 2))
    for group, tiles in enumerate(row.tiles):
        for column, tile in enumerate(tiles):
            picture = Image.fromarray(highlighted(tile).permute(1, 2, 0).numpy())
            cell = sheet.left(group) + column * (sheet.cell[0] + TILE_GAP)
            left = cell + (sheet.cell[0] - picture.width) // 2
            band.paste(picture, (left, (height - picture.height) // 2))
    return band


def _text(paragraphs: Sequence[tuple[str, tuple[int, bool], str]], width: int) -> Image.Image:
    """Paragraphs on white, wrapped to a width in pixels; each is a text, its style, its colour."""
    lines = [
        (line, style, colour)
        for text, style, colour in paragraphs
        for line in wrapped(text, font_of(*style), width)
    ]
    heights = [round(1.3 * style[0]) for _, style, _ in lines]
    picture = Image.new("RGB", (width, sum(heights)), "white")
    draw = ImageDraw.Draw(picture)
    top = 0
    for (line, style, colour), height in zip(lines, heights, strict=True):
        draw.text((0, top), line, fill=colour, font=font_of(*style))
        top += height
    return picture
