"""Images without labels: their splits, what they look like, and what is wrong with them."""

import logging
import shutil
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cavalcade.data import Folder, Images
from cavalcade.data.contents import read_splits
from cavalcade.data.groups import halves_of_groups
from cavalcade.data.images import DEEPEST
from cavalcade.errors import InputError
from hardening import REFUSED

GREY = np.full((4, 6, 3), 90)
VIDEO = "^([^_/]+)_"


def put(path, values=GREY, **options):
    """Write a picture of some values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = values if isinstance(values, Image.Image) else Image.fromarray(np.uint8(values))
    picture.save(path, **options)
    return path


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 6, 3))


def put_all(root, ids, suffix="png"):
    """A different picture for each id."""
    for seed, own in enumerate(ids):
        put(root / f"{own}.{suffix}", pixels(seed))
    return root


@pytest.fixture
def root(tmp_path):
    """Twelve frames of three videos of 2, 6 and 4."""
    videos = {"a": 2, "b": 6, "c": 4}
    return put_all(
        tmp_path / "frames", [f"{v}_{i}" for v, count in videos.items() for i in range(count)]
    )


def opened(root, split="train", **options):
    return Images(root=str(root), **options).open(split)


def fingerprint(root, split="train", **options):
    return read_splits(Images(root=str(root), **options), [split])[split].fingerprint()


def ids_of(root, **options):
    return {split: opened(root, split, **options).ids for split in ("train", "test")}


def refused(root, message, split="train", **options):
    """Reading a split fails with one sentence that holds these words."""
    with pytest.raises(InputError, match=message) as caught:
        fingerprint(root, split, **options)
    assert "\n" not in str(caught.value)


def test_samples_are_the_pictures_without_concepts(root):
    dataset = opened(root)
    assert dataset.concepts == ()
    names = sorted(path.stem for path in root.iterdir())
    for index in range(len(dataset)):
        sample = dataset[index]
        assert (sample.id, sample.group) == (dataset.ids[index], dataset.groups[index])
        expected = pixels(names.index(sample.id)).transpose(2, 0, 1)
        assert np.array_equal(sample.image, expected)
        assert sample.image.dtype == torch.uint8
        for truth in (sample.masks, sample.labelled):
            assert len(truth) == 0
            assert truth.dtype == torch.bool


def test_name_defaults_to_that_of_the_folder(root):
    assert Images(root=str(root)).name == "frames"
    assert Images(root=str(root), name="mine").name == "mine"


# Where images are found


def test_images_are_found_at_any_depth_and_called_by_their_path(tmp_path):
    put_all(tmp_path, ["x/y/one", "x/two", "three.of.three"])
    ids = ids_of(tmp_path)
    assert sorted(ids["train"] + ids["test"]) == ["three.of.three", "x/two", "x/y/one"]


def test_hidden_and_other_files_are_left_alone(root):
    before = ids_of(root)
    put_all(root, [".thumbs/a_0", "deep/.cache/x/z", "._a_0"])
    (root / "notes.txt").write_text("new")
    (root / "tiles.png").mkdir()
    assert ids_of(root) == before


def test_links_to_folders_are_followed_and_broken_ones_are_named(root, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "here").symlink_to(root)
    assert opened(linked, follow_links=True).ids[0] == "here/a_0"
    (linked / "here").unlink()
    put_all(linked, ["a", "b"])
    (linked / "gone.png").symlink_to(linked / "nowhere.png")
    refused(linked, "gone.png cannot be read as an image .*; mend or remove it")


@pytest.mark.parametrize("home", ["", "images/"])
def test_folders_train_and_test_are_the_splits(tmp_path, home):
    put_all(tmp_path, [f"{home}train/b", f"{home}train/deep/a", f"{home}test/a"], "JPG")
    put_all(tmp_path, [f"{home}val/a", f"{home}other", "masks/train/b"])
    assert ids_of(tmp_path) == {
        "train": (f"{home}train/b", f"{home}train/deep/a"),
        "test": (f"{home}test/a",),
    }
    (tmp_path / f"{home}test/a.JPG").unlink()
    refused(tmp_path, r"test holds no image \(.jpg, ", "test")


def test_folders_at_the_root_come_before_those_in_images(tmp_path):
    splits = [f"{home}{split}/a" for home in ("", "images/") for split in ("train", "test")]
    assert ids_of(put_all(tmp_path, splits)) == {"train": ("train/a",), "test": ("test/a",)}


@pytest.mark.parametrize("home", ["", "images/"])
@pytest.mark.parametrize(("there", "missing"), [("train", "test"), ("test", "train")])
def test_one_of_two_split_folders_is_refused(tmp_path, home, there, missing):
    put_all(tmp_path, [f"{home}{there}/a", f"{home}{there}/b"])
    message = f"holds a folder {there} but no folder {missing}; add it, or give data.root=.*{there}"
    refused(tmp_path, message)
    assert ids_of(tmp_path / f"{home}{there}") == {"train": ("a",), "test": ("b",)}


def test_the_images_of_a_labelled_data_set(camvid):
    """They are the same pictures, in the same groups."""
    bare = Images(root=str(camvid), group_pattern="/([^/_]+)_[^/]*$").open("test")
    labelled = Folder(root=str(camvid), group_pattern=VIDEO).open("test")
    assert bare.ids == tuple(f"images/test/{own}" for own in labelled.ids)
    assert bare.groups == labelled.groups
    for index in (0, len(bare) - 1):
        assert torch.equal(bare[index].image, labelled[index].image)


# Halves


def test_images_without_named_groups_alternate(root):
    """Both halves cover the whole set."""
    assert ids_of(root) == {
        "train": ("a_0", "b_0", "b_2", "b_4", "c_0", "c_2"),
        "test": ("a_1", "b_1", "b_3", "b_5", "c_1", "c_3"),
    }


def test_many_images_alternate_in_blocks(tmp_path):
    ids = ids_of(put_all(tmp_path, [f"{i:02d}" for i in range(60)]))
    assert ids["train"][:7] == ("00", "01", "02", "06", "07", "08", "12")
    assert ids["test"][:4] == ("03", "04", "05", "09")


def test_named_groups_join_the_smaller_half_whole(root):
    assert ids_of(root, group_pattern=VIDEO) == {
        "train": ("a_0", "a_1", "c_0", "c_1", "c_2", "c_3"),
        "test": tuple(f"b_{i}" for i in range(6)),
    }


def test_a_pattern_is_searched_in_the_whole_path(tmp_path):
    """Folders can be groups; images of a group follow each other wherever they lie."""
    put_all(tmp_path, [f"{video}/{side}/{i}" for video in "ab" for side in "lr" for i in "12"])
    by_video = {side: opened(tmp_path, side, group_pattern="^[^/]+") for side in ("train", "test")}
    assert [by_video[side].groups for side in ("train", "test")] == [("a",) * 4, ("b",) * 4]
    by_side = opened(tmp_path, group_pattern="/(.)/")
    assert by_side.ids == ("a/l/1", "a/l/2", "b/l/1", "b/l/2")
    assert opened(tmp_path, group_pattern="png$|^a").groups[0] == "a"


def test_a_table_names_groups_by_id_or_path(tmp_path):
    put_all(tmp_path / "in", ["x/1", "x/2", "y/1"])
    table = tmp_path / "groups.csv"
    table.write_text("id,group\nx/1,late\nx/2.png,early\ny/1,late\n", encoding="utf-8")
    halves = [opened(tmp_path / "in", split, groups_csv=str(table)) for split in ("train", "test")]
    assert [half.ids for half in halves] == [("x/2",), ("x/1", "y/1")]
    assert [half.groups for half in halves] == [("early",), ("late", "late")]


def test_one_named_group_is_cut_in_blocks_with_one_warning(tmp_path, caplog):
    put_all(tmp_path, [f"a_{i:02d}" for i in range(45)])
    data = Images(root=str(tmp_path), group_pattern=VIDEO, name="drive")
    with caplog.at_level(logging.WARNING):
        ids = {split: data.open(split).ids for split in ("train", "test")}
    (record,) = caplog.records
    assert "drive: all images are of one group, 'a', which is cut" in record.getMessage()
    assert set(data.open("test").groups) == {"a"}
    half = {own: split for split in ids for own in ids[split]}
    blocks = [len(list(block)) for _, block in groupby(sorted(half), key=half.get)]
    assert len(blocks) >= 20
    assert max(blocks) <= 3
    assert abs(len(ids["train"]) - len(ids["test"])) <= 2


def test_whole_groups_and_images_of_their_own_need_no_warning(root, caplog):
    ids_of(root, group_pattern=VIDEO)
    ids_of(root)
    assert not caplog.records


group_sizes = st.lists(st.integers(1, 30), min_size=2, max_size=20)


@settings(max_examples=100, deadline=None)
@given(group_sizes)
def test_halves_of_groups_are_whole_and_balanced(sizes):
    groups = [f"{g:02d}" for g, size in enumerate(sizes) for _ in range(size)]
    halves = halves_of_groups(groups)
    assert len(halves) == len(groups)
    assert len(set(zip(groups, halves, strict=True))) == len(sizes)
    assert min(halves.count(0), halves.count(1)) > 0
    assert abs(halves.count(0) - halves.count(1)) <= max(sizes)


@pytest.mark.parametrize("pattern", [None, VIDEO, "^", "."])
def test_halves_are_the_same_each_time_and_share_nothing(root, pattern):
    first, again = (ids_of(root, group_pattern=pattern) for _ in range(2))
    assert first == again
    assert not set(first["train"]) & set(first["test"])
    assert len(first["train"] + first["test"]) == 12
    assert min(map(len, first.values())) > 0


# What pictures look like


def only(tmp_path, values, name="picture.png", **options):
    """The image that one picture becomes, (height, width, 3)."""
    put(tmp_path / f"train/{name}", values, **options)
    put(tmp_path / "test/any.png")
    return opened(tmp_path)[0].image.permute(1, 2, 0).numpy()


RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
IN_GREY = np.repeat(RAMP[..., None], 3, axis=2)


def test_grey_pictures(tmp_path):
    assert np.array_equal(only(tmp_path, RAMP), IN_GREY)


def test_palette_pictures_show_their_colours(tmp_path):
    picture = Image.fromarray(RAMP // 10)
    picture.putpalette([200, 10, 30, 0, 0, 255] * 12)
    assert picture.mode == "P"
    image = only(tmp_path, picture)
    assert image[0, 0].tolist() == [200, 10, 30]
    assert image[0, 1].tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bits_are_scaled_not_clipped(tmp_path, name):
    values = RAMP.astype(np.uint16) * 257
    assert np.array_equal(only(tmp_path, Image.fromarray(values), name), IN_GREY)


def test_transparent_parts_let_white_through(tmp_path):
    values = np.zeros((1, 3, 4))
    values[0, :, 0] = 200
    values[0, :, 3] = [255, 0, 51]
    expected = [[200, 0, 0], [255, 255, 255], [244, 204, 204]]
    assert only(tmp_path, values)[0].tolist() == expected


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_a_transparent_colour_lets_white_through(tmp_path, mode):
    picture = Image.fromarray(np.uint8([[0, 255]])).convert(mode)
    clear = picture.getpixel((0, 0))
    image = only(tmp_path, picture, transparency=clear)
    assert image[0].tolist() == [[255] * 3, [255] * 3]


TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
    9: lambda a: a,  # of no meaning
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_are_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = only(tmp_path, pixels(0), f"photo.{suffix}", exif=exif)
    assert np.array_equal(image, TURNED[orientation](pixels(0)))


def test_odd_notes_of_a_camera_do_not_matter(tmp_path):
    """Pillow cannot write them, and need not."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = 6
    path = put(tmp_path / "train/photo.jpg", Image.new("RGB", (6, 4)), exif=exif)
    put(tmp_path / "test/any.png")
    tag, odd = b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02"
    assert tag in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(tag, odd))
    assert opened(tmp_path)[0].image.shape == (3, 6, 4)


@pytest.mark.parametrize(
    "values", [RAMP.astype(np.float32), RAMP.astype(np.int32) * 1000, -RAMP.astype(np.int32)]
)
def test_values_of_neither_8_nor_16_bits_are_named(tmp_path, values):
    with pytest.raises(InputError, match=r"deep.tif cannot be read .* save it with 8 or 16 bits"):
        only(tmp_path, Image.fromarray(values), "deep.tif")


# What is missing or wrong


def test_there_is_no_validation_split(root):
    message = "no labels and thus no split 'val', so that probes cannot be fitted: use conc"
    refused(root, message, "val")


def test_a_missing_root_is_named(root):
    refused(root / "none", "data.root is '.*none', which is not a folder; give its path")


def test_a_folder_without_images_is_named(tmp_path):
    refused(tmp_path, r"holds no image \(.jpg, ")


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_image_is_too_few(tmp_path, split):
    put(tmp_path / "a.png")
    refused(tmp_path, "holds one image; give at least two", split)


def test_images_that_share_an_id_are_named_though_halves_part_them(tmp_path):
    put_all(tmp_path, ["x/a"])
    put_all(tmp_path, ["x/a", "a"], "jpg")
    for options in ({}, {"group_pattern": "png|jpg"}):
        refused(tmp_path, "x/a.jpg and .*x/a.png share a name; rename one of them", **options)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unreadable_picture_is_named(root, split):
    own = ids_of(root)[split][1]
    (root / f"{own}.png").write_bytes(b"not a picture")
    refused(root, f"{own}.png cannot be read as an image .*; mend or remove it", split)


def test_a_name_without_a_group_is_named(tmp_path):
    put_all(tmp_path, ["x/a_1", "y/b"])
    refused(tmp_path, "'_' does not match the file name y/b.png", group_pattern="_")
    table = tmp_path / "groups.csv"
    table.write_text("id,group\nx/a_1,x\nb,y\n", encoding="utf-8")
    refused(tmp_path, "groups.csv names no group for .*y/b.png; add a row", groups_csv=str(table))


def test_pattern_and_table_exclude_each_other(root):
    refused(
        root, "data.groups_csv exclude each other; keep one", group_pattern="a", groups_csv="a.csv"
    )


# Thinning


def test_splits_are_thinned_evenly(root):
    data = Images(root=str(root), limit={"train": 3}, test_images=2)
    assert data.split("train").ids == ("a_0", "b_2", "c_0")
    assert data.split("test").ids == ("a_1", "b_5")
    assert len(data.open("test")) == 6


# The fingerprint


def change_a_pixel(root):
    values = pixels(0)
    values[3, 5, 2] ^= 1
    put(root / "a_0.png", values)


CHANGES = {
    "a pixel": change_a_pixel,
    "an id": lambda root: (root / "a_0.png").rename(root / "a_00.png"),
    "a picture more": lambda root: put(root / "d_0.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_fingerprint_changes_with_the_content(root, change):
    before = fingerprint(root, group_pattern=VIDEO)
    change(root)
    assert set(opened(root, group_pattern=VIDEO).groups) >= {"a", "c"}
    assert fingerprint(root, group_pattern=VIDEO) != before


def test_fingerprint_changes_with_the_groups(tmp_path):
    put_all(tmp_path, ["train/a_1", "train/a_2", "test/a_1"])
    assert opened(tmp_path).ids == opened(tmp_path, group_pattern="a_").ids
    assert fingerprint(tmp_path) != fingerprint(tmp_path, group_pattern="a_")


def test_fingerprint_tells_a_wide_image_from_a_tall_one(root):
    """Both hold the same bytes."""
    prints = set()
    for shape in ((4, 6, 3), (6, 4, 3)):
        put(root / "a_0.png", np.full(shape, 90))
        prints.add(fingerprint(root))
    assert len(prints) == 2


def test_fingerprint_stays_with_the_content(root, tmp_path):
    """Wherever the files lie, however they are compressed; each split has its own."""
    before = fingerprint(root)
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    put(copy / "a_0.png", pixels(0), compress_level=0)
    (copy / "notes.txt").write_text("new")
    assert fingerprint(copy, name="other") == before
    assert fingerprint(root, "test") != before


def test_there_are_no_concepts_to_choose(root):
    message = "data.concepts chooses among labels, and frames has none"
    refused(root, message, concepts=["hair"])
    for option in ("min_pixels", "min_images"):
        refused(root, "choose among labels, and frames has none", **{option: 1})


def test_folders_within_folders_are_read_up_to_a_depth(tmp_path, tried):
    folders = [tmp_path]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    put(folders[DEEPEST - 1] / "a.png")
    with pytest.raises(InputError, match=rf"(/d){{{DEEPEST}}} lies in more than 100 folders; move"):
        opened(tmp_path)
    for folder in reversed(folders[DEEPEST:]):
        folder.rmdir()
    put(tmp_path / "b.png")
    assert sorted(map(len, (opened(tmp_path), opened(tmp_path, "test")))) == [1, 1]
    tried("images", "1,500 folders within each other", REFUSED)


def test_exif_data_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    def getexif(_):
        raise KeyError("what Pillow does not expect")

    put(tmp_path / "train/a.png")
    put(tmp_path / "test/a.png")
    monkeypatch.setattr(Image.Image, "getexif", getexif)
    with pytest.raises(InputError, match=r"train/a.png cannot be read .*\(its EXIF data cannot be"):
        opened(tmp_path).image(0)
