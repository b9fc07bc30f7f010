"""Which images a gallery shows, and what it says beside them."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from cavalcade.backbones import Layer
from cavalcade.concepts.encoding import LayerEncoding
from cavalcade.galleries import _in_a_path, captions_of, draw_galleries, strongest, tiles
from cavalcade.truth import Truth
from tiny import tiny_backbone, tiny_data


@pytest.fixture(scope="module")
def truth():
    return Truth.of(tiny_data(tiny_backbone()))


def test_the_strongest_images_are_far_apart(truth):
    """No two of a block, nor of neighbouring blocks of a group; other groups are no neighbours."""
    video = replace(truth, blocks=(0, 0, 1, 1, 2, 2, 3, 4), groups=("a",) * 6 + ("b", "c"))
    strengths = torch.tensor([0.5, 0.9, 0.8, 0.2, 0.1, 0.3, 0.2, 0.0])
    assert strongest(strengths, video, 6) == [1, 5, 6]  # nothing fires in the last block
    assert strongest(strengths, video, 1) == [1]
    assert strongest(torch.zeros(8), video, 6) == []
    singles = replace(truth, blocks=tuple(range(8)), groups=tuple("abcdefgh"))
    assert strongest(torch.arange(8, 0, -1.0), singles, 3) == [0, 1, 2]


def test_names_of_layers_are_part_of_names_of_files():
    assert _in_a_path("a/b\\c d\n\x1b[31m.0") == "a-b-c-d--[31m.0"
    for letter in ("a", "ä", "\N{HIRAGANA LETTER A}"):
        name = _in_a_path(letter * 300)
        assert set(name) == {letter}
        assert 107 < len(name.encode()) <= 110


def test_tiles_are_whole_images_with_their_own_masks(truth):
    found = tiles(truth.masks[:, 0], [5, 2], truth)
    for tile, index in zip(found, [5, 2], strict=True):
        assert torch.equal(tile.image, truth.thumbnails[index])
        assert torch.equal(tile.mask.flatten(), truth.strata(0)[index, 0])


def test_captions_say_the_label_the_area_and_how_reproducible():
    table = pd.DataFrame(
        {
            "layer": ["x", "x"],
            "concept": ["c1", "c2"],
            "area": [0.123, 0.4],
            "reproducibility": [0.987, float("nan")],
        }
    )
    names = pd.DataFrame(
        {
            "named": [True, False],
            "label": ["car", "sky"],
            "adjusted": [0.35, 0.0],
            "stderr": [0.05, 0.1],
            "area_without": [0.012, float("nan")],
        }
    )
    assert captions_of(table, names) == {
        "x": {
            "c1": [
                *("car 0.350 ±0.050", "in images without it: 1.2%", "in all images: 12.3%"),
                "reproducible 0.99",
            ],
            "c2": ["no label", "in all images: 40.0%"],
        }
    }
    assert captions_of(table, pd.DataFrame())["x"]["c2"] == ["in all images: 40.0%"]


def test_many_concepts_take_several_pages(truth, tmp_path):
    layer = Layer("x", depth=0.5, channels=8, grid=(4, 4), stride=1.0, trunk=True)
    masks = truth.masks[:, :1].repeat(1, 120, 1)
    encoding = LayerEncoding(masks, torch.rand(8, 120), torch.zeros(8, 8))
    captions = {"x": {f"c{k + 1}": [] for k in range(120)}}
    draw_galleries("net", [layer], {"x": encoding}, captions, truth, tmp_path / "galleries")
    pages = sorted((tmp_path / "galleries").iterdir(), key=lambda page: len(page.name))
    assert [page.name for page in pages] == ["00-x.jpg", "00-x-2.jpg", "00-x-3.jpg"]
    for page in pages:
        with Image.open(page) as image:
            assert image.height < 15_000
