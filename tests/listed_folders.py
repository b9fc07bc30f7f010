"""Folders of data sets of each kind whose contents are said by lists, for tests to damage."""

import json

import pytest
from PIL import Image

from broden_folder import write_broden
from cavalcade.data import Ade20k, Broden, CelebAMaskHQ, Coco, Folder, OxfordPets, PascalVoc
from cavalcade.data.contents import read_splits
from celeba_folder import write_celeba
from coco_folder import write_coco
from index_map_folders import write_ade20k, write_oxford_pets, write_voc

SPLITS = ("train", "val", "test")


def write_folder(root):
    for part, value in (("images", 90), ("masks", 1)):
        for split in SPLITS:
            for name in ("a_1", "b_1"):
                path = root / part / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (6, 4), value).save(path)
    content = {"names": ["road", "sky", "tree"], "void": [255, 7], "background": 9}
    (root / "classes.json").write_text(json.dumps(content))
    (root / "groups.csv").write_text("id,group\na_1,one\nb_1,two\n")


KINDS = {
    "folder": (write_folder, Folder, {}),
    "groups": (write_folder, Folder, {"groups_csv": "groups.csv"}),
    "coco": (lambda root: write_coco(root, {"train": 4, "val": 2}, (24, 32)), Coco, {}),
    "coco body parts": (
        lambda root: write_coco(root, {"train": 4, "val": 2}, (48, 48)),
        Coco,
        {"labels": "body_parts", "containing": True},
    ),
    "broden": (lambda root: write_broden(root, {"train": 6, "val": 5}, size=24), Broden, {}),
    "celeba": (
        lambda root: write_celeba(root, {"train": 2, "val": 1, "test": 1}, size=32),
        CelebAMaskHQ,
        {},
    ),
    "ade20k": (write_ade20k, Ade20k, {}),
    "voc": (write_voc, PascalVoc, {}),
    "oxford pets": (write_oxford_pets, OxfordPets, {}),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One folder of each kind, whose lists the tests put back."""
    folders = {}
    for kind, (write, _, _) in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp("lists") / "data"
        folders[kind].mkdir()
        write(folders[kind])
    return folders


def read(kind, root, splits=("test",)):
    """All samples of some splits, as a visit reads them first: they say what can be."""
    _, make, options = KINDS[kind]
    if "groups_csv" in options:
        options = {"groups_csv": str(root / "groups.csv")}
    found = read_splits(make(root=str(root), **options), splits)
    for own in found.values():
        assert len(own.ids) == len(set(own.ids)) > 0
        assert len(own.concepts) == len(set(own.concepts)) > 0
        assert own.present.shape == own.labelled.shape == (len(own.ids), len(own.concepts))
        assert (own.present >= 0).all()
        assert (own.present <= own.labelled).all()
        assert (own.labelled <= own.shapes.prod(1)[:, None]).all()
        json.dumps([own.ids, own.groups, own.concepts], ensure_ascii=False).encode()
    return found
