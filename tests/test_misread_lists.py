"""What lists say and must not: it would be read as something else, or lead somewhere else."""

import json
import os
import shutil
from pathlib import Path

import pytest

from cavalcade.data import Coco, Folder, Images
from cavalcade.data.contents import read_splits
from cavalcade.data.tables import read_json_list
from cavalcade.errors import InputError
from faults import Child, no_child_is_left
from fuzzing import DEEP, is_refused
from hardening import REFUSED, UNCHANGED
from listed_folders import drawn, read, write_folder
from test_bad_pictures import MEGABYTE, within

assert drawn, no_child_is_left
ABSURD = "lists: paths out of the data set, or absurd sizes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * DEEP, r"cannot be read as JSON \(it is nested too deeply\); mend it"),
        ('{"a":' * DEEP, r"cannot be read as JSON \(it is nested too deeply\); mend it"),
        ('{"names": ["a"], "void": NaN}', "NaN is no number of JSON"),
        ('{"names": ["a"], "void": -Infinity}', "-Infinity is no number of JSON"),
        ('{"names": ["a"], "void": 1, "void": 2}', "an object has the key 'void' twice"),
        ('{"names": ["a"], "void": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ('{"names": ["a"], "void": 65536}', "must be an index or a list of indices, up to 65535"),
        ('{"names": ["a"], "void": true}', "must be an index or a list of indices"),
        ('{"names": ["a"], "void": 1e3}', "must be an index or a list of indices"),
        ('{"names": ["a"], "viod": 255}', "has the field 'viod' of no meaning; closest: void"),
        (r'{"names": ["a\nb"]}', r"has 'a\\nb', with a control character"),
        ('{"names": ["a"], "void": 1e999}', "'1e999' is larger than a number can be"),
        ('{"names": ["a"], "void": [-1E400]}', "'-1E400' is larger than a number can be"),
        (r'{"names": ["\ud800"]}', r"has '\\ud800', with .* what is not UTF-8"),
        (r'{"names": ["\udcff"]}', r"has b'\\xff', with .* what is not UTF-8"),
    ],
)
def test_classes_that_would_be_misread_are_named(tmp_path, tried, content, message):
    write_folder(tmp_path)
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(InputError, match=f"classes.json.*{message}"):
        Folder(root=str(tmp_path))
    what = "JSON nested 100,000 deep, with NaN, huge numbers, double keys or control characters"
    tried("images", what, REFUSED)


def test_many_double_keys_take_no_time(tmp_path):
    """In proportion to their number; two by two it would be an hour."""
    path = tmp_path / "a.json"
    path.write_text("{" + ",".join(f'"{i % 99_999}":0' for i in range(200_000)) + "}")
    with pytest.raises(InputError, match="an object has the key '0' twice"):
        read_json_list(path, missing="", damaged="")


def test_run_lengths_without_end_take_no_time(drawn, tmp_path):
    root = shutil.copytree(drawn["coco"], tmp_path / "data")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    size = [content["images"][0][side] for side in ("height", "width")]
    content["annotations"][0]["image_id"] = content["images"][0]["id"]
    content["annotations"][0]["segmentation"] = {"size": size, "counts": "o" * 3_000_000}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'"segmentation" of .* counts that are too large'):
        read("coco", root)


COCO_ODD = {
    "a name above": ("images", {"file_name": "../a.jpg"}, "no plain path below"),
    "an absolute name": ("images", {"file_name": "/etc/passwd"}, "no plain path below"),
    "a name in two ways": ("images", {"file_name": "./a.jpg"}, "no plain path below"),
    "a name of two lines": ("images", {"file_name": "a\nb.jpg"}, "no plain path below"),
    "a name that is no text": ("images", {"file_name": "\ud800.jpg"}, "no plain path below"),
    "a height of true": ("images", {"height": True}, '"height" of entry 0 of "images" is True'),
    "a height of 2 GB": (
        "images",
        {"height": 2**31},
        "says [0-9]+x2147483648 pixels",
    ),
    "a width below 0": ("images", {"width": -5}, "says -5x"),
    "a crowd of text": (
        "annotations",
        {"iscrowd": "0"},
        "\"iscrowd\" .* is '0'; it must be 0 or 1",
    ),
    "a crowd of 2": ("annotations", {"iscrowd": 2}, '"iscrowd" .* is 2; it must be 0 or 1'),
    "an id of true": ("annotations", {"id": True}, '"id" of entry 0 of "annotations" is True'),
    "an id of a list": ("annotations", {"id": []}, r'"id" of entry 0 of "annotations" is \[\]'),
    "a long id": (
        "annotations",
        {"image_id": "x" * 9999},
        "xxx…, which is the id",
    ),
    "a category": ("categories", {"name": "a\tb"}, "must be a word"),
}


@pytest.mark.parametrize("odd", COCO_ODD)
def test_entries_of_coco_that_would_be_misread_are_named(drawn, tmp_path, tried, odd):
    part, change, message = COCO_ODD[odd]
    root = shutil.copytree(drawn["coco"], tmp_path / "data")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content[part][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        read("coco", root)
    assert "instances_val2017.json" in str(caught.value)
    assert len(str(caught.value)) < 600
    tried("images", "invalid paths, sizes, ids or crowd flags in COCO", REFUSED)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [10**6, 10**6], "counts": [10**12]},
        {"size": [10**9, 1], "counts": [0, 10**9]},
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {"size": [24, 32], "counts": [10**300, -(10**300)]},
    ],
)
def test_a_mask_of_another_size_is_refused_before_it_is_made(drawn, tmp_path, tried, segmentation):
    root = shutil.copytree(drawn["coco"], tmp_path / "data")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(content))

    def attempt():
        within(128 * MEGABYTE)
        split = Coco(root=str(root)).split("test")
        sentences = [is_refused(lambda i=i: split.labels(i), path) for i in range(len(split))]
        assert any(sentences)

    child = Child(attempt, tmp_path / "log")
    assert child.wait() == 0, child.said
    tried("images", ABSURD, REFUSED)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("sh", "1000000000", "sh and sw are 1000000000 and 12, more than"),
        ("sw", "9" * 5000, "sw is '999.*; give a whole number from 1 up"),
        ("image", "../a.jpg", "image is '../a.jpg'; name each image once"),
        ("image", "/etc/passwd", "image is '/etc/passwd'; name each image once"),
        ("image", "shapes//a.jpg", "image is 'shapes//a.jpg'; name each image once"),
        ("color", "../../label.csv", "'../../label.csv' is no label number, nor a path below"),
        ("color", "/etc/passwd", "'/etc/passwd' is no label number, nor a path below images"),
        ("color", "9" * 5000, "holds the label number 999.*, which label.csv does not list"),
    ],
)
def test_rows_of_broden_that_lead_out_or_claim_too_much_are_named(
    drawn, tmp_path, tried, column, value, message
):
    root = shutil.copytree(drawn["broden"], tmp_path / "data")
    rows = (root / "index.csv").read_text().splitlines()
    place = next(i for i, row in enumerate(rows) if ",val," in row)
    fields = rows[place].split(",")
    fields[rows[0].split(",").index(column)] = value
    rows[place] = ",".join(fields)
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match=rf"index.csv, line {place + 1}.*{message}"):
        read("broden", root)
    tried("images", ABSURD, REFUSED)


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "../../../../etc/passwd"),
        ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "/etc/passwd"),
        ("oxford pets", "annotations/test.txt", "../../a 1 1 1"),
        ("oxford pets", "annotations/test.txt", "/etc/passwd 1 1 1"),
    ],
)
def test_names_of_lists_that_lead_out_are_named(drawn, tmp_path, tried, kind, name, line):
    root = shutil.copytree(drawn[kind], tmp_path / "data")
    (root / name).write_text((root / name).read_text().rstrip() + f"\n{line}\n")
    with pytest.raises(InputError, match=f"{name} names the image '.*', which is no file name"):
        read(kind, root)
    tried("images", ABSURD, REFUSED)


@pytest.mark.parametrize(
    "rows", ["1\t0\t1\t1\ta\n1\t0\t1\t1\tb", "999999999\t0\t1\t1\ta", "", "1\t,a"]
)
def test_classes_of_ade20k(drawn, tmp_path, tried, rows):
    root = shutil.copytree(drawn["ade20k"], tmp_path / "data")
    (root / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tName\n{rows}\n")
    with pytest.raises(InputError, match=r"objectInfo150.txt (has the row|holds no class)"):
        read("ade20k", root)
    tried("images", "class lists of ADE20K: duplicate, missing or huge indices", REFUSED)


# Names


ODD_NAMES = (b"\xff", b"a\nb", b"a\x1b[2Jb", b"\xe2\x80\xa8", b"caf\xe9", b"\r")


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
@pytest.mark.parametrize("make", [Folder, Images])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_file_names_that_no_table_can_hold_are_named(tmp_path, tried, name, make, on_error):
    root = tmp_path / "data"
    write_folder(root)
    home = root / "images/train"
    shutil.copy(home / "a_1.png", os.fsencode(home) + b"/" + name + b".png")
    with pytest.raises(
        InputError, match=r"data.* holds the name b?['\"].*; rename the file"
    ) as caught:
        read_splits(make(root=str(root), on_error=on_error), ["train"])
    said = str(caught.value)
    assert said.isprintable()
    said.encode()
    tried("images", "names of files or groups that are not UTF-8, or of several lines", REFUSED)


def test_other_names_are_kept_whole(tmp_path, tried):
    names = ["Straße 1, rechts", "'quoted' \"twice\"", "日本", "=1+1", "a;b|c%20&<i>"]
    root = tmp_path / "data"
    write_folder(root)
    for name in names:
        for part in ("images", "masks"):
            shutil.copy(root / part / "train/a_1.png", root / part / f"train/{name}.png")
    found = read("folder", root, ("train",))["train"]
    assert set(found.ids) == {"a_1", "b_1", *names}
    tried(
        "images",
        "file names with spaces, quotes, signs and other scripts",
        UNCHANGED,
        len(names),
    )


@pytest.mark.parametrize("name", [b"\xff", b"a\nb"])
def test_a_root_of_such_a_name_is_named(tmp_path, name):
    root = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    Path(root).mkdir()
    with pytest.raises(InputError, match=r"data.root or data.name is .*; give another"):
        Images(root=root)


def test_masks_of_such_names_are_named(tmp_path):
    root = tmp_path / "data"
    write_folder(root)
    (root / "masks/train/a_1.png").unlink()
    (root / "masks/train/a_1").mkdir()
    shutil.copy(root / "masks/train/b_1.png", root / "masks/train/a_1/sky\nroad.png")
    with pytest.raises(InputError, match=r"a_1/'sky\\nroad' is a mask of no concept"):
        Folder(root=str(root)).open("train").labels(0)


def test_groups_of_such_names_are_named(tmp_path, tried):
    write_folder(tmp_path)
    table = tmp_path / "groups.csv"
    table.write_text('id,group\na_1,"x\ny"\nb_1,z\n')
    with pytest.raises(InputError, match=r"line 3 has the group 'x\\ny', with a control character"):
        read("groups", tmp_path, ("train",))
    tried("images", "names of files or groups that are not UTF-8, or of several lines", REFUSED)
