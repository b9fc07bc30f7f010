"""What the data sets that lie as published have in common."""

import shutil

import numpy as np
import pytest
import torch

from cavalcade.data.ade20k import Ade20k
from cavalcade.data.cityscapes import Cityscapes
from cavalcade.data.oxford_pets import OxfordPets
from cavalcade.data.voc import PascalVoc
from cavalcade.errors import InputError
from index_map_folders import (
    TEST,
    TRAIN,
    put,
    write_ade20k,
    write_cityscapes,
    write_oxford_pets,
    write_voc,
)

WRITERS = {
    Ade20k: write_ade20k,
    PascalVoc: write_voc,
    Cityscapes: write_cityscapes,
    OxfordPets: write_oxford_pets,
}


@pytest.fixture(params=WRITERS, ids=lambda data: data.__name__)
def published(request, tmp_path):
    """How to open a data set that was just written."""
    root = tmp_path / "there"
    WRITERS[request.param](root)

    def make(**settings):
        return request.param(root=str(root), **settings)

    return make


def test_val_is_held_out_of_train_and_test_is_the_other_official_split(published):
    train, val, test = (published().open(split) for split in ("train", "val", "test"))
    assert (len(train) + len(val), len(test)) == (TRAIN, TEST)
    assert len(val)
    assert not set(train.ids) & set(val.ids)
    assert not set(train.groups) & set(val.groups)
    assert train.concepts == val.concepts == test.concepts == tuple(dict.fromkeys(test.concepts))


def test_samples_can_be_read(published):
    for split in ("train", "val", "test"):
        dataset = published().open(split)
        for sample in map(dataset.__getitem__, range(len(dataset))):
            assert sample.image.shape == (3, 64, 96)
            assert sample.masks.shape == sample.labelled.shape == (len(dataset.concepts), 64, 96)
            assert sample.masks.any()
            assert not sample.labelled.all()
            assert not (sample.masks & ~sample.labelled).any()
            assert sample.masks.sum(0).max() == 1


def test_only_chosen_concepts_are_decoded(published):
    whole = published().open("test")
    last = whole.concepts[-1]
    chosen = published(concepts=[last]).open("test")
    assert chosen.concepts == (last,)
    for i in range(len(whole)):
        assert torch.equal(chosen.labels(i).masks[0], whole.labels(i).masks[-1])
        assert torch.equal(chosen.labels(i).labelled[0], whole.labels(i).labelled[-1])


def test_groups_that_the_user_names_are_never_cut(published):
    """Here, images whose numbers end with the same digit."""
    data = published(group_pattern=r"(\d)(_000019_leftImg8bit)?\.")
    train, val = (set(data.open(split).groups) for split in ("train", "val"))
    assert train | val <= set("0123456789")
    assert not train & val


def test_groups_csv_goes_before_groups_of_the_data_set(published, tmp_path):
    ids = sorted(id for split in ("train", "val") for id in published().open(split).ids)
    rows = [f"{id},{'old' if i < 7 else 'new'}" for i, id in enumerate(ids)]
    table = tmp_path / "groups.csv"
    table.write_text("\n".join(["id,group", *rows]), encoding="utf-8")
    data = published(groups_csv=str(table))
    assert set(data.open("train").groups) | set(data.open("val").groups) == {"old", "new"}
    assert sorted(map(len, map(data.open, ("train", "val")))) == [5, 7]


def test_one_group_cannot_be_held_out(published):
    data = published(group_pattern="_")
    assert len(data.open("train")) == TRAIN
    with pytest.raises(
        InputError, match=r"has 12 images .*, in 1 group\(s\), which leave none for 'val'"
    ):
        data.open("val")


def test_an_index_that_the_data_set_does_not_have_is_named(published):
    dataset = published().open("test")
    put(dataset.index_maps[0], np.full((64, 96), 200))
    message = f"{dataset.index_maps[0].name} holds the index 200, which {published().title} does"
    with pytest.raises(InputError, match=f"{message} not have; get the file anew"):
        dataset.labels(0)


MISSING = {
    Ade20k: ("images/training", "annotations/validation", "objectInfo150.txt"),
    PascalVoc: (
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        "VOCdevkit/VOC2012/JPEGImages",
        "VOCdevkit/VOC2012",
    ),
    Cityscapes: ("leftImg8bit/train", "gtFine/val", "gtFine"),
    OxfordPets: ("images", "annotations/trimaps", "annotations/trainval.txt"),
}


@pytest.mark.parametrize(
    ("data", "name"), [(data, name) for data, names in MISSING.items() for name in names]
)
def test_what_is_missing_is_named_and_where_it_comes_from(tmp_path, data, name):
    WRITERS[data](tmp_path)
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    message = f"does not hold {data.title} as it is published: {name}.* is missing; unpack .*http"
    published = data(root=str(tmp_path))
    with pytest.raises(InputError, match=message):
        _ = [published.open(split) for split in ("train", "test")]
