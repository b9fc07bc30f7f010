"""Splits are thinned evenly, and bad settings are named."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.data.sample import ConceptData, ConceptDataset, ConceptSample, Thinned
from cavalcade.errors import InputError

COUNTS = {"train": 50, "val": 7, "test": 30}


class Numbered(ConceptDataset):
    """The i-th image is filled with i."""

    concepts = ("one", "two")

    def __init__(self, count, content="pixels"):
        self.ids = tuple(f"{i:03d}" for i in range(count))
        self.groups = tuple(f"video-{i // 10}" for i in range(count))
        self.content = content

    def __getitem__(self, index):
        image = torch.full((3, 2, 2), index, dtype=torch.uint8)
        truth = torch.ones(2, 2, 2, dtype=torch.bool)
        return ConceptSample(image, truth, truth, self.ids[index], self.groups[index])

    def fingerprint(self):
        return f"{self.content} {len(self)}"


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


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 400))
def test_thinned_is_spread_evenly(count, limit):
    indices = Thinned(Numbered(count), limit).indices
    assert len(indices) == min(count, limit)
    assert indices[0] == 0
    steps = [after - before for before, after in pairwise([*indices, count])]
    assert max(steps) - min(steps) <= 1
    assert min(steps) >= 1


def test_fingerprint_of_thinned_is_that_of_content_and_choice():
    dataset = Numbered(30)
    prints = {Thinned(dataset, limit).fingerprint() for limit in (3, 4, 30)}
    prints |= {Thinned(Numbered(30, "other"), 3).fingerprint(), dataset.fingerprint()}
    assert len(prints) == 5
    assert Thinned(dataset, 3).fingerprint() == Thinned(Numbered(30), 3).fingerprint()


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


def test_a_split_kept_whole_has_the_fingerprint_of_the_whole():
    data = NumberedData(limit={"val": 7, "train": 50}, test_images=30)
    for split in COUNTS:
        assert data.split(split).fingerprint() == data.open(split).fingerprint()


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
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        NumberedData(**settings)
