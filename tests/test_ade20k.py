"""ADE20K as it was published."""

import numpy as np
import pytest

from cavalcade.data.ade20k import Ade20k, read_classes
from cavalcade.errors import InputError
from index_map_folders import DISC, GROUND, MIDDLE, SKY, scene, write_ade20k

HEAD = "Idx\tRatio\tTrain\tVal\tName\n"


@pytest.fixture
def root(tmp_path):
    write_ade20k(tmp_path)
    return tmp_path


def test_classes_are_called_by_their_first_synonym(root):
    concepts = Ade20k(root=str(root)).open("train").concepts
    assert len(concepts) == 150
    assert concepts[:4] == ("wall", "building", "sky", "kind 4")


def test_a_class_is_its_index_and_all_else_is_void(root):
    sample = Ade20k(root=str(root)).open("train")[0]
    assert sample.id == "ADE_train_00000001"
    _, parts = scene(1)
    for index, part in ((3, SKY), (7, GROUND), (21, DISC)):
        assert np.array_equal(sample.masks[index - 1], parts == part)
    assert sample.masks.sum() == np.isin(parts, (SKY, GROUND, DISC)).sum()
    assert not sample.labelled[:, parts == MIDDLE].any()
    assert sample.labelled[:, parts == SKY].all()


def test_one_image_in_ten_is_held_out(root):
    assert Ade20k(root=str(root)).open("val").ids == ("ADE_train_00000010",)


def test_a_synonym_that_is_taken_is_told_by_its_index(tmp_path):
    """The numbers of the published file end with blanks here and there."""
    path = tmp_path / "objectInfo150.txt"
    path.write_text(HEAD + "1\t0\t1\t1\tscreen, crt \n22 \t0\t1\t1\tscreen\n", encoding="utf-8")
    assert read_classes(path) == {"screen": (1,), "screen 22": (22,)}


@pytest.mark.parametrize("row", ["1 0.1 1 1 wall", "one\t0.1\t1\t1\twall", "1"])
def test_a_row_that_is_no_class_is_named(root, row):
    (root / "objectInfo150.txt").write_text(HEAD + row, encoding="utf-8")
    with pytest.raises(
        InputError, match=f"objectInfo150.txt has the row {row!r}".replace("\\", ".")
    ):
        Ade20k(root=str(root)).open("train")
