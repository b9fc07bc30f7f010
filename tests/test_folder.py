"""A folder of images is read as it is, and whatever is wrong with it is named."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cavalcade.data import Folder
from cavalcade.data.contents import Contents
from cavalcade.errors import InputError

SKY, ROAD, CAR, VOID = 0, 1, 2, 255
NAMES = ["sky", "road", "car"]
IDS = ("a_1", "a_2", "b_1")


def put(path, values, **options):
    """Write a picture of some values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path, **options)
    return path


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 6, 3))


def index_map(seed):
    return np.random.default_rng(seed).choice([SKY, ROAD, CAR, VOID], (4, 6))


def write_classes(root, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "classes.json").write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    """Three images of 6x4 pixels with index maps, in one split."""
    folder = tmp_path / "street"
    for seed, name in enumerate(IDS):
        put(folder / f"images/train/{name}.png", pixels(seed))
        put(folder / f"masks/train/{name}.png", index_map(seed))
    write_classes(folder, {"names": NAMES, "void": VOID})
    return folder


@pytest.fixture
def boolean(root):
    """The same, the masks of the first image being one picture for each concept."""
    (root / "masks/train/a_1.png").unlink()
    put(root / "masks/train/a_1/sky.png", 255 * (index_map(0) == SKY))
    put(root / "masks/train/a_1/car.png", 1 * (index_map(0) == CAR))
    return root


def opened(root, split="train", **settings):
    return Folder(root=str(root), **settings).open(split)


def contents(root, split="train", **settings):
    """A split after each of its samples was read."""
    return Contents(opened(root, split, **settings))


def refused(root, message, split="train", **settings):
    """Reading a split fails with one sentence that holds these words."""
    with pytest.raises(InputError, match=message) as caught:
        contents(root, split, **settings)
    assert "\n" not in str(caught.value)


def test_samples_are_the_files(root):
    dataset = opened(root)
    assert dataset.concepts == tuple(NAMES)
    assert dataset.ids == dataset.groups == IDS
    for i, sample in enumerate(dataset[i] for i in range(3)):
        assert (sample.id, sample.group) == (IDS[i], IDS[i])
        assert np.array_equal(sample.image.permute(1, 2, 0), pixels(i))
        for k in range(3):
            assert np.array_equal(sample.masks[k], index_map(i) == k)


def test_void_has_no_truth_for_any_concept(root):
    sample = opened(root)[1]
    assert (index_map(1) == VOID).any()
    for labelled in sample.labelled:
        assert np.array_equal(labelled, index_map(1) != VOID)
    assert not (sample.masks & ~sample.labelled).any()


def test_several_indices_can_be_void(root):
    write_classes(root, {"names": NAMES[:2], "void": [CAR, VOID]})
    assert np.array_equal(opened(root)[0].labelled[0], index_map(0) < CAR)


def test_without_void_everything_is_labelled(root):
    for name in IDS:
        put(root / f"masks/train/{name}.png", index_map(0) % 3)
    write_classes(root, {"names": NAMES})
    assert opened(root)[0].labelled.all()


def test_a_mask_may_have_a_palette(root):
    """Its values are the indices, not the colours."""
    path = root / "masks/train/a_1.png"
    mask = Image.fromarray(index_map(0).astype(np.uint8)).convert("L")
    mask.putpalette([200, 10, 30] * 256)
    mask.save(path)
    assert mask.mode == "P"
    assert np.array_equal(opened(root)[0].masks[ROAD], index_map(0) == ROAD)


def test_images_may_be_grey_and_of_other_formats(root):
    (root / "images/train/a_1.png").unlink()
    put(root / "images/train/a_1.JPG", np.full((4, 6), 90), quality=95)
    image = opened(root)[0].image
    assert image.shape == (3, 4, 6)
    assert (image == 90).all()


def test_other_files_beside_the_images_are_left_alone(root):
    (root / "images/train/Thumbs.db").write_bytes(b"")
    assert len(opened(root)) == 3


def test_boolean_masks_are_the_pictures_and_a_missing_one_means_absent(boolean):
    sample = opened(boolean)[0]
    assert np.array_equal(sample.masks[SKY], index_map(0) == SKY)
    assert np.array_equal(sample.masks[CAR], index_map(0) == CAR)
    assert not sample.masks[ROAD].any()
    assert sample.labelled.all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("sky.tif", "sky.tif is no PNG file"), ("sky.PNG", "sky.png is a second mask of its concept")],
)
def test_a_mask_that_would_be_passed_over_is_named(boolean, name, message):
    """Its concept would be absent, without a word."""
    folder = boolean / "masks/train/a_1"
    put(folder / "sky.png", np.ones((4, 6)))
    put(folder / name, np.ones((4, 6)))
    refused(boolean, message)


def test_the_suffix_of_a_mask_may_be_large(boolean):
    folder = boolean / "masks/train/a_1"
    (folder / "sky.png").rename(folder / "sky.PNG")
    assert opened(boolean)[0].masks[SKY].any()


def test_a_split_reads_no_picture_before_it_is_asked(root):
    for path in (*root.glob("images/*/*"), *root.glob("masks/*/*")):
        path.write_bytes(b"not a picture")
    assert opened(root).ids == IDS


def test_chosen_concepts_are_those_of_all(boolean):
    """Both from an index map and from boolean masks, of which no other is decoded."""
    whole, chosen = [opened(boolean)[i] for i in (0, 1)], opened(boolean, concepts=["car"])
    (boolean / "masks/train/a_1/sky.png").write_bytes(b"not a picture")
    assert chosen.concepts == ("car",)
    for before, after in zip(whole, (chosen[0], chosen[1]), strict=True):
        assert torch.equal(after.masks, before.masks[[CAR]])
        assert torch.equal(after.labelled, before.labelled[[CAR]])


def test_chosen_concepts_may_all_be_absent(boolean):
    sample = opened(boolean, concepts=["road"])[0]
    assert sample.masks.shape == (1, 4, 6)
    assert not sample.masks.any()
    assert sample.labelled.all()


def test_name_defaults_to_that_of_the_folder(root):
    assert Folder(root=str(root)).name == "street"
    assert Folder(root=str(root), name="mine").name == "mine"


# Groups


def test_group_pattern_names_the_group_by_its_first_group_or_the_whole_match(root):
    assert opened(root, group_pattern="^([^_]+)_").groups == ("a", "a", "b")
    assert opened(root, group_pattern="[12]").groups == ("1", "1", "2")


def test_samples_of_a_group_follow_each_other_in_the_order_of_their_names(root):
    dataset = opened(root, group_pattern="[12]")
    assert dataset.ids == ("a_1", "b_1", "a_2")
    assert np.array_equal(dataset[1].image.permute(1, 2, 0), pixels(2))
    assert dataset[1].id == "b_1"


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_groups_csv_names_groups_by_stem_or_file_name(root, tmp_path, start):
    """Also as Excel writes it, with a byte order mark."""
    table = tmp_path / "groups.csv"
    rows = "id,group,note\na_1,y,\na_2.png,x,\nb_1,x,\nother,z,\n"
    table.write_text(start + rows, encoding="utf-8")
    dataset = opened(root, groups_csv=str(table))
    assert dataset.ids == ("a_2", "b_1", "a_1")
    assert dataset.groups == ("x", "x", "y")


@pytest.mark.parametrize("pattern", ["^c_", "^(b)?_?a?", "^(?:a_1|(b))"])
def test_a_group_pattern_that_misses_a_name_is_named(root, pattern):
    message = re.escape(f"data.group_pattern {pattern!r} does not match the file name a_1.png")
    refused(root, message, group_pattern=pattern)


def test_an_invalid_group_pattern_is_named(root):
    refused(root, r"data.group_pattern '\(a' is no regular expression", group_pattern="(a")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id,video\na_1,x\n", "groups.csv lacks the column group; .* with id, group"),
        ("", "groups.csv lacks the column id; its first line must name the columns"),
        ("id,group,id\na_1,x,b\n", "groups.csv has twice the column id"),
        ("id,group\n", "groups.csv names no group for .*a_1.png; add a row"),
        ("id,group\na_1,x\nb_1,x\n", "groups.csv names no group for .*a_2.png; add a row"),
        ("id,group\na_1,x\na_2,\nb_1,x\n", "groups.csv names no group for .*a_2.png; add a row"),
        ("id,group\na_1,x\na_2\nb_1,x\n", "groups.csv, line 3 has another number of fields"),
        ("id,group\na_1,x\na_1,y\n", "groups.csv, line 3 puts 'a_1' into a second group"),
        ('id,group\na_1,"x\na_2,x\nb_1,x\n', "groups.csv cannot be read .*unexpected end"),
        ("id,group\na_1," + 200_000 * "x", "groups.csv cannot be read .*field larger"),
    ],
)
def test_bad_groups_csv_is_named(root, tmp_path, rows, message):
    table = tmp_path / "groups.csv"
    table.write_text(rows, encoding="utf-8")
    refused(root, message, groups_csv=str(table))


def test_a_missing_groups_csv_is_named(root, tmp_path):
    refused(
        root, "data.groups_csv .*none.csv is missing; mend", groups_csv=str(tmp_path / "none.csv")
    )


def test_pattern_and_csv_exclude_each_other(root):
    refused(
        root,
        "group_pattern and data.groups_csv exclude",
        group_pattern="a",
        groups_csv="groups.csv",
    )


# What is missing or wrong


def test_a_missing_root_is_named(root):
    refused(root / "none", "data.root is '.*none', which is not a folder")


def test_a_missing_split_is_named(root):
    refused(root, "images/val does not exist; a data set has images/{train,val,test}", "val")


def test_a_split_without_images_is_named(root):
    (root / "images/val").mkdir()
    refused(root, r"images/val holds no image \(.jpg, ", "val")


def test_an_image_without_mask_is_named(root):
    (root / "masks/train/a_2.png").unlink()
    refused(root, "image .*a_2.png has no mask; put one at .*masks/train/a_2.png, or a folder a_2/")


def test_missing_masks_of_a_whole_split_are_named(root):
    shutil.rmtree(root / "masks")
    refused(root, "image .*a_1.png has no mask; put one at .*masks/train/a_1.png")


def test_a_mask_of_another_size_is_named(root):
    put(root / "masks/train/a_2.png", np.zeros((5, 6)))
    refused(
        root, "masks/train/a_2.png is 6x5 pixels but its image .*images/train/a_2.png is 6x4 pixels"
    )


def test_an_index_without_a_name_is_named(root):
    put(root / "masks/train/b_1.png", np.full((4, 6), 3))
    refused(root, r"b_1.png holds the index 3, but classes.json names 3 concepts \(0 to 2\)")


def test_a_mask_in_colours_is_named(root):
    put(root / "masks/train/a_1.png", pixels(0))
    refused(root, "masks/train/a_1.png has 3 channels; a mask has one")


def test_images_that_share_a_name_are_named(root):
    put(root / "images/train/a_2.jpg", pixels(1))
    refused(root, "a_2.jpg and .*a_2.png share a name; rename one of them")


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_picture_is_named(root, kind, content):
    (root / f"{kind}/train/a_2.png").write_bytes(content)
    refused(root, f"{kind}/train/a_2.png cannot be read as an image .*; mend or remove it")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_a_truncated_image_is_named_wherever_it_ends(root, suffix):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(noise).save(whole, {"jpg": "jpeg"}.get(suffix, suffix))
    for name in IDS:
        (root / f"images/train/{name}.png").unlink()
    image = root / f"images/train/a_1.{suffix}"
    # The last bytes of a PNG or BMP end the file, not the picture.
    for length in range(0, len(whole.getvalue()) - 25, 7):
        image.write_bytes(whole.getvalue()[:length])
        refused(root, f"a_1.{suffix} cannot be read as an image .*; mend or remove it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{names: sky}", "classes.json cannot be read as JSON .*; mend it"),
        ('{"names": ["sky"', "classes.json cannot be read as JSON"),
        (["sky"], '"names" must be a list of concept names'),
        ({"void": 255}, '"names" must be a list of concept names'),
        ({"names": []}, '"names" must be a list of concept names'),
        ({"names": "sky"}, '"names" must be a list of concept names'),
        ({"names": ["sky", 3]}, '"names" must be a list of concept names'),
        ({"names": ["sky", "sky"]}, '"names" must differ from each other'),
        ({"names": ["sky/cloud"]}, 'hold no "/"'),
        ({"names": ["sky", ""]}, "be no empty words"),
        ({"names": ["sky"], "void": "rest"}, '"void" must be an index or a list of indices'),
        ({"names": ["sky"], "void": [1.5]}, '"void" must be an index or a list of indices'),
        ({"names": ["sky"], "void": None}, '"void" must be an index or a list of indices'),
    ],
)
def test_bad_classes_are_named(root, content, message):
    write_classes(root, content)
    refused(root, f"classes.json.*{message}" if "classes.json" not in message else message)


def test_missing_classes_are_named(root):
    (root / "classes.json").unlink()
    refused(root, "classes.json is missing; data.root must be the folder of it")


def test_a_boolean_mask_of_no_concept_is_named(boolean):
    put(boolean / "masks/train/a_1/raod.png", np.zeros((4, 6)))
    refused(boolean, "a_1/raod.png is a mask of no concept in classes.json; closest: road")


def test_boolean_masks_of_different_sizes_are_named(boolean):
    put(boolean / "masks/train/a_1/road.png", np.zeros((4, 7)))
    refused(boolean, "masks in .*masks/train/a_1 differ in size; give all that of the image")


def test_boolean_masks_of_another_size_than_the_image_are_named(boolean):
    for name in ("sky", "car"):
        put(boolean / f"masks/train/a_1/{name}.png", np.zeros((4, 7)))
    refused(boolean, "masks/train/a_1 is 7x4 pixels but its image .*a_1.png is 6x4 pixels")


def test_a_folder_without_boolean_masks_is_named(boolean):
    for name in ("sky", "car"):
        (boolean / f"masks/train/a_1/{name}.png").unlink()
    refused(boolean, "masks/train/a_1 holds no mask; put <concept>.png files into it")


# The fingerprint


def change_one(path, channel=()):
    with Image.open(path) as picture:
        values = np.array(picture)
    values[(2, 3, *channel)] = 1 - min(1, values[(2, 3, *channel)])
    put(path, values)


def label_void(root):
    """The same masks, now known to be absent where nothing was known."""
    (root / "masks/train/a_2.png").unlink()
    for k, name in enumerate(NAMES):
        put(root / f"masks/train/a_2/{name}.png", index_map(1) == k)


CHANGES = {
    "a mask pixel": lambda root: change_one(root / "masks/train/a_2.png"),
    "an image value": lambda root: change_one(root / "images/train/a_2.png", (1,)),
    "a concept's name": lambda root: write_classes(
        root, {"names": ["sky", "street", "car"], "void": VOID}
    ),
    "where the truth is known": label_void,
    "an image's name": lambda root: [
        (root / f"{kind}/train/a_2.png").rename(root / f"{kind}/train/a_3.png")
        for kind in ("images", "masks")
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_fingerprint_changes_with_the_content(root, change):
    before = contents(root).fingerprint()
    change(root)
    assert contents(root).fingerprint() != before


def test_fingerprint_changes_with_the_groups_and_with_one_boolean_pixel(boolean):
    before, grouped = contents(boolean), contents(boolean, group_pattern="^([^_]+)_")
    assert before.ids == grouped.ids
    change_one(boolean / "masks/train/a_1/sky.png")
    prints = {dataset.fingerprint() for dataset in (before, grouped, contents(boolean))}
    assert len(prints) == 3


def test_fingerprint_tells_a_wide_image_from_a_tall_one(root):
    """Both hold the same bytes."""
    prints = set()
    for shape in ((4, 6), (6, 4)):
        put(root / "images/train/a_1.png", np.full((*shape, 3), 90))
        put(root / "masks/train/a_1.png", np.zeros(shape))
        prints.add(contents(root).fingerprint())
    assert len(prints) == 2


def test_fingerprint_stays_with_the_content(root, tmp_path):
    """Wherever the files lie, whenever they were written, however they are compressed."""
    before = contents(root).fingerprint()
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    put(copy / "images/train/a_1.png", pixels(0), compress_level=0)
    put(copy / "masks/train/a_1.png", index_map(0), compress_level=0)
    (copy / "images/train/notes.txt").write_text("new")
    assert contents(copy).fingerprint() == contents(root).fingerprint() == before
    assert contents(root, name="other").fingerprint() == before


# Real data


def test_camvid(camvid):
    data = Folder(root=str(camvid), group_pattern="^([^_]+)_", limit={"val": 40})
    whole = {split: data.open(split) for split in ("train", "val", "test")}
    assert {split: len(dataset) for split, dataset in whole.items()} == {
        "train": 367,
        "val": 101,
        "test": 233,
    }
    groups = {split: set(dataset.groups) for split, dataset in whole.items()}
    assert groups == {
        "train": {"0001TP", "0006R0", "0016E5"},
        "val": {"0016E5"},
        "test": {"0001TP", "Seq05VD"},
    }
    sample = whole["train"][0]
    assert len(whole["train"].concepts) == len(sample.masks) == 11
    with Image.open(camvid / f"masks/train/{sample.id}.png") as mask:
        void = torch.from_numpy(np.array(mask)) == 11
    assert void.any()
    assert torch.equal(sample.labelled, ~void.expand(11, -1, -1))
    assert torch.equal(sample.masks.sum(0), (~void).long())
    thinned = data.split("val")
    assert len(thinned) == 40
    assert set(thinned.ids) < set(whole["val"].ids)


def test_background_is_labelled_and_of_no_concept(tmp_path):
    (tmp_path / "classes.json").write_text('{"names": ["sky"], "void": 255, "background": 1}')
    for kind in ("images", "masks"):
        (tmp_path / kind / "test").mkdir(parents=True)
    Image.fromarray(np.zeros((1, 3, 3), dtype=np.uint8)).save(tmp_path / "images/test/a.png")
    indices = np.array([[0, 1, 255]], dtype=np.uint8)
    Image.fromarray(indices).save(tmp_path / "masks/test/a.png")
    sample = Folder(root=str(tmp_path)).open("test")[0]
    assert sample.masks[0].tolist() == [[True, False, False]]
    assert sample.labelled[0].tolist() == [[True, True, False]]
