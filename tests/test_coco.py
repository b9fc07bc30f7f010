"""COCO's files mean what COCO says, and whatever is wrong with them is named."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cavalcade.data.coco import Coco
from cavalcade.data.coco_json import _uncompressed
from cavalcade.errors import InputError
from coco_folder import (
    CAT,
    CATEGORIES,
    DOG,
    GREY,
    HANDLESS,
    KEYPOINTS,
    PERSON,
    UNANNOTATED,
    runs_of,
    standing,
    write_coco,
    write_image,
    write_json,
)

SHAPE = (4, 6)
BOX = [[1, 1, 4, 1, 4, 3, 1, 3]]  # of rows 1 and 2, columns 1 to 3
LEFT = [[0, 0, 2, 0, 2, 4, 0, 4]]  # of columns 0 and 1


def area(rows, columns, shape=SHAPE):
    """A mask of some rows and columns."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


IN_BOX, IN_LEFT = area(slice(1, 3), slice(1, 4)), area(slice(None), slice(0, 2))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """12 pictures to train and 6 to validate; only read from."""
    return write_coco(tmp_path_factory.mktemp("drawn") / "coco")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "coco"


def write_one(root, *annotations, part="val2017", **options):
    """One image of 6x4 pixels."""
    image = write_image(root, part, 1, np.full((*SHAPE, 3), 90))
    return write_json(root, part, [image], annotations, **options)


def opened(root, split="test", **settings):
    return Coco(root=str(root), **settings).open(split)


def only(root, **settings):
    """The labels of the one test image, by concept."""
    dataset = opened(root, **settings)
    assert len(dataset) == 1
    sample = dataset[0]
    pairs = zip(sample.masks, sample.labelled, strict=True)
    return dict(zip(dataset.concepts, pairs, strict=True))


def refused(root, message, split="test", read=True, **settings):
    """One sentence holds these words, when a split is opened or its first sample read."""
    with pytest.raises(InputError, match=message) as caught:
        _ = opened(root, split, **settings)[0] if read else opened(root, split, **settings)
    assert "\n" not in str(caught.value)


# What a segmentation covers


def test_polygons(root):
    write_one(root, {"segmentation": BOX})
    labels = only(root)
    assert list(labels) == ["person", "cat", "dog"]
    assert torch.equal(labels["person"][0], IN_BOX)
    assert not labels["cat"][0].any()
    assert all(labelled.all() for _, labelled in labels.values())


def test_several_polygons_and_several_objects_are_united(root):
    write_one(root, {"segmentation": [*BOX, [5, 0, 6, 0, 6, 1, 5, 1]]}, {"segmentation": LEFT})
    assert torch.equal(only(root)["person"][0], IN_BOX | IN_LEFT | area(0, 5))


def test_a_polygon_of_two_points_encloses_nothing(root):
    write_one(root, {"segmentation": [[1, 1, 4, 3]]})
    assert not only(root)["person"][0].any()
    write_one(root, {"segmentation": [[1, 1, 4, 3], *BOX]})
    assert torch.equal(only(root)["person"][0], IN_BOX)


def test_run_lengths_go_down_the_columns(root):
    write_one(root, {"segmentation": {"size": [4, 6], "counts": [5, 2, 1, 4, 12]}})
    expected = area(slice(1, 3), 1) | area(slice(None), 2)
    assert torch.equal(only(root)["person"][0], expected)


def test_run_lengths_may_start_with_what_is_set(root):
    write_one(root, {"segmentation": {"size": [4, 6], "counts": [0, 8, 16]}})
    assert torch.equal(only(root)["person"][0], IN_LEFT)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_agree_with_the_mask(root, share, compressed):
    mask = np.random.default_rng(0).random((150, 90)) < share
    image = write_image(root, "val2017", 1, 90 * mask)
    write_json(root, "val2017", [image], [{"segmentation": runs_of(mask, compressed=compressed)}])
    assert np.array_equal(only(root)["person"][0], mask)


@given(runs=st.lists(st.integers(0, 10**6), min_size=1))
def test_compressed_run_lengths_are_read_as_they_were(runs):
    text = ""
    for i, run in enumerate(runs):
        rest = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            five, rest = rest & 31, rest >> 5
            more = rest != (-1 if five & 16 else 0)
            text += chr(48 + five + 32 * more)
    assert _uncompressed(text) == runs


# What is void


def test_a_crowd_is_void_except_where_one_of_its_kind_is(root):
    write_one(
        root,
        {"segmentation": BOX},
        {"segmentation": runs_of(IN_LEFT.numpy()), "iscrowd": 1},
        {"segmentation": LEFT, "category_id": DOG},
    )
    labels = only(root)
    assert torch.equal(labels["person"][0], IN_BOX)
    assert torch.equal(labels["person"][1], IN_BOX | ~IN_LEFT)
    assert torch.equal(labels["dog"][0], IN_LEFT)
    assert labels["dog"][1].all()
    assert labels["cat"][1].all()


def test_supercategories_unite_categories_and_share_their_crowds(root):
    write_one(
        root,
        {"segmentation": BOX, "category_id": DOG},
        {"segmentation": LEFT, "category_id": CAT, "iscrowd": 1},
    )
    labels = only(root, labels="supercategories")
    assert list(labels) == ["person", "animal"]
    assert torch.equal(labels["animal"][0], IN_BOX)
    assert torch.equal(labels["animal"][1], IN_BOX | ~IN_LEFT)
    assert labels["person"][1].all()


def test_without_annotations_all_is_absent_and_one_map_says_so(root):
    write_one(root)
    sample = opened(root)[0]
    assert not sample.masks.any()
    assert sample.labelled.all()
    assert sample.labelled.shape == (3, *SHAPE)
    assert sample.labelled.stride(0) == 0


# Images and splits


def test_grey_images_and_turned_ones_are_used_as_they_are_stored(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it
    picture = np.full(SHAPE, 50)
    picture[:, 3:] = 200
    image = write_image(root, "val2017", 1, picture, exif=exif)
    write_json(root, "val2017", [image], [{"segmentation": BOX}])
    sample = opened(root)[0]
    assert sample.image.shape == (3, *SHAPE)
    assert (sample.image[:, :, 4:] > 150).all()
    assert torch.equal(sample.masks[0], IN_BOX)


def test_val_is_held_out_of_the_training_images_and_test_is_the_published_val(drawn):
    data = Coco(root=str(drawn))
    ids = {split: data.open(split).ids for split in ("train", "val", "test")}
    named = {
        part: sorted(p.stem for p in (drawn / part).iterdir()) for part in ("train2017", "val2017")
    }
    assert ids["val"] == (named["train2017"][9],)
    assert sorted(ids["train"] + ids["val"]) == named["train2017"]
    assert list(ids["test"]) == named["val2017"]
    assert data.name == "coco"


def test_groups_are_held_out_whole(drawn):
    data = Coco(root=str(drawn), group_pattern=r"(\d)\.jpg")
    train, val = data.open("train"), data.open("val")
    assert set(val.groups)
    assert not set(val.groups) & set(train.groups)


def test_each_image_is_a_group_of_its_own(drawn):
    dataset = opened(drawn)
    assert dataset.groups == dataset.ids


def test_a_file_is_indexed_once_and_in_silence(drawn, tmp_path, capsys):
    shutil.copytree(drawn, tmp_path / "copy")
    data = Coco(root=str(tmp_path / "copy"))
    data.open("train")
    (tmp_path / "copy/annotations/instances_train2017.json").unlink()
    assert len(data.open("val")) == 1
    assert capsys.readouterr().out == ""


def test_nothing_is_read_before_it_is_asked_for(root):
    write_one(root, {"segmentation": "wrong"})
    (root / "val2017/000000000001.jpg").write_bytes(b"")
    assert len(opened(root)) == 1


def test_the_layout_of_2014(root):
    image = write_image(root, "val2014", 1, np.zeros(SHAPE))
    image["file_name"] = "COCO_val2014_000000000001.jpg"
    (root / "val2014/000000000001.jpg").rename(root / "val2014" / image["file_name"])
    write_json(root, "val2014", [image], [{"segmentation": BOX}])
    dataset = opened(root, year=2014)
    assert dataset.ids == ("COCO_val2014_000000000001",)
    assert torch.equal(dataset[0].masks[0], IN_BOX)


# Concepts and images that are chosen


def test_only_chosen_concepts_are_decoded(root):
    write_one(root, {"segmentation": BOX, "category_id": DOG}, {"segmentation": "wrong"})
    dataset = opened(root, concepts=["d*", "cat"])
    assert dataset.concepts == ("cat", "dog")
    masks = dataset[0].masks
    assert not masks[0].any()
    assert torch.equal(masks[1], IN_BOX)


def test_an_unknown_concept_is_named(root):
    write_one(root)
    refused(root, "data.concepts has 'dgo', .*closest: dog", concepts=["dgo"])


def test_containing_keeps_the_images_that_show_a_chosen_concept(root):
    images = [write_image(root, "val2017", id, np.zeros(SHAPE)) for id in (1, 2, 3, 4)]
    annotations = [
        {"image_id": 1, "category_id": DOG},
        {"image_id": 2, "category_id": CAT},
        {"image_id": 3, "category_id": DOG, "iscrowd": 1},
    ]
    write_json(root, "val2017", images, [{**a, "segmentation": BOX} for a in annotations])
    assert len(opened(root)) == 4
    assert opened(root, concepts=["dog"], containing=True).ids == ("000000000001",)
    assert len(opened(root, containing=True)) == 2
    refused(root, "shows one of the chosen", concepts=["person"], containing=True)


def test_containing_does_not_change_what_is_held_out(drawn):
    whole, some = (
        {split: set(Coco(root=str(drawn), **chosen).open(split).ids) for split in ("train", "val")}
        for chosen in ({}, {"containing": True, "concepts": ["cat"]})
    )
    assert some["val"] == whole["val"]
    assert some["train"] < whole["train"]


# Parts of the body

BIG = (120, 80)


def write_persons(root, *annotations, category=None):
    category = category or {**CATEGORIES[0], "keypoints": list(KEYPOINTS)}
    image = write_image(root, "val2017", 1, np.full(BIG, 90))
    write_json(root, "val2017", [image], annotations, [category], "person_keypoints")


def flat(keypoints):
    return np.round(keypoints).astype(int).ravel().tolist()


HALF = area(slice(None), slice(0, 40), BIG)
LEFT_HALF = [[0, 0, 40, 0, 40, 120, 0, 120]]
STANDING = flat(standing(100, 20, 10))


def test_parts_lie_inside_of_their_person_in_their_order(root):
    write_persons(root, {"segmentation": LEFT_HALF, "keypoints": STANDING})
    labels = only(root, labels="body_parts")
    assert list(labels) == ["head", "torso", "arms", "legs"]
    centres = {}
    for name, (mask, labelled) in labels.items():
        assert labelled.all()
        assert not (mask & ~HALF).any()
        centres[name] = mask.nonzero().double().mean(dim=0)[0].item()
    assert centres["head"] < 25 < centres["torso"] < 55 < centres["legs"]


def test_a_part_without_keypoints_is_void_inside_of_its_person(root):
    keypoints = standing(100, 20, 10, {"hip": 0, "knee": 0, "ankle": 0})
    write_persons(root, {"segmentation": LEFT_HALF, "keypoints": flat(keypoints)})
    labels = only(root, labels="body_parts")
    for name in ("torso", "legs"):
        assert not labels[name][0].any()
        assert torch.equal(labels[name][1], ~HALF)
    assert labels["arms"][1].all()


@pytest.mark.parametrize(
    "unknown",
    [
        {"iscrowd": 1, "keypoints": [0] * 51},
        {"iscrowd": 1, "keypoints": flat(standing(100, 60, 10))},
        {"keypoints": [0] * 51},
        {},
    ],
)
def test_crowds_and_persons_without_keypoints_are_void_except_where_a_part_is(root, unknown):
    everywhere = [[0, 0, 80, 0, 80, 120, 0, 120]]
    write_persons(
        root,
        {"segmentation": LEFT_HALF, "keypoints": STANDING},
        {"segmentation": everywhere, **unknown},
    )
    for mask, labelled in only(root, labels="body_parts").values():
        assert mask.any()
        assert torch.equal(labelled, mask)


def test_containing_asks_for_a_part_whose_keypoints_are_labelled(root):
    legless = flat(standing(100, 20, 10, {"hip": 0, "knee": 0, "ankle": 0}))
    write_persons(root, {"segmentation": LEFT_HALF, "keypoints": legless})
    settings = {"labels": "body_parts", "containing": True}
    assert len(opened(root, concepts=["legs", "arms"], **settings)) == 1
    refused(root, "shows one of the chosen", concepts=["legs"], **settings)


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([0] * 50, "must be lists of numbers, 3 for each point"),
        ([0] * 48, "must be 17 times x, y and a visibility of 0, 1 or 2"),
        ([*STANDING[:-1], 3], "must be 17 times x, y and a visibility of 0, 1 or 2"),
        ("none", "must be lists of numbers"),
    ],
)
def test_bad_keypoints_are_named(root, keypoints, message):
    write_persons(root, {"segmentation": LEFT_HALF, "keypoints": keypoints})
    refused(
        root,
        f'person_keypoints_val2017.json: "keypoints" of annotation 1 {message}',
        labels="body_parts",
    )


def test_other_keypoints_than_those_of_coco_are_named(root):
    write_persons(root, category=CATEGORIES[0])
    refused(root, '"keypoints" of category "person" must be the 17', labels="body_parts")
    write_persons(root, category=CATEGORIES[1])
    refused(root, '0 categories are called "person"', labels="body_parts")


# What is missing or wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "stuff"}, "data.labels is 'stuff'; give one of categories, super"),
        ({"year": 0}, "data.year is 0"),
        ({"root": "/none"}, "data.root is '/none', which is not a folder"),
    ],
)
def test_bad_settings_are_named(root, settings, message):
    root.mkdir()
    with pytest.raises(InputError, match=message):
        Coco(**{"root": str(root), **settings})


def test_a_missing_split_file_is_named(root):
    write_one(root)
    refused(root, "instances_train2017.json is missing; unpack annotations_trainval", "train")


@pytest.mark.parametrize("content", ["", "{", b"\xff"])
def test_what_is_no_json_is_named(root, content):
    path = write_one(root)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(root, "instances_val2017.json cannot be read as JSON .*; get it anew")


def change(path, edit):
    content = json.loads(path.read_text(encoding="utf-8"))
    content = edit(content) or content
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda _: [1], 'has no list "images"'),
        (lambda c: c.pop("images") and None, 'has no list "images"'),
        (lambda c: c.pop("annotations") and None, 'has no list "annotations"'),
        (lambda c: c.pop("categories") and None, 'has no list "categories"'),
        (lambda c: c.update(images={}), 'has no list "images"'),
        (lambda c: c["images"].append(3), '"id" of entry 1 of "images" is None'),
        (lambda c: c["images"][0].update(height="4"), '"height" of entry 0 of "images" is \'4\''),
        (
            lambda c: c["images"][0].update(file_name="/x/1.jpg"),
            '"file_name" of entry 0 of "images" is \'/x/1.jpg\'',
        ),
        (
            lambda c: c["images"].append({**c["images"][0], "file_name": "2.jpg"}),
            '"id" of entry 1 of "images" is 1, which an entry before has too',
        ),
        (
            lambda c: c["images"].append({**c["images"][0], "id": 2}),
            '"file_name" of entry 1 of "images" is .*, which an entry before has too',
        ),
        (
            lambda c: c["annotations"][0].update(image_id=5),
            '"image_id" of annotation 1 is 5, which is the id of no entry of "images"',
        ),
        (
            lambda c: c["annotations"][0].update(category_id=5),
            '"category_id" of annotation 1 is 5, which is the id of no entry of "categories"',
        ),
        (lambda c: c["annotations"][0].pop("id") and None, '"id" of entry 0 of "annotations"'),
        (lambda c: c["categories"][0].pop("name") and None, '"name" of entry 0 of "categories"'),
        (
            lambda c: c["categories"][0].update(name="a/b"),
            '"name" of category 1 must be a word without "/"',
        ),
    ],
)
def test_a_wrong_field_is_named(root, edit, message):
    change(write_one(root, {"segmentation": BOX}), edit)
    refused(root, f"instances_val2017.json:? {message}", read=False)


def test_a_missing_supercategory_is_named(root):
    write_one(root, categories=[{"id": PERSON, "name": "person"}])
    refused(root, '"supercategory" of category 1 must be a word', labels="supercategories")
    assert opened(root).concepts == ("person",)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, r"must be polygons, or run lengths of the size \[4, 6\]"),
        ([], "has no polygon"),
        ([[]], "must be lists of numbers, 2 for each point"),
        ([1, 1, 4, 1, 4, 3], "must be lists of numbers, 2 for each point"),
        ([[1, 1, 4, 1, 4, 3, 1]], "must be lists of numbers, 2 for each point"),
        ([[1, 1, 4, 1, 4, "x"]], "must be lists of numbers"),
        ([[1, 1, 4, 1, 4, [3]]], "must be lists of numbers"),
        ([[1, 1, 4, 1, 4, "3"]], "must be lists of numbers"),
        ([[1, 1, 4, 1, 4, 10**400]], "must be lists of numbers"),
        ([[1, 1, 4, 1, 4, 1e9]], "reaches far out of its image of 6x4 pixels"),
        ([[-7, 1, 4, 1, 4, 3]], "reaches far out of its image of 6x4 pixels"),
        ([[-6, -4, 12, 8] * 120_000], "has an outline of more than 4,194,304 pixels"),
        ([[-6, -4, 12, 8] * 50_000] * 3, "has an outline of more than 4,194,304 pixels"),
        ({"counts": [24]}, r"must be polygons, or run lengths of the size \[4, 6\]"),
        (
            {"size": [6, 4], "counts": [24]},
            r"must be polygons, or run lengths of the size \[4, 6\]",
        ),
        ({"size": [4, 6]}, "must have counts that are whole numbers from 0 up"),
        ({"size": [4, 6], "counts": [12.5, 11.5]}, "must have counts that are whole numbers"),
        ({"size": [4, 6], "counts": [-3, 27]}, "must have counts that are whole numbers"),
        ({"size": [4, 6], "counts": [3, 3]}, "has counts that add up to 6, not to 4x6 pixels"),
        ({"size": [4, 6], "counts": ""}, "has counts that add up to 0, not to 4x6 pixels"),
        ({"size": [4, 6], "counts": "014"}, "has counts that add up to 5, not to 4x6 pixels"),
        ({"size": [4, 6], "counts": "0P"}, "has counts that are cut off"),
        ({"size": [4, 6], "counts": "é"}, "has counts with letters of no meaning"),
        ({"size": [4, 6], "counts": "M"}, "must have counts that are whole numbers"),
        ({"size": [4, 6], "counts": 1000 * "o"}, "has counts that are too large"),
    ],
)
def test_a_malformed_segmentation_is_named(root, segmentation, message):
    write_one(root, {"segmentation": segmentation})
    refused(root, f'instances_val2017.json: "segmentation" of annotation 1 {message}.*; mend')


def test_missing_images_are_named(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "copy")
    for path in sorted((tmp_path / "copy/val2017").iterdir())[1:3]:
        path.unlink()
    refused(
        tmp_path / "copy",
        "val2017/000000002007.jpg is missing, and with it 2 of the 6 images .*unpack val2017.zip",
        read=False,
    )
    shutil.rmtree(tmp_path / "copy/val2017")
    refused(tmp_path / "copy", "000000002000.jpg is missing, and with it 6 of the 6", read=False)


def test_a_split_without_images_is_named(root):
    root.mkdir()
    write_json(root, "val2017", [], [])
    refused(root, "instances_val2017.json lists no image for the split 'test', which needs")
    write_one(root, part="train2017")
    refused(root, "lists no image for the split 'val', .*two groups of training images", "val")


def test_an_image_of_another_size_is_named(root):
    write_one(root, {"segmentation": BOX})
    write_image(root, "val2017", 1, np.zeros((6, 4)))
    refused(root, r"000000000001.jpg is 4x6 pixels but .*_val2017.json says 6x4 pixels; get both")


def test_an_unreadable_image_is_named(root):
    write_one(root)
    (root / "val2017/000000000001.jpg").write_bytes(b"no picture")
    refused(root, "000000000001.jpg cannot be read as an image .*; mend or remove it")


def test_files_of_different_categories_are_named(root):
    write_one(root)
    images = [write_image(root, "train2017", id, np.zeros(SHAPE)) for id in range(1, 4)]
    write_json(root, "train2017", images, [], CATEGORIES[:2])
    data = Coco(root=str(root))
    data.open("train")
    with pytest.raises(InputError, match="differ in their categories; give files with the same"):
        data.open("test")


# The drawn folder


@pytest.mark.parametrize("labels", ["categories", "supercategories", "body_parts"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_drawn_concept_is_shown_in_every_split(drawn, split, labels):
    dataset = opened(drawn, split, labels=labels)
    samples = [dataset[i] for i in range(len(dataset))]
    present = torch.stack([(s.masks & s.labelled).flatten(1).sum(1) for s in samples]).sum(0)
    assert (present > 50).all()
    shapes = {tuple(sample.image.shape[1:]) for sample in samples}
    assert split == "val" or shapes == {(96, 128), (128, 96)}


def test_drawn_masks_lie_where_the_colours_are(drawn):
    dataset = opened(drawn, "train", concepts=["cat", "dog"])
    checked = 0
    for i in range(len(dataset)):
        sample = dataset[i]
        red, green, blue = sample.image.int()
        if not torch.equal(red, blue):
            assert ((blue - red > 100) & ~sample.masks[0]).sum() < 10
            assert ((green > 160) & (blue < 90) & ~sample.masks[1]).sum() < 10
            checked += 1
    assert checked > 8


def test_drawn_body_parts_lie_where_the_parts_were_painted(drawn):
    dataset = opened(drawn, "train", labels="body_parts")
    head, torso, arms, legs = dataset[0].masks
    image = dataset[0].image
    for mask, colour in [
        (head, (240, 190, 160)),
        (torso & ~arms & ~legs, (200, 30, 60)),
        (legs & ~torso & ~arms, (120, 20, 110)),
    ]:
        mean = image[:, mask].double().mean(dim=1)
        assert (mean - torch.tensor(colour)).abs().max() < 25


def test_drawn_peculiarities(drawn):
    dataset = opened(drawn, "train", labels="body_parts")
    grey, bare, handless = (
        dataset[dataset.ids.index(f"{1000 + 7 * i:012d}")] for i in (GREY, UNANNOTATED, HANDLESS)
    )
    assert (grey.image[0] == grey.image[2]).all()
    assert not bare.masks.any()
    assert bare.labelled.all()
    assert not handless.labelled[2].all()
    assert handless.labelled[3].all()
