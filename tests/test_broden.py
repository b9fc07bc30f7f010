"""Broden is read as it is published, and whatever is wrong with it is named."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from broden_folder import (
    COLUMNS,
    LABELS,
    NUMBERS,
    put,
    put_map,
    write_broden,
    write_labels,
    write_table,
)
from cavalcade.data.broden import Broden
from cavalcade.errors import InputError

SHAPE = (4, 6)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_broden(tmp_path_factory.mktemp("broden"))


def opened(root, split="test", **settings):
    return Broden(root=str(root), **settings).open(split)


def masks_of(root, **settings):
    """The truth about the first test image by concept; None where nothing is known."""
    dataset = opened(root, **settings)
    masks, labelled = dataset.labels(0)
    assert all(known.all() or not known.any() for known in labelled)
    assert not (masks & ~labelled).any()
    return {
        name: mask.numpy() if known.all() else None
        for name, mask, known in zip(dataset.concepts, masks, labelled, strict=True)
    }


def refused(message, root, split="test", **settings):
    """Opening and reading a split fails with one sentence that holds these words."""
    with pytest.raises(InputError, match=message) as caught:
        list(opened(root, split, **settings))
    assert "\n" not in str(caught.value)


def one_image(root, entries, labels=LABELS, **row):
    """A data set with one test image of 12x8 pixels, and entries for some categories."""
    put(root / "images/ade/a.jpg", np.full((8, 12, 3), 90))
    row = {"image": "ade/a.jpg", "split": "val", "ih": 8, "iw": 12, "sh": 4, "sw": 6} | row
    write_table(root / "index.csv", COLUMNS, [row | entries])
    write_labels(root, labels)
    return root


def numbers(*names):
    """A label map with these names in its rows, from the top; "-" and what is below is none."""
    values = np.zeros(SHAPE, int)
    for k, name in enumerate(names):
        values[k] = NUMBERS.get(name, 0)
    return values


def row_is_set(k):
    return np.arange(4)[:, None] == np.full(SHAPE, k)


# The truth


def test_a_label_map_holds_red_and_256_green(tmp_path):
    put_map(tmp_path / "images/ade/o.png", numbers("ball", "box", "fabric"))
    masks = masks_of(one_image(tmp_path, {"object": "ade/o.png"}), categories=["object"])
    assert list(masks) == ["ball", "fabric", "box"]
    for k, name in enumerate(("ball", "box", "fabric")):
        assert np.array_equal(masks[name], row_is_set(k))


def test_blue_is_left_alone_and_a_palette_is_looked_up(tmp_path):
    values = np.zeros((*SHAPE, 3), np.uint8)
    values[0] = (300 - 256, 1, 7)
    path = tmp_path / "images/ade/o.png"
    root = one_image(tmp_path, {"object": "ade/o.png"})
    for mode in ("RGB", "RGBA", "P"):
        picture = Image.fromarray(values).convert("RGB")
        picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
        picture.save(path)
        with Image.open(path) as saved:
            assert saved.mode == mode
        assert np.array_equal(masks_of(root)["box"], row_is_set(0))


def test_a_category_without_entry_is_not_known(tmp_path):
    """And what has one is absent where it is not found, also where no concept is."""
    put_map(tmp_path / "images/ade/o.png", numbers("ball"))
    masks = masks_of(one_image(tmp_path, {"object": "ade/o.png", "scene": "400"}))
    known = {"ball", "box", "fabric", "yard-s", "hall-s"}
    assert {name for name, mask in masks.items() if mask is not None} == known
    assert not masks["box"].any()
    assert masks["yard-s"].all()
    assert not masks["hall-s"].any()


def test_layers_of_a_category_are_united(tmp_path):
    put_map(tmp_path / "images/ade/p1.png", numbers("top", "corner"))
    put_map(tmp_path / "images/ade/p2.png", numbers("corner", "-", "top"))
    masks = masks_of(one_image(tmp_path, {"part": "ade/p1.png;ade/p2.png"}))
    assert np.array_equal(masks["top"], row_is_set(0) | row_is_set(2))
    assert np.array_equal(masks["corner"], row_is_set(0) | row_is_set(1))


def test_a_number_is_a_label_of_the_whole_image(tmp_path):
    masks = masks_of(one_image(tmp_path, {"texture": "501; 500;"}))
    assert masks["striped"].all()
    assert masks["dotted"].all()
    masks = masks_of(one_image(tmp_path, {"texture": "500"}))
    assert masks["striped"].all()
    assert not masks["dotted"].any()
    assert masks["striped"].shape == SHAPE


def test_number_0_is_of_no_concept(tmp_path):
    masks = masks_of(one_image(tmp_path, {"texture": "0"}))
    assert not masks["striped"].any()
    assert masks["yard-s"] is None
    write_labels(tmp_path, {0: ("-", ""), **LABELS})
    assert list(masks_of(tmp_path)) == list(masks)


def test_a_number_and_maps_may_share_an_entry(tmp_path):
    put_map(tmp_path / "images/ade/m.png", numbers("wood"))
    masks = masks_of(one_image(tmp_path, {"material": "ade/m.png;13"}))
    assert masks["fabric"].all()
    assert np.array_equal(masks["wood"], row_is_set(0))


@pytest.mark.parametrize(
    ("entries", "rows"),
    [
        ({"object": "ade/1.png"}, [1]),
        ({"material": "ade/2.png"}, [2]),
        ({"object": "ade/1.png", "material": "ade/2.png"}, [1, 2]),
        ({"color": "1"}, None),
    ],
)
def test_a_concept_of_two_categories_is_known_where_one_is(tmp_path, entries, rows):
    for k in (1, 2):
        put_map(tmp_path / f"images/ade/{k}.png", NUMBERS["fabric"] * row_is_set(k))
    fabric = masks_of(one_image(tmp_path, entries))["fabric"]
    if rows is None:
        assert fabric is None
    else:
        assert np.array_equal(fabric, np.any([row_is_set(k) for k in rows], axis=0))


def test_a_concept_is_known_by_the_chosen_categories_alone(tmp_path):
    put_map(tmp_path / "images/ade/1.png", numbers("fabric"))
    root = one_image(tmp_path, {"object": "ade/1.png", "material": "0"})
    assert masks_of(root)["fabric"].any()
    masks = masks_of(root, categories=["material"])
    assert list(masks) == ["fabric", "wood"]
    assert not masks["fabric"].any()


def test_a_sample_of_the_folder_is_what_is_drawn(written):
    """Shapes have the colours that their concepts say."""
    dataset = opened(written)
    k = {name: k for k, name in enumerate(dataset.concepts)}
    assert list(k) == [name for name, _ in LABELS.values()]
    for sample in map(dataset.__getitem__, range(len(dataset))):
        assert sample.image.shape == (3, 48, 48)
        assert sample.masks.shape == sample.labelled.shape == (13, 24, 24)
        red, green, _ = sample.image[:, ::2, ::2].int()
        seen = {"red-c": red - green > 100, "green-c": green - red > 90}
        for name, where in seen.items():
            agreement = (sample.masks[k[name]] & where).sum() / where.sum()
            assert agreement > 0.8
        if sample.labelled[k["box"]].all():
            assert torch.equal(sample.masks[k["box"]], sample.masks[k["green-c"]])
            assert torch.equal(sample.masks[k["ball"]], sample.masks[k["red-c"]])
        if sample.labelled[k["top"]].all():
            top, corner = sample.masks[k["top"]], sample.masks[k["corner"]]
            assert (top & corner).any()
            assert not (top & ~sample.masks[k["green-c"]]).any()


# Splits and groups


def test_val_is_held_out_of_train_and_test_is_the_published_val(written):
    ids = {split: opened(written, split).ids for split in ("train", "val", "test")}
    assert {split: len(own) for split, own in ids.items()} == {"train": 22, "val": 2, "test": 6}
    assert ids["val"] == ("shapes/train_0009", "shapes/train_0019")
    assert set(ids["train"]) | set(ids["val"]) == {f"shapes/train_{i:04d}" for i in range(24)}
    assert not set(ids["train"]) & set(ids["val"])
    assert set(ids["test"]) == {f"shapes/val_{i:04d}" for i in range(6)}


def test_no_group_is_cut(written):
    pattern = r"_(\d\d\d)\d"  # ten images each
    groups = {s: opened(written, s, group_pattern=pattern).groups for s in ("train", "val")}
    assert set(groups["val"]) == {"002"}
    assert set(groups["train"]) == {"000", "001"}


def test_images_without_entry_in_the_chosen_categories_are_left_out(written):
    """Of five images, the third and the fifth have a texture, and each has colours."""
    ids = opened(written, categories=["texture"]).ids
    assert ids == ("shapes/val_0002", "shapes/val_0004")
    assert len(opened(written, categories=["color", "texture"])) == 6


# What is read


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    root = write_broden(tmp_path, {"train": 3, "val": 2})
    shutil.rmtree(root / "images")
    assert len(opened(root)) == 2


def test_only_maps_that_chosen_concepts_need_are_decoded(tmp_path):
    root = write_broden(tmp_path, {"train": 3, "val": 2})
    whole = opened(root)
    for path in (root / "images/shapes").glob("*.png"):
        if "_object_" not in path.name:
            path.write_bytes(b"")
    dataset = opened(root, concepts=["b*"])
    assert dataset.concepts == ("ball", "box")
    rows = [whole.concepts.index(name) for name in dataset.concepts]
    assert dataset.labels(0).masks.any()
    refused("color_1.png cannot be read", root, concepts=["ball", "red-c"])
    write_broden(root, {"train": 3, "val": 2})
    for i in range(len(whole)):
        for part, own in zip(whole.labels(i), dataset.labels(i), strict=True):
            assert torch.equal(part[rows], own)


def test_one_map_says_what_is_labelled_where_it_is_the_same_for_all(written):
    shared = opened(written, categories=["object", "part"], concepts=["ball", "box"]).labels(0)
    assert shared.labelled.shape == (2, 24, 24)
    assert shared.labelled.stride(0) == 0
    assert shared.labelled.all()
    whole = opened(written)
    k = {name: k for k, name in enumerate(whole.concepts)}
    labelled = whole.labels(1).labelled  # it has colours, objects and a scene
    assert labelled[k["ball"]].all()
    assert not labelled[k["top"]].any()


def test_concepts_are_in_the_order_of_their_numbers(tmp_path):
    root = one_image(tmp_path, {"scene": "400"}, dict(reversed(LABELS.items())))
    assert opened(root).concepts == tuple(name for name, _ in LABELS.values())
    assert opened(root, concepts=["yard-s", "ball"]).concepts == ("ball", "yard-s")


# What is missing or wrong


@pytest.mark.parametrize("name", ["index.csv", "label.csv"])
def test_a_missing_table_is_named(tmp_path, name):
    (one_image(tmp_path, {"scene": "400"}) / name).unlink()
    refused(f"{name} is missing; data.root must be the folder", tmp_path)


@pytest.mark.parametrize("name", ["index.csv", "label.csv"])
def test_a_table_that_is_no_text_is_named(tmp_path, name):
    (one_image(tmp_path, {"scene": "400"}) / name).write_bytes(b"\xff\xfe\x00")
    refused(f"{name} cannot be read .*; mend it", tmp_path)


@pytest.mark.parametrize(
    ("name", "column"), [("index.csv", "sh"), ("index.csv", "color"), ("label.csv", "category")]
)
def test_a_missing_column_is_named(tmp_path, name, column):
    path = one_image(tmp_path, {"scene": "400"}) / name
    path.write_text(path.read_text().replace(column, "other", 1))
    refused(f"{name} lacks the column {column}; its first line must name the columns", tmp_path)


def test_a_column_of_a_category_that_is_not_chosen_is_not_missed(tmp_path):
    path = one_image(tmp_path, {"scene": "400"}) / "index.csv"
    path.write_text(path.read_text().replace("color", "other", 1))
    assert masks_of(tmp_path, categories=["scene"])["yard-s"].all()


@pytest.mark.parametrize("line", ["ade/b.jpg,val,8,12", "ade/b.jpg,val,8,12,4,6,,,,,400,,9"])
def test_a_line_with_another_number_of_fields_is_named(tmp_path, line):
    path = one_image(tmp_path, {"scene": "400"}) / "index.csv"
    path.write_text(path.read_text() + line + "\n")
    refused("index.csv, line 3 has another number of fields than the first line", tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"split": "test"}, "line 2: split is 'test'; write train or val"),
        ({"sh": "4.0"}, "line 2: sh is '4.0'; give a whole number from 1 up"),
        ({"sw": ""}, "line 2: sw is ''; give a whole number from 1 up"),
        ({"sw": "0"}, "line 2: sw is '0'; give a whole number from 1 up"),
        ({"image": ""}, "line 2: image is ''; name each image once, by its path below images/"),
        ({"image": "/a.jpg"}, "line 2: image is '/a.jpg'; name each image once"),
        ({"image": "ade/b.jpg"}, "line 2 names the image .*images/ade/b.jpg, which is not there"),
    ],
)
def test_a_bad_field_of_the_index_is_named(tmp_path, row, message):
    refused(f"index.csv, {message}", one_image(tmp_path, {"scene": "400"}, **row))


def test_an_image_that_is_named_twice_is_named(tmp_path):
    path = one_image(tmp_path, {"scene": "400"}) / "index.csv"
    path.write_text(path.read_text() + "ade/a.jpg,train,8,12,4,6,,,,,401,\n")
    refused("index.csv, line 3: image is 'ade/a.jpg'; name each image once", tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"scene": "402"}, "index.csv, line 2 holds the label number 402, .* list under scene"),
        ({"scene": "300"}, "line 2 holds the label number 300, which label.csv does not list"),
        ({"scene": "99999"}, "line 2 holds the label number 99999, which label.csv does not"),
        ({"scene": "400.0"}, "index.csv, line 2, scene: '400.0' is no label number, nor is there"),
        ({"scene": "-1"}, "line 2, scene: '-1' is no label number, nor is there a label map .*-1"),
        (
            {"object": "ade/b.png"},
            "line 2, object: 'b.png' is no label number, .*ade/b.png; unpack",
        ),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entries, message):
    refused(message, one_image(tmp_path, entries))


@pytest.mark.parametrize("number", [2, 15, 65535])
def test_a_map_with_a_number_that_is_not_listed_is_named(tmp_path, number):
    """Not at all, or under another category: the truth about it would be lost."""
    put_map(tmp_path / "images/ade/o.png", np.eye(4, 6, dtype=int) * number)
    root = one_image(tmp_path, {"object": "ade/o.png"})
    refused(f"ade/o.png holds the label number {number}, which label.csv does not list", root)


def test_layers_of_different_sizes_are_named(tmp_path):
    put_map(tmp_path / "images/ade/1.png", numbers("top"))
    put_map(tmp_path / "images/ade/2.png", np.zeros((6, 4), int))
    root = one_image(tmp_path, {"part": "ade/1.png;ade/2.png"})
    refused("2.png is 4x6 pixels, but .*index.csv, line 2 gives all its label maps 6x4", root)


def test_a_grey_label_map_is_named(tmp_path):
    put(tmp_path / "images/ade/o.png", numbers("ball"))
    refused("a label map has colours", one_image(tmp_path, {"object": "ade/o.png"}))


def test_an_unreadable_map_is_named(tmp_path):
    (tmp_path / "images/ade").mkdir(parents=True)
    (tmp_path / "images/ade/o.png").write_bytes(b"no picture")
    refused("o.png cannot be read as an image", one_image(tmp_path, {"object": "ade/o.png"}))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"x": ("ball", "object(1)")}, "line 2: number is 'x'; give a whole number from 0 up"),
        ({"1.0": ("ball", "object(1)")}, "line 2: number is '1.0'; give a whole number"),
        ({65536: ("ball", "object(1)")}, "line 2: number is 65536; label maps end at 65535"),
        ({1: ("ball", "object")}, r"line 2: category is 'object'; write it like 'object\(20\)"),
        ({1: ("ball", "")}, "line 2: category is ''; write it like"),
        ({1: ("", "object(1)")}, "line 2: the number 1 or the name '' is taken or empty"),
        ({1: ("a", "object(1)"), 2: ("a", "part(1)")}, "line 3: the number 2 or the name 'a' is"),
        ({1: ("a", "object(1)"), "01": ("b", "part(1)")}, "line 3: the number 1 or the name 'b'"),
    ],
)
def test_a_bad_label_is_named(tmp_path, labels, message):
    refused(f"label.csv, {message}", one_image(tmp_path, {"scene": "400"}, labels))


@pytest.mark.usefixtures("no_waiting")
def test_a_category_without_an_end_is_refused_at_once(tmp_path):
    """Rather than in a time that grows with the square of its length."""
    labels = {n: (f"c{n}", "object(1);" + "a" * 120_000) for n in range(1, 5)}
    labels[5] = ("last", "a" * 120_000)
    refused("label.csv, line 6: category is", one_image(tmp_path, {"scene": "400"}, labels))


def test_categories_without_concepts_are_named(tmp_path):
    root = one_image(tmp_path, {"part": "0"}, {400: LABELS[400]})
    refused("label.csv lists no concept of data.categories part", root, categories=["part"])


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (["objects"], "data.categories is 'objects'; give one of color, object, part"),
        ([], "data.categories is empty; give some of color, object"),
    ],
)
def test_bad_categories_are_named(written, categories, message):
    refused(message, written, categories=categories)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_named(tmp_path, split):
    root = one_image(tmp_path, {"scene": "400"})
    refused(f"index.csv leaves the split {split} empty: test is what it calls val", root, split)


def test_one_group_leaves_nothing_to_hold_out(written):
    refused("leaves the split val empty", written, "val", group_pattern="^shapes")
