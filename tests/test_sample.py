"""Splits are thinned evenly, concepts are chosen by name, and bad settings are named."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.data.sample import Chosen, ConceptData, ConceptDataset, Labels, Thinned
from cavalcade.errors import InputError

COUNTS = {"train": 50, "val": 7, "test": 30}


class Numbered(ConceptDataset):
    """The i-th image is filled with i."""

    concepts = ("one", "two")

    def __init__(self, count):
        self.ids = tuple(f"{i:03d}" for i in range(count))
        self.groups = tuple(f"video-{i // 10}" for i in range(count))

    def image(self, index):
        return torch.full((3, 2, 2), index, dtype=torch.uint8)

    def labels(self, index):
        masks = torch.tensor([index % 2 == 0, True])[:, None, None].expand(-1, 4, 4)
        return Labels(masks, masks[1:].expand(2, -1, -1))


@dataclass(kw_only=True)
class NumberedData(ConceptData):
    name: str = "numbered"

    def open(self, split):
        return Numbered(COUNTS[split])


def test_thinned_keeps_everything_about_the_samples_it_keeps():
    thinned = Thinned(Numbered(30), 3)
    assert len(thinned) == 3
    assert thinned.ids == ("000", "010", "020")
    assert thinned.groups == ("video-0", "video-1", "video-2")
    assert thinned.concepts == ("one", "two")
    for i, sample in enumerate(thinned[i] for i in range(3)):
        assert (sample.id, sample.group) == (thinned.ids[i], thinned.groups[i])
        assert (sample.image == 10 * i).all()
        assert torch.equal(sample.masks, Numbered(30).labels(10 * i).masks)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 400))
def test_thinned_is_spread_evenly(count, limit):
    indices = Thinned(Numbered(count), limit).indices
    assert len(indices) == min(count, limit)
    assert indices[0] == 0
    steps = [after - before for before, after in pairwise([*indices, count])]
    assert max(steps) - min(steps) <= 1
    assert min(steps) >= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 5}, r"^data\.limit is 5; give one for each split"),
        ({"grid": 64}, r"^data\.grid is 64; give a height and a width"),
    ],
)
def test_numbers_for_what_has_several(settings, message):
    with pytest.raises(InputError, match=message):
        NumberedData(**settings)


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        ({}, (50, 7, 30)),
        ({"limit": {"train": 5}}, (5, 7, 30)),
        ({"limit": {"train": None, "val": 90}}, (50, 7, 30)),
        ({"test_images": 4}, (50, 7, 4)),
        ({"test_images": 4, "limit": {"test": 3}}, (50, 7, 3)),
        ({"test_images": 4, "limit": {"test": 10}}, (50, 7, 4)),
    ],
)
def test_splits_are_as_long_as_asked(settings, lengths):
    data = NumberedData(**settings)
    assert tuple(len(data.split(split)) for split in COUNTS) == lengths


def test_the_cap_on_test_images_is_spread_evenly():
    assert NumberedData(test_images=3).split("test").ids == ("000", "010", "020")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": {"trian": 4}}, "data.limit has no split 'trian'; closest: train"),
        ({"limit": {"val": 0}}, "data.limit.val is 0; give a whole number from 1 up"),
        ({"limit": {"test": -3}}, r"data.limit.test is -3; give a whole number"),
        ({"test_images": 0}, "data.test_images is 0; give a whole number from 1 up"),
        ({"test_images": True}, "data.test_images is True; give a whole number from 1 up"),
        ({"grid": (64,)}, r"data.grid is \(64,\); give a height and a width"),
        ({"grid": (64, 64, 3)}, r"data.grid is \(64, 64, 3\)"),
        ({"grid": (0, 64)}, r"data.grid is \(0, 64\)"),
        ({"min_pixels": -1}, "data.min_pixels is -1; give a whole number from 0 up"),
        ({"min_images": True}, "data.min_images is True; give a whole number from 0 up"),
        ({"concepts": []}, r"data.concepts is \[\]; give names or patterns such as 'hair\*'"),
        ({"concepts": ["one", ""]}, "data.concepts is .*; give names or patterns"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        NumberedData(**settings)


# The choice of concepts


class PerConcept(Numbered):
    """The truth about the second concept is known in the upper half."""

    def labels(self, index):
        masks, labelled = super().labels(index)
        labelled = labelled.clone()
        labelled[1, 2:] = False
        return Labels(masks, labelled)


@pytest.mark.parametrize("dataset", [Numbered(3), PerConcept(3)])
def test_chosen_keeps_the_rows_of_its_concepts(dataset):
    chosen = Chosen(dataset, ["two"])
    assert (chosen.concepts, chosen.ids, chosen.groups) == (("two",), dataset.ids, dataset.groups)
    for index in range(3):
        whole, part = dataset[index], chosen[index]
        assert torch.equal(part.image, whole.image)
        assert torch.equal(part.masks, whole.masks[1:])
        assert torch.equal(part.labelled, whole.labelled[1:])


def test_a_map_that_stands_for_all_concepts_still_does_for_some():
    labels = Numbered(3).labels(0)
    assert labels.shared
    assert labels.chosen([1, 0]).shared
    assert not PerConcept(3).labels(0).chosen([1, 0]).shared


NAMES = ("hair", "hair-c", "eye-c", "[a]")


@pytest.mark.parametrize(
    ("concepts", "wanted"),
    [
        (None, NAMES),
        ("hair", ("hair",)),
        (["eye-c", "hair"], ("hair", "eye-c")),  # in the data set's own order
        (["hair*"], ("hair", "hair-c")),
        (["*-c", "hair*"], ("hair", "hair-c", "eye-c")),
        (["[a]"], ("[a]",)),
        (["?[!y]*"], ("hair", "hair-c", "[a]")),
    ],
)
def test_concepts_are_chosen_by_name_or_pattern(concepts, wanted):
    data = NumberedData(concepts=concepts)
    assert data.wanted(NAMES) == wanted
    assert data.wanted(wanted) == wanted


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        (["hairs"], "data.concepts has 'hairs', which no concept of numbered matches; closest: h"),
        (["hair", "Hair*"], r"data.concepts has 'Hair\*'"),
        (["zzz"], r"there are: hair, hair-c, eye-c, \[a\]"),
    ],
)
def test_an_entry_that_matches_no_concept_is_named(concepts, message):
    with pytest.raises(InputError, match=message):
        NumberedData(concepts=concepts).wanted(NAMES)


def test_data_without_concepts_have_none_to_choose():
    with pytest.raises(InputError, match="chooses among labels, and numbered has none"):
        NumberedData(concepts="hair").wanted(())


def test_every_split_is_of_the_chosen_concepts():
    data = NumberedData(concepts=["tw*"], limit={"train": 5})
    train, test = data.split("train"), data.split("test")
    assert train.concepts == test.concepts == ("two",)
    assert len(train) == 5
    assert train[1].masks.all()


def test_an_unknown_split_is_named():
    with pytest.raises(InputError, match="the split is 'trian'; give one of train, val, test"):
        NumberedData().split("trian")
