"""Which images a gallery shows, and what it says beside them."""

import pandas as pd
import pytest
import torch

from cavalcade.galleries import captions_of, strongest, tiles
from cavalcade.truth import Truth
from tiny import tiny_backbone, tiny_data


@pytest.fixture(scope="module")
def truth():
    return Truth.of(tiny_data(tiny_backbone()))


def test_the_strongest_images_are_far_apart():
    blocks = (0, 0, 1, 1, 2, 2, 4)
    strengths = torch.tensor([0.5, 0.9, 0.8, 0.2, 0.1, 0.3, 0.0])
    assert strongest(strengths, blocks, 6) == [1, 5]  # nothing fires in the last block
    assert strongest(strengths, blocks, 1) == [1]
    assert strongest(torch.zeros(7), blocks, 6) == []


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
        ("x", "c1"): [
            *("car 0.35 ±0.05", "1.2% in images without it", "12.3% of all area"),
            "reproducible 0.99",
        ],
        ("x", "c2"): ["no label", "40.0% of all area"],
    }
    assert captions_of(table, pd.DataFrame())["x", "c2"] == ["40.0% of all area"]
