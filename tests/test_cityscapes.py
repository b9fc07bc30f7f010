"""Cityscapes as it was published."""

import numpy as np
import pytest

from cavalcade.data.cityscapes import Cityscapes
from index_map_folders import DISC, GROUND, MIDDLE, OUTLINE, SKY, scene, write_cityscapes


@pytest.fixture
def root(tmp_path):
    write_cityscapes(tmp_path)
    return tmp_path


def test_the_classes_are_those_of_the_evaluation(root):
    concepts = Cityscapes(root=str(root)).open("test").concepts
    assert len(concepts) == 19
    assert (concepts[0], concepts[-1]) == ("road", "bicycle")
    assert "caravan" not in concepts


def test_a_class_is_its_index_and_what_is_not_evaluated_is_void(root):
    dataset = Cityscapes(root=str(root)).open("train")
    sample = dataset[0]
    assert sample.id == "aachen/aachen_000000_000019_leftImg8bit"
    picture, parts = scene(1)
    assert np.array_equal(sample.image.permute(1, 2, 0), picture)
    for name, part in {"sky": SKY, "road": GROUND, "car": DISC}.items():
        assert np.array_equal(sample.masks[dataset.concepts.index(name)], parts == part)
    for labelled in sample.labelled:
        assert np.array_equal(labelled, ~np.isin(parts, (MIDDLE, OUTLINE)))


def test_cities_are_groups_and_one_of_them_is_held_out(root):
    groups = {s: Cityscapes(root=str(root)).open(s).groups for s in ("train", "val", "test")}
    assert {split: sorted(set(own)) for split, own in groups.items()} == {
        "train": ["aachen", "bochum"],
        "val": ["bremen"],
        "test": ["frankfurt", "lindau"],
    }


def test_other_files_beside_the_images_are_left_alone(root):
    (root / "leftImg8bit/val/lindau/notes.txt").write_text("new")
    assert len(Cityscapes(root=str(root)).open("test")) == 6
