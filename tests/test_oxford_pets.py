"""The Oxford-IIIT pets as they were published."""

import re

import numpy as np
import pytest

from cavalcade.data.oxford_pets import OxfordPets
from cavalcade.errors import InputError
from index_map_folders import DISC, OUTLINE, scene, write_oxford_pets


@pytest.fixture
def root(tmp_path):
    write_oxford_pets(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("labels", "concepts"),
    [
        ("species", {"cat": {"Abyssinian", "Bengal"}, "dog": {"beagle", "pug"}}),
        (
            "breeds",
            {
                "abyssinian": {"Abyssinian"},
                "beagle": {"beagle"},
                "bengal": {"Bengal"},
                "pug": {"pug"},
            },
        ),
    ],
)
def test_the_pet_is_what_the_list_says_and_its_outline_is_void(root, labels, concepts):
    dataset = OxfordPets(root=str(root), labels=labels).open("train")
    assert dataset.concepts == tuple(concepts)
    for sample in map(dataset.__getitem__, range(len(dataset))):
        breed, seed = sample.id.rsplit("_", 1)
        _, parts = scene(int(seed))
        for mask, breeds in zip(sample.masks, concepts.values(), strict=True):
            assert np.array_equal(mask, (parts == DISC) & (breed in breeds))
        for labelled in sample.labelled:
            assert np.array_equal(labelled, parts != OUTLINE)


def test_a_pet_that_is_not_chosen_is_background(root):
    dataset = OxfordPets(root=str(root), concepts=["dog"]).open("test")
    shown = {id.rsplit("_", 1)[0]: dataset.labels(i) for i, id in enumerate(dataset.ids)}
    assert {breed: bool(labels.masks.any()) for breed, labels in shown.items()} == {
        "Abyssinian": False,
        "Bengal": False,
        "beagle": True,
        "pug": True,
    }
    assert all(labels.labelled.float().mean() > 0.9 for labels in shown.values())


def test_breeds_are_the_same_in_all_splits(root):
    """Even where a split shows one of them only."""
    path = root / "annotations/test.txt"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    dataset = OxfordPets(root=str(root), labels="breeds").open("test")
    assert (len(dataset), len(dataset.concepts)) == (1, 4)


@pytest.mark.parametrize("row", ["pug_1 26 2", "pug_1 26 3 1", "pug_1 x 2 1", "pug_1 1_0 2 1"])
def test_a_row_that_is_no_pet_is_named(root, row):
    (root / "annotations/test.txt").write_text(f"# Image\n{row}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(f"test.txt has the row {row!r}, which is not")):
        OxfordPets(root=str(root)).open("test")


@pytest.mark.parametrize("name", ["test", "trainval"])
def test_a_pet_that_is_named_twice_is_refused(root, name):
    """One of two lines would decide whether it is a cat."""
    path = root / f"annotations/{name}.txt"
    row = (root / "annotations/test.txt").read_text(encoding="utf-8").splitlines()[-1]
    image = row.split()[0]
    path.write_text(f"{path.read_text(encoding='utf-8')}{image} 1 1 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"names '{image}' for a second time"):
        _ = OxfordPets(root=str(root)).open("test").shown


def test_other_labels_are_refused(root):
    with pytest.raises(InputError, match=r"data.labels is 'pets'; give one of species, breeds"):
        OxfordPets(root=str(root), labels="pets")
