"""Every sample is read once; what is known then chooses concepts, and no mask is decoded again."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from cavalcade.data import ConceptData, ConceptDataset, Labels
from cavalcade.data.contents import Contents, concept_table, read_splits
from cavalcade.data.sample import Chosen
from cavalcade.errors import InputError

CONCEPTS = ("sky", "road", "pole", "never")
COUNTS = {"train": 12, "val": 4, "test": 9}
SHAPE = (6, 8)


class Street(ConceptDataset):
    """Sky in all images, the road in every third, a pole of one pixel in the first."""

    concepts = CONCEPTS

    def __init__(self, split, count, void=True):
        self.ids = tuple(f"{split}-{i}" for i in range(count))
        self.groups = tuple(f"video-{i // 4}" for i in range(count))
        self.void, self.broken = void, ()
        self.read = {"image": [], "labels": []}

    def image(self, index):
        self.read["image"].append(index)
        if index in self.broken:
            raise InputError(f"{self.ids[index]} cannot be read; mend it")
        generator = np.random.default_rng(index)
        return torch.from_numpy(generator.integers(0, 256, (3, 12, 16), np.uint8))

    def labels(self, index):
        self.read["labels"].append(index)
        masks = torch.zeros(4, *SHAPE, dtype=torch.bool)
        masks[0, :2] = True
        masks[1, 4:] = index % 3 == 0
        masks[2, 3, 3] = index == 0
        known = torch.ones(1, *SHAPE, dtype=torch.bool)
        known[0, :, 0] = not self.void
        return Labels(masks, known.expand(4, -1, -1))


@dataclass(kw_only=True)
class Streets(ConceptData):
    name: str = "streets"
    opened: list[str] = field(default_factory=list)

    def open(self, split):
        self.opened.append(split)
        return Street(split, COUNTS[split])


def assert_same(one, two):
    assert (one.concepts, one.ids, one.groups) == (two.concepts, two.ids, two.groups)
    for index in range(len(one)):
        for a, b in zip(one[index], two[index], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_samples_are_those_of_the_data_set():
    assert_same(Contents(Street("train", 5)), Street("train", 5))


def test_every_sample_is_read_once_and_its_labels_never_again():
    dataset = Street("train", 5)
    contents = Contents(dataset)
    assert {what: sorted(seen) for what, seen in dataset.read.items()} == {
        "image": [0, 1, 2, 3, 4],
        "labels": [0, 1, 2, 3, 4],
    }
    for _ in range(2):
        [contents[index] for index in range(5)]
    assert len(dataset.read["labels"]) == 5
    assert len(dataset.read["image"]) == 15


def test_labels_that_do_not_fit_are_read_again():
    size = Contents(Street("train", 5)).compact.num_bytes
    dataset = Street("train", 5)
    contents = Contents(dataset, capacity=size // 2)
    kept = len(contents.compact)
    assert 0 < kept < 5
    assert contents.compact.num_bytes <= size // 2
    assert_same(contents, Street("train", 5))
    assert dataset.read["labels"][5:] == list(range(kept, 5))


def test_areas_are_those_of_labelled_pixels():
    contents = Contents(Street("train", 4))
    assert contents.present.tolist() == [
        [14, 14, 1, 0],
        [14, 0, 0, 0],
        [14, 0, 0, 0],
        [14, 14, 0, 0],
    ]
    assert contents.labelled.tolist() == [[42] * 4] * 4
    assert contents.num_pixels.tolist() == [48] * 4
    assert contents.present.dtype == torch.int32


def test_the_first_sample_that_cannot_be_read_is_named():
    """Though another one fails before it."""
    failed = threading.Event()

    class Slow(Street):
        def image(self, index):
            if index == 2:
                failed.wait(10)
            try:
                return super().image(index)
            finally:
                if index == 7:
                    failed.set()

    dataset = Slow("train", 12)
    dataset.broken = (2, 7)
    with pytest.raises(InputError, match="train-2 cannot be read; mend it"):
        Contents(dataset)


def test_only_the_samples_that_are_kept_are_read():
    data = Streets(limit={"train": 3}, test_images=2)
    splits = read_splits(data, ["train", "test"])
    assert data.opened == ["train", "test"]
    seen = {split: sorted(own.dataset.dataset.read["image"]) for split, own in splits.items()}
    assert seen == {"train": [0, 4, 8], "test": [0, 4]}


# The fingerprint


class Changed(Street):
    """With one value changed."""

    def __init__(self, change):
        super().__init__("train", 5)
        self.change = change

    def image(self, index):
        image = super().image(index)
        image[1, 2, 3] ^= self.change == "image" and index == 3
        return image

    def labels(self, index):
        masks, labelled = super().labels(index)
        masks[1, 2, 3] ^= self.change == "mask" and index == 3
        if self.change == "void" and index == 3:
            labelled = labelled[:1].clone()
            labelled[0, 5, 5] = False
            labelled = labelled.expand(4, -1, -1)
        if self.change == "void of one concept" and index == 3:
            labelled = labelled.clone()
            labelled[2, 5, 5] = False
        if self.change == "shape" and index == 3:
            return Labels(masks.reshape(4, 8, 6), labelled.reshape(4, 8, 6))
        if self.change == "nothing, but void is said of each concept":
            labelled = labelled.clone()
        return Labels(masks, labelled)


def test_fingerprint_is_that_of_the_content():
    same = Contents(Street("train", 5)).fingerprint()
    changes = ("image", "mask", "void", "void of one concept", "shape")
    prints = {Contents(Changed(change)).fingerprint() for change in changes}
    assert len(prints | {same}) == 6
    for change in ("nothing", "nothing, but void is said of each concept"):
        assert Contents(Changed(change)).fingerprint() == same


@pytest.mark.parametrize("attribute", ["ids", "groups", "concepts"])
def test_fingerprint_is_that_of_the_names(attribute):
    dataset = Street("train", 5)
    setattr(dataset, attribute, ("other", *getattr(dataset, attribute)[1:]))
    assert Contents(dataset).fingerprint() != Contents(Street("train", 5)).fingerprint()


def test_however_concepts_were_chosen_the_fingerprint_is_that_of_what_is_left():
    dataset = Street("train", 5)
    prints = {
        Contents(Chosen(dataset, ["sky", "pole"])).fingerprint(),
        Contents(dataset).chosen(["sky", "pole"]).fingerprint(),
        Contents(dataset).chosen(["sky", "pole", "never"]).chosen(["sky", "pole"]).fingerprint(),
    }
    assert len(prints) == 1
    assert Contents(dataset).chosen(["pole"]).fingerprint() not in prints
    assert Contents(dataset).fingerprint() not in prints


# The choice of concepts


@pytest.mark.parametrize("capacity", [0, 2**20])
def test_chosen_has_the_rows_of_its_concepts(capacity):
    whole = Contents(Street("train", 5), capacity=capacity)
    chosen = whole.chosen(["road", "pole"]).chosen(["road"])
    assert_same(chosen, Chosen(Street("train", 5), ["road"]))
    assert torch.equal(chosen.present, whole.present[:, [1]])
    assert torch.equal(chosen.labelled, whole.labelled[:, [1]])
    assert whole.concepts == CONCEPTS


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, CONCEPTS),
        ({"min_images": 1}, ("sky", "road", "pole")),
        ({"min_images": 2}, ("sky", "road")),
        ({"min_images": 4}, ("sky", "road")),
        ({"min_images": 5}, ("sky",)),
        ({"min_pixels": 1}, ("sky", "road", "pole")),
        ({"min_pixels": 4 * 14}, ("sky", "road")),  # road: 4 images of 14 labelled pixels
        ({"min_pixels": 4 * 14 + 1}, ("sky",)),
        ({"concepts": ["*o*"], "min_images": 2}, ("road",)),
        ({"limit": {"train": 1}, "min_pixels": 14}, ("sky", "road")),
    ],
)
def test_concepts_are_kept_that_enough_training_images_show(settings, kept):
    for names in (("train", "val", "test"), ("train", "test")):
        splits = read_splits(Streets(**settings), names)
        assert tuple(splits) == names
        assert {split.concepts for split in splits.values()} == {kept}


def test_the_choice_rests_on_training_though_it_is_not_asked_for():
    data = Streets(min_images=3)
    assert read_splits(data, ["test"])["test"].concepts == ("sky", "road")
    assert list(read_splits(data, ["test"])) == ["test"]
    unchoosy = Streets()
    read_splits(unchoosy, ["test"])
    assert unchoosy.opened == ["test"]


def test_what_is_left_out_is_said(caplog):
    with caplog.at_level("INFO"):
        read_splits(Streets(min_images=3), ["train"])
    assert "streets: 2 of 4 concepts are left out, for data.min_pixels or data" in caplog.text
    assert "pole, never" in caplog.text


def test_the_largest_are_named_if_none_is_left():
    message = (
        r"no concept of streets has 999 labelled pixels .* shown by 0 of them: the largest are "
        r"sky \(168 pixels of 12 images\), road \(56 pixels of 4 images\), pole \(1 pixels of 1 "
        r"images\); lower data.min_pixels or data.min_images"
    )
    with pytest.raises(InputError, match=message):
        read_splits(Streets(min_pixels=999), ["train"])


# The table


def test_the_table_counts_images_and_labelled_pixels():
    splits = read_splits(Streets(), ["train", "test"])
    table = concept_table(splits)
    assert list(table) == [
        *("concept", "train images", "train percent", "test images", "test percent")
    ]
    assert table["concept"].tolist() == list(CONCEPTS)
    assert table["train images"].tolist() == [12, 4, 1, 0]
    assert table["test images"].tolist() == [9, 3, 1, 0]
    assert table["train percent"].tolist() == pytest.approx(
        [100 * 14 / 42, 100 * 56 / (12 * 42), 100 / (12 * 42), 0]
    )


def test_a_share_of_no_labelled_pixel_is_not_a_number():
    class Unknown(Street):
        def labels(self, index):
            masks, labelled = super().labels(index)
            return Labels(masks, torch.zeros_like(labelled))

    table = concept_table({"train": Contents(Unknown("train", 2))})
    assert table["train percent"].isna().all()
    assert (table["train images"] == 0).all()
