from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cavalcade.report.gallery import (
    NOTE,
    GalleryRow,
    Tile,
    draw_gallery,
    highlighted,
)
from cavalcade.report.lettering import font_of, wrapped

GREEN, PINK, BLUE = (0, 200, 80), (230, 0, 150), (20, 60, 255)
LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def photo(height=120, width=160):
    """Noise of all colours, nowhere grey and nowhere black."""
    pixels = torch.randint(40, 256, (3, height, width), generator=torch.Generator().manual_seed(0))
    pixels[1] //= 2
    return pixels.to(torch.uint8)


def plain(colour, height=120, width=160):
    """One colour, which the concept covers, so that the page shows it unchanged."""
    image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width)
    return Tile(image, torch.ones(8, 8, dtype=torch.bool))


def left_half(rows=8, columns=8):
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[:, : columns // 2] = True
    return mask


def yellow(picture):
    red, green, blue = picture.int()
    return (red > 180) & (green > 150) & (blue < 80)


def page(tmp_path, rows, title="Concepts", **options):
    """The pixels of the written file."""
    draw_gallery(rows, tmp_path / "page.png", title=title, **options)
    with Image.open(tmp_path / "page.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image).astype(int)


def row(*groups, title="c3", notes=("car 0.29 ±0.03",)):
    return GalleryRow(title, notes, tuple(tuple(tiles) for tiles in groups))


def box(pixels, colour):
    """Top, bottom, left and right of all that has a colour, which must be a full rectangle."""
    found = (pixels == colour).all(axis=2)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert found[top:bottom, left:right].all()
    return top, bottom, left, right


def test_inside_of_the_mask_colours_stay_and_outside_they_are_grey_and_darker():
    image = photo()
    picture = highlighted(Tile(image, left_half()))
    assert torch.equal(picture[:, :, :80], image[:, :, :80])
    outside, before = picture[:, :, 84:].float(), image[:, :, 84:].float()
    assert (outside == outside[:1]).all()
    assert (outside[0] < 0.7 * (LUMA * before).sum(0)).all()
    assert outside.std() > 5  # the photo can still be seen


def test_a_bright_line_runs_all_along_the_border_and_nowhere_else():
    line = yellow(highlighted(Tile(photo(), left_half())))
    assert line[:, 80:83].any(dim=1).all()
    assert not line[:, 84:].any()


def test_a_dark_hairline_parts_the_line_from_a_bright_mask():
    white = torch.full((3, 120, 160), 255, dtype=torch.uint8)
    across = (LUMA * highlighted(Tile(white, left_half()))).sum(0)[60]
    line = 80 + int(across[80:84].argmax())
    assert across[79:line].min() < across[line] - 60


def test_a_mask_of_everything_changes_nothing():
    image = photo()
    everything = torch.ones(64, 64, dtype=torch.bool)
    assert torch.equal(highlighted(Tile(image, everything)), image)


def test_an_empty_mask_dims_everything():
    image = photo()
    picture = highlighted(Tile(image, torch.zeros(64, 64, dtype=torch.bool))).float()
    assert (picture == picture[:1]).all()
    assert (picture[0] < 0.7 * (LUMA * image).sum(0)).all()


def test_a_mask_as_thin_as_one_cell_keeps_its_pixels():
    image = photo(144, 192)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:, 20] = True  # pixels 60 to 62
    assert torch.equal(highlighted(Tile(image, mask))[:, :, 60:63], image[:, :, 60:63])


def test_borders_do_not_follow_the_cells():
    black = torch.zeros(3, 160, 160, dtype=torch.uint8)
    staircase = torch.ones(8, 8, dtype=torch.bool).tril()
    line = yellow(highlighted(Tile(black, staircase)))
    ends = [int(columns.nonzero().max()) for columns in line[20:130]]
    assert np.abs(np.diff(ends)).max() < 5  # a cell is 20 pixels wide


def test_a_page_grows_by_the_same_height_with_each_row(tmp_path):
    heights = [page(tmp_path, [row([plain(GREEN)])] * n).shape[0] for n in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0]
    assert 120 < heights[1] - heights[0] < 150


def test_a_page_is_wide_enough_for_the_longest_row(tmp_path):
    tiles = [plain(GREEN)] * 6
    pixels = page(tmp_path, [row(tiles[:2]), row(tiles), row([])])
    assert (pixels == GREEN).all(axis=2).sum() == 8 * 120 * 160
    assert 6 * 160 < pixels.shape[1] < 6 * 160 + 300
    shorter = page(tmp_path, [row(tiles[:5])])
    assert pixels.shape[1] - shorter.shape[1] == pytest.approx(168, abs=1)


def test_missing_tiles_are_blank(tmp_path):
    pixels = page(tmp_path, [row([plain(PINK)]), row([plain(GREEN), plain(BLUE)])])
    top, bottom, _, _ = box(pixels, PINK)
    _, _, left, right = box(pixels, BLUE)
    assert (pixels[top:bottom, left:right] == 255).all()


def test_images_of_any_shape_are_whole_and_in_the_middle_of_equal_cells(tmp_path):
    wide, tall, small = plain(GREEN, 60, 160), plain(PINK, 160, 90), plain(BLUE, 50, 50)
    pixels = page(tmp_path, [row([wide, tall, small])])
    middles = []
    for colour, shape in ((GREEN, (60, 160)), (PINK, (160, 90)), (BLUE, (50, 50))):
        top, bottom, left, right = box(pixels, colour)
        assert (bottom - top, right - left) == shape
        middles.append(((top + bottom) / 2, (left + right) / 2))
    heights, across = np.array(middles).T
    assert np.ptp(heights) == 0
    assert across[1] - across[0] == across[2] - across[1] > 160


def test_groups_stand_apart_below_their_headings(tmp_path):
    rows = [row([plain(GREEN), plain(PINK)], [plain(BLUE)])]
    without = page(tmp_path, rows, groups=("", ""))
    pixels = page(tmp_path, rows, groups=("resnet18: layer3", "alexnet: features.8"))
    assert pixels.shape[0] > without.shape[0] + 15
    edges = [box(pixels, colour) for colour in (GREEN, PINK, BLUE)]
    gaps = [right[2] - left[3] for left, right in pairwise(edges)]
    assert gaps[1] > 3 * gaps[0] > 0
    top, _, left, right = edges[2]
    assert (pixels[top - 40 : top, left:right] < 128).any()


def test_one_group_without_a_name_has_no_heading(tmp_path):
    pixels = page(tmp_path, [row([plain(GREEN)])], title="")
    top, _, left, right = box(pixels, GREEN)
    assert (pixels[:top, left:right] == 255).all()


def test_long_headings_stay_above_their_group(tmp_path):
    names = ("efficientnet_lite0: blocks.6.0", "seresnext50: layer4.2.bottleneck.se_module.fc2")
    pixels = page(tmp_path, [row([plain(GREEN)], [plain(BLUE)])], title="", groups=names)
    top, _, _, first = box(pixels, GREEN)
    _, _, second, right = box(pixels, BLUE)
    assert (pixels[:top, first:second] == 255).all()
    assert (pixels[:top, right:] == 255).all()


@pytest.mark.parametrize(
    "note", ["a note of many words " * 8, "layer4.2.bottleneck." * 6, "W" * 100]
)
def test_long_notes_take_more_lines_and_never_reach_the_tiles(tmp_path, note):
    tiles = [plain(GREEN)]
    short = page(tmp_path, [row(tiles, notes=("W" * 100,))])
    pixels = page(tmp_path, [row(tiles, notes=("W" * 100,) + (note,) * 4)])
    assert pixels.shape[0] > short.shape[0] + 60
    assert pixels.shape[1] == short.shape[1]
    _, _, left, _ = box(pixels, GREEN)
    assert (pixels[60:, left - 20 : left] == 255).all()


@given(st.text("abW._/: ", max_size=60), st.integers(20, 300))
def test_wrapping_loses_nothing_and_keeps_the_width(text, width):
    lines = wrapped(text, font_of(*NOTE), width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(line and font_of(*NOTE).getlength(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a car or a bus", ["a car or a", "bus"]),
        ("layer4.2.conv a", ["layer4.2.", "conv a"]),
        ("car 0.29 ±0.03", ["car 0.29", "±0.03"]),
    ],
)
def test_lines_end_after_words_or_parts_of_the_name_of_a_layer(text, lines):
    assert wrapped(text, font_of(*NOTE), 86) == lines


def test_a_long_title_iswrapped(tmp_path):
    rows = [row([plain(GREEN)])]
    short, long = page(tmp_path, rows), page(tmp_path, rows, title="Concepts of a network " * 8)
    assert long.shape[0] > short.shape[0] + 60
    assert (long[:, -20:] == 255).all()


def test_a_page_without_any_tile_has_its_names(tmp_path):
    pixels = page(tmp_path, [row([]), row([])])
    assert (pixels[70:] < 128).any()
