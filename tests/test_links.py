"""What lies outside of the folder of a data set is not read, whatever is in the folder."""

import os
import re
import shutil

import pytest
from PIL import Image

from broden_folder import write_broden
from cavalcade.data import (
    Ade20k,
    Broden,
    CelebAMaskHQ,
    Cityscapes,
    Coco,
    Folder,
    Images,
    OxfordPets,
    PascalVoc,
)
from cavalcade.data.contents import read_splits
from cavalcade.data.links import LeadsOutError, Links
from cavalcade.data.pictures import IMAGE_SUFFIXES
from cavalcade.errors import InputError
from celeba_folder import write_celeba
from coco_folder import write_coco
from fuzzing import refusal
from hardening import AS_IT_WAS, REFUSED
from index_map_folders import write_ade20k, write_cityscapes, write_oxford_pets, write_voc

SENTENCE = "leads out of data.root .*; if that is wanted, set data.follow_links=true"
LINK = "a link out of data.root"
OUTSIDE = "refused, naming the option; with the option: read"


def folder_of_ones_own(root, masks=False):
    for split in ("train", "val", "test"):
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True)
            for name in ("a", "b"):
                picture = Image.new("L", (6, 4), 1)
                if part == "masks" and masks:
                    (root / part / split / name).mkdir()
                    picture.save(root / part / split / name / "sky.png")
                else:
                    picture.save(root / part / split / f"{name}.png")
    (root / "classes.json").write_text('{"names": ["road", "sky"]}')
    return root


def images_alone(root):
    for name in ("a", "deep/b", "deep/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), 1).save(root / f"{name}.png")
    return root


KINDS = {
    "folder": (folder_of_ones_own, Folder),
    "folder of masks": (lambda root: folder_of_ones_own(root, masks=True), Folder),
    "images": (images_alone, Images),
    "coco": (write_coco, Coco),
    "broden": (write_broden, Broden),
    "celeba": (write_celeba, CelebAMaskHQ),
    "ade20k": (write_ade20k, Ade20k),
    "voc": (write_voc, PascalVoc),
    "cityscapes": (write_cityscapes, Cityscapes),
    "oxford_pets": (write_oxford_pets, OxfordPets),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One folder of each kind, to be copied."""
    folders = {}
    for name, (write, _) in KINDS.items():
        folders[name] = tmp_path_factory.mktemp("drawn") / "root"
        folders[name].mkdir()
        write(folders[name])
    return folders


def read(kind, root, **options):
    splits = ("train", "test") if kind == "images" else ("train", "val", "test")
    return read_splits(KINDS[kind][1](root=str(root), **options), splits)


def prints(contents):
    return {split: own.fingerprint() for split, own in contents.items()}


def used(root):
    """All lists, and a picture of each folder."""
    every = sorted(path for path in root.rglob("*") if path.is_file())
    lists = (".json", ".txt", ".csv")
    return list({path if path.suffix in lists else path.parent: path for path in every}.values())


def move_out(path, outside):
    """The file lies outside, and a link to it in its place."""
    outside.mkdir(parents=True, exist_ok=True)
    shutil.move(path, outside / "private")
    path.symlink_to(outside / "private")


def move_back(path, outside):
    path.unlink()
    shutil.move(outside / "private", path)


SLOW = ("celeba", "cityscapes", "ade20k", "voc", "oxford_pets")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] if k in SLOW else []) for k in KINDS]
)
def test_links_that_lead_out_are_refused(drawn, tmp_path, tried, kind):
    """A file of every folder in turn; it is refused if and only if it would be read."""
    root, outside = shutil.copytree(drawn[kind], tmp_path / "root"), tmp_path / "outside"
    whole, links = prints(read(kind, root)), 0
    for path in used(root):
        move_out(path, outside)
        said = [
            refusal(lambda mode=mode: read(kind, root, on_error=mode), path)
            for mode in ("stop", "skip")
        ]
        if None in said:  # nothing reads it
            (outside / "private").write_bytes(b"")
            for mode in ("stop", "skip"):
                assert prints(read(kind, root, on_error=mode)) == whole
        else:
            assert all(re.search(SENTENCE, each) for each in said), said
            assert prints(read(kind, root, follow_links=True)) == whole
            links += 1
        move_back(path, outside)
    assert links >= {"folder": 7, "images": 2}.get(kind, 3)
    tried("images", LINK, OUTSIDE, links)


def read_first(opened):
    for dataset in opened.values():
        dataset.labels(0)
        dataset.image(0)


ONE = {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_that_are_read_are_looked_at(drawn, tmp_path, tried, monkeypatch, kind):
    """Of 118,000 images on the disk of another machine it takes long to look at each."""
    root = shutil.copytree(drawn[kind], tmp_path / "root")
    looked, check = [], Links.check
    monkeypatch.setattr(Links, "check", lambda own, path: looked.append(path) or check(own, path))
    splits = ("train", "test") if kind == "images" else tuple(ONE)
    opened = {split: KINDS[kind][1](root=str(root), limit=ONE).split(split) for split in splits}
    assert not [path for path in looked if path.suffix in IMAGE_SUFFIXES]
    for dataset in opened.values():
        assert len(dataset) == 1
    read_first(opened)
    unread = [path for path in used(root) if path.suffix in IMAGE_SUFFIXES and path not in looked]
    for path in unread:
        move_out(path, tmp_path / "outside" / path.relative_to(root))
    read(kind, root, limit=ONE)
    if unread:
        tried("images", "a link outside of data.root that data.limit leaves out", "not read")
    pictures = {path for path in looked if path.is_file() and path.suffix in IMAGE_SUFFIXES}
    assert len(pictures) >= len(opened)
    for path in pictures:
        move_out(path, tmp_path / "outside")  # what was no link when the files were listed
        with pytest.raises(LeadsOutError, match=f"{path} {SENTENCE}"):
            read_first(opened)
        move_back(path, tmp_path / "outside")


@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_lead_out_are_refused(drawn, tmp_path, tried, kind):
    root, links = shutil.copytree(drawn[kind], tmp_path / "root"), 0
    whole = prints(read(kind, root))
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        shutil.move(folder, tmp_path / "outside")
        folder.symlink_to(tmp_path / "outside")
        with pytest.raises(InputError, match=SENTENCE):
            read(kind, root)
        assert prints(read(kind, root, follow_links=True)) == whole
        folder.unlink()
        shutil.move(tmp_path / "outside", folder)
        links += 1
    assert links
    tried("images", LINK, OUTSIDE, links)


@pytest.mark.parametrize("kind", KINDS)
def test_links_within_and_to_the_whole_are_read(drawn, tmp_path, tried, kind):
    root = shutil.copytree(drawn[kind], tmp_path / "root")
    whole = prints(read(kind, root))
    (root / ".store").mkdir()
    for number, path in enumerate(used(root)):
        shutil.move(path, root / ".store" / str(number))
        path.symlink_to(os.path.relpath(root / ".store" / str(number), path.parent))
    (tmp_path / "linked").symlink_to(root)
    for home in (root, tmp_path / "linked"):
        assert prints(read(kind, home)) == whole
    tried("images", "links within data.root, and a link to it", AS_IT_WAS, times=2)


@pytest.mark.parametrize("follow", [False, True])
def test_a_link_to_a_folder_above_is_named(tmp_path, tried, follow):
    """Two of them would have as many paths as there are ways between them."""
    root = images_alone(tmp_path / "root")
    (root / "deep/again").symlink_to("..")
    (root / "deep/other").symlink_to("..")
    with pytest.raises(InputError, match="deep/again is a link to a folder that it lies in; rem"):
        read("images", root, follow_links=follow)
    tried("images", "a loop of links", REFUSED)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("target", ["a.png", "nowhere.png"])
def test_a_link_to_itself_or_to_nothing_is_named(tmp_path, tried, follow, target):
    root = folder_of_ones_own(tmp_path / "root")
    for part in ("images", "masks"):
        path = root / part / "train/a.png"
        path.rename(tmp_path / "kept")
        path.symlink_to(target)
        with pytest.raises(InputError, match=f"{part}/train/a.png"):
            read("folder", root, follow_links=follow)
        path.unlink()
        (tmp_path / "kept").rename(path)
    tried("images", "a loop of links", REFUSED, times=2)


def test_files_that_the_user_names_may_lie_anywhere(tmp_path, tried):
    root = folder_of_ones_own(tmp_path / "root")
    table = tmp_path / "groups.csv"
    table.write_text("id,group\na,one\nb,one\n")
    (tmp_path / "linked.csv").symlink_to(table)
    found = read("folder", root, groups_csv=str(tmp_path / "linked.csv"))
    assert found["train"].groups == ("one", "one")
    tried("images", "a groups_csv out of data.root, which the user names", AS_IT_WAS)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_follow_links_is_a_switch(tmp_path, value):
    data = Images(root=str(tmp_path))
    data.follow_links = value
    with pytest.raises(InputError, match=r"data.follow_links is .*; give true or false"):
        data.__post_init__()
