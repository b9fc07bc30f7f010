"""PASCAL VOC as it was published."""

import numpy as np
import pytest

from cavalcade.data.voc import PascalVoc
from cavalcade.errors import InputError
from index_map_folders import DISC, GROUND, OUTLINE, SKY, scene, write_voc


def test_a_class_is_its_index_and_outlines_are_void(tmp_path):
    write_voc(tmp_path)
    dataset = PascalVoc(root=str(tmp_path)).open("train")
    assert len(dataset.concepts) == 20
    sample = dataset[0]
    assert sample.id == "2012_000001"
    _, parts = scene(1)
    for name, part in {"aeroplane": SKY, "boat": GROUND, "cat": DISC}.items():
        assert np.array_equal(sample.masks[dataset.concepts.index(name)], parts == part)
    assert not sample.masks[dataset.concepts.index("tvmonitor")].any()
    for labelled in sample.labelled:
        assert np.array_equal(labelled, parts != OUTLINE)


def test_images_that_no_list_names_are_left_alone(tmp_path):
    write_voc(tmp_path)
    listed = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    listed.write_text("2012_000014\n2012_000002\n", encoding="utf-8")
    assert PascalVoc(root=str(tmp_path)).open("test").ids == ("2012_000002", "2012_000014")


def test_another_year_is_another_folder(tmp_path):
    write_voc(tmp_path, year=2010)
    assert len(PascalVoc(root=str(tmp_path), year=2010).open("test")) == 6
    with pytest.raises(InputError, match=r"VOCdevkit/VOC2012/.* is missing"):
        PascalVoc(root=str(tmp_path)).open("test")


def test_a_year_without_a_challenge_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data.year is '2013'; give one of 2007, 2008"):
        PascalVoc(root=str(tmp_path), year=2013)
