"""Concepts named by the labels they overlap best: planted masks, and the numbers beside them."""

import numpy as np
import pytest
import torch

from cavalcade.similarity import Firing, name_concepts

IMAGES, SIZE = 40, 12
BLOCKS = torch.arange(IMAGES) // 2


def squares(seed):
    """A square in each of most images, somewhere."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((IMAGES, SIZE, SIZE), dtype=bool)
    for mask in masks:
        top, left = rng.integers(0, SIZE - 5, 2)
        mask[top : top + 5, left : left + 5] = rng.random() < 0.7
    return torch.from_numpy(masks).flatten(1)


def firing(*masks, seen=None):
    stacked = torch.stack(masks, dim=1)
    everywhere = torch.ones(IMAGES, SIZE * SIZE, dtype=torch.bool)
    seen = everywhere if seen is None else seen
    return Firing(stacked & seen[:, None], seen)


def named(*masks, **labels):
    return name_concepts(firing(*masks), labels, BLOCKS)


def test_a_concept_is_named_by_the_label_it_overlaps_best():
    cat, dog, nothing = squares(0), squares(1), squares(2)
    table = named(cat | (dog & squares(3)), dog, nothing, cat=firing(cat), dog=firing(dog))
    assert table["label"].tolist()[:2] == ["cat", "dog"]
    assert table["second"].tolist()[:2] == ["dog", "cat"]
    assert table["named"].tolist() == [True, True, False]
    assert table.loc[1, "jaccard"] == 1
    assert table.loc[1, "adjusted"] == pytest.approx(1)
    assert table.loc[1, "sure"] == 1
    assert 0.3 < table.loc[0, "adjusted"] < 0.9
    assert abs(table.loc[2, "adjusted"]) < 3 * table.loc[2, "stderr"]


def test_raw_overlap_alone_names_nothing():
    """Two masks in the same place of every image overlap much, and no more than by chance."""
    fixed = torch.zeros(IMAGES, SIZE, SIZE, dtype=torch.bool)
    fixed[:, :6] = True
    flicker = fixed & (torch.rand(IMAGES, SIZE, SIZE) < 0.9)
    table = named(flicker.flatten(1), sky=firing(fixed.flatten(1)))
    assert table.loc[0, "jaccard"] > 0.8
    assert not table.loc[0, "named"]


def test_pixels_without_truth_count_nowhere():
    cat = squares(0)
    known = torch.ones(IMAGES, SIZE, SIZE, dtype=torch.bool)
    known[:, :, 8:] = False
    known = known.flatten(1)
    table = named(cat | ~known, cat=firing(cat, seen=known))
    assert table.loc[0, "jaccard"] == 1
    assert table.loc[0, "area_without"] == 0  # it fires there where nothing is known


def test_firing_where_the_label_is_not():
    """Counted by hand: a quarter of the area of images without it, and where it is all of it."""
    cat = torch.zeros(IMAGES, SIZE, SIZE, dtype=torch.bool)
    cat[::2, :3] = True  # in every other image
    concept = cat.clone()
    concept[1::2, 3:6] = True
    concept[::2, 9:] = True
    table = named(concept.flatten(1), cat=firing(cat.flatten(1)))
    assert table.loc[0, "area_without"] == pytest.approx(0.25)
    assert table.loc[0, "area_with"] == pytest.approx(0.5)


def test_a_label_in_every_image_has_no_image_without_it():
    everywhere = torch.zeros(IMAGES, SIZE, SIZE, dtype=torch.bool)
    everywhere[:, :3] = True
    table = named(squares(0), sky=firing(everywhere.flatten(1)))
    assert np.isnan(table.loc[0, "area_without"])


def test_a_concept_that_fires_nowhere_has_no_name():
    nowhere = torch.zeros(IMAGES, SIZE * SIZE, dtype=torch.bool)
    mined = firing(nowhere)._replace(found=torch.tensor([False]))
    table = name_concepts(mined, {"cat": firing(squares(0))}, BLOCKS)
    assert table.loc[0, "label"] == ""
    assert table.loc[0, ["adjusted", "sure", "area_with", "area_without"]].isna().all()
    assert not table.loc[0, "named"]


def test_a_label_that_no_image_shows_names_nothing():
    cat, nowhere = squares(0), torch.zeros(IMAGES, SIZE * SIZE, dtype=torch.bool)
    unicorn = firing(nowhere)._replace(found=torch.tensor([False]))
    opposite = firing(~cat)
    table = name_concepts(opposite, {"unicorn": unicorn, "cat": firing(cat)}, BLOCKS)
    assert table.loc[0, "label"] == "cat"
    assert table.loc[0, "adjusted"] < 0
    assert table.loc[0, "second"] == ""


def test_without_errors_nothing_is_sure():
    cat = squares(0)
    one_block = torch.zeros(IMAGES, dtype=torch.int64)
    table = name_concepts(firing(cat), {"dog": firing(squares(1)), "cat": firing(cat)}, one_block)
    assert np.isnan(table.loc[0, "sure"])
    assert not table.loc[0, "named"]


def test_how_sure_is_the_share_of_resamples():
    """Half of the blocks say cat, half say dog: no bootstrap of blocks can be sure."""
    cat, dog = squares(0), squares(1)
    first = (torch.arange(IMAGES) % 4 < 2)[:, None]
    table = named(torch.where(first, cat, dog), cat=firing(cat), dog=firing(dog))
    assert 0.2 < table.loc[0, "sure"] < 0.95


def test_unrelated_masks_are_seldom_named():
    """At most at the 5 % level for all labels together, over many masks."""
    masks = [squares(100 + k) for k in range(60)]
    labels = {f"label{k}": firing(squares(k)) for k in range(5)}
    assert named(*masks, **labels)["named"].mean() <= 0.1
