"""What says what a data set holds, damaged and changed in every way: JSON, CSV and lists."""

import json
import os
import shutil
from random import Random

import pytest
from PIL import Image

from cavalcade.data import Ade20k, Cityscapes, Folder, OxfordPets, PascalVoc
from cavalcade.data.contents import read_splits
from cavalcade.errors import InputError
from fuzzing import changes, damages, is_refused, refusal
from hardening import LEFT_OUT, READ_OR_REFUSED, REFUSED
from index_map_folders import write_ade20k, write_cityscapes, write_oxford_pets, write_voc
from listed_folders import SPLITS, drawn, read
from tiny import tiny_backbone, tiny_data

assert drawn
LISTS = [
    ("folder", "classes.json"),
    ("groups", "groups.csv"),
    ("coco", "annotations/instances_val2017.json"),
    ("coco body parts", "annotations/person_keypoints_val2017.json"),
    ("broden", "index.csv"),
    ("broden", "label.csv"),
    ("celeba", "CelebA-HQ-to-CelebA-mapping.txt"),
    ("celeba", "list_eval_partition.txt"),
    ("celeba", "identity_CelebA.txt"),
    ("ade20k", "objectInfo150.txt"),
    ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"),
    ("oxford pets", "annotations/test.txt"),
]
JSON = [entry for entry in LISTS if entry[1].endswith(".json")]


@pytest.fixture
def listed(drawn, request):
    """A folder and a list in it, put back after the test."""
    kind, name = request.param
    path = drawn[kind] / name
    content = path.read_bytes()
    yield kind, drawn[kind], path
    path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
    path.write_bytes(content)


def ids(entry):
    return f"{entry[0]}-{entry[1].rpartition('/')[2]}"


DAMAGED = "a list: bytes damaged, a value of JSON or a field changed"


@pytest.mark.slow
@pytest.mark.parametrize("listed", LISTS, indirect=True, ids=ids)
def test_damaged_bytes_of_a_list(listed, tried):
    kind, root, path = listed
    refused = 0
    for content in damages(path.read_bytes(), 60):
        path.write_bytes(content)
        refused += is_refused(lambda: read(kind, root), path, root)
    assert refused
    tried("images", DAMAGED, READ_OR_REFUSED, 60)


@pytest.mark.slow
@pytest.mark.parametrize("listed", JSON, indirect=True, ids=ids)
def test_changed_json(listed, tried):
    kind, root, path = listed
    refused = 0
    for content in changes(json.loads(path.read_text()), 250):
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        refused += is_refused(lambda: read(kind, root), path, root)
    assert refused
    tried("images", DAMAGED, READ_OR_REFUSED, 250)


@pytest.mark.slow
@pytest.mark.parametrize(
    "listed", [entry for entry in LISTS if entry not in JSON], indirect=True, ids=ids
)
def test_changed_fields_of_a_list(listed, tried):
    """One field, or row, of a table is another."""
    kind, root, path = listed
    rows, chosen, refused = path.read_text().splitlines(), Random(0), 0
    mark = "," if path.suffix == ".csv" else "\t" if kind == "ade20k" else " "
    odd = ["", "0", "-1", "9" * 20, "9" * 5000, "65536", "1.5", "nan", "é", "\x00", "\u2028", '"']
    odd += ["../../../a", "/etc/passwd", "a b", "x" * 200_000, "²", "٣", "\x1b[2J", "a;b", "train"]
    for k in range(80):
        row = chosen.randrange(min(len(rows), 8))
        fields = rows[row].split(mark)
        fields[chosen.randrange(len(fields))] = odd[k % len(odd)]
        path.write_text("\n".join([*rows[:row], mark.join(fields), *rows[row + 1 :]]) + "\n")
        refused += is_refused(lambda: read(kind, root), path, root)
    assert refused
    tried("images", DAMAGED, READ_OR_REFUSED, 80)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("listed", LISTS, indirect=True, ids=ids)
def test_another_thing_in_place_of_a_list(listed, tried):
    kind, root, path = listed
    content = path.read_bytes()
    others = [
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to(path.with_name("nowhere")),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"\xff\xfe\x00"),
        lambda: path.write_bytes(content[:-20] + b"\xff"),
    ]
    if path.name != "identity_CelebA.txt":  # which may be missing
        others.append(lambda: None)
    for put in others:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        put()
        assert path.name in (refusal(lambda: read(kind, root), path, root) or "")
    what = "a list that is a folder, a pipe, a dead link, binary or missing"
    tried("images", what, REFUSED, len(others))


def test_files_in_place_of_the_folders_of_published_sets(tmp_path, tried):
    """torchvision would look for archives to unpack."""
    count = 0
    for write, make, folders in (
        (write_cityscapes, Cityscapes, ("leftImg8bit/val", "gtFine/val")),
        (write_ade20k, Ade20k, ("images/validation", "annotations/validation")),
        (write_voc, PascalVoc, ("VOCdevkit/VOC2012/JPEGImages",)),
        (write_oxford_pets, OxfordPets, ("images", "annotations/trimaps")),
    ):
        for folder in folders:
            root = tmp_path / str(count)
            root.mkdir()
            write(root)
            shutil.rmtree(root / folder)
            (root / folder).write_text("a file")
            data = make(root=str(root))
            assert is_refused(lambda data=data: read_splits(data, ["test"]), root / folder)
            count += 1
    tried("images", "a file in place of a folder of a data set", REFUSED, times=count)


@pytest.mark.parametrize("fault", ["mask cut", "image cut", "mask gone", "channels", "index"])
def test_a_real_data_set_with_one_bad_file(camvid, tmp_path, tried, fault):
    """As the data module reads it, before anything starts."""
    root = tmp_path / "camvid"
    for split in SPLITS:
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True)
            for path in sorted((camvid / part / split).iterdir())[:6]:
                shutil.copy(path, root / part / split)
    shutil.copy(camvid / "classes.json", root)
    image, mask = (sorted((root / part / "val").iterdir())[3] for part in ("images", "masks"))
    for path in (image, mask):
        path.chmod(0o644)
    bad = image if fault == "image cut" else mask
    if fault == "mask gone":
        bad.unlink()
    elif "cut" in fault:
        bad.write_bytes(bad.read_bytes()[:-2000])
    elif fault == "index":
        with Image.open(mask) as picture:
            values = picture.copy()
        values.putpixel((5, 7), 200)
        values.save(mask)
    else:
        with Image.open(mask) as picture:
            picture.convert("RGB").save(mask)
    backbone = tiny_backbone()

    def module(on_error):
        data = Folder(root=str(root), on_error=on_error)
        return tiny_data(backbone, data)

    with pytest.raises(InputError, match=bad.name.replace(".", r"\.")):
        module("stop")
    assert module("skip").left_out[["split", "id"]].values.tolist() == [["val", image.stem]]
    tried("images", "CamVid with one bad file", f"{REFUSED}; with data.on_error=skip: {LEFT_OUT}")
