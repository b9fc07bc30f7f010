"""The faces are those of their seed, and the masks are those of the faces."""

import numpy as np
import pytest
import torch

from cavalcade.data.contents import Contents
from cavalcade.data.face_canvas import NOTHING, Canvas, Pose, ellipse
from cavalcade.data.face_parts import EYES, HAIR, MOUTH, NOSE, SKIN, THING
from cavalcade.data.faces import FACE_CONCEPTS, Faces, portrait
from cavalcade.errors import InputError


def opened(split="train", count=3, **settings):
    return Faces(num_images={split: count}, size=48, **settings).open(split)


@pytest.fixture(scope="module")
def sample():
    """Sixty faces at the default size, and the masks of each."""
    dataset = Faces(num_images={"train": 60}).open("train")
    return [dataset[i] for i in range(len(dataset))]


def box(mask):
    """Left, top, right and bottom of a mask."""
    y, x = torch.nonzero(mask, as_tuple=True)
    return x.min(), y.min(), x.max(), y.max()


def test_same_seed_draws_the_same():
    one, two = opened(seed=5), opened(seed=5)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.parts, two.parts)
    assert Contents(one).fingerprint() == Contents(two).fingerprint()


def test_a_face_does_not_depend_on_how_many_are_drawn():
    few, many = opened(count=2), opened(count=4)
    assert torch.equal(few.images, many.images[:2])
    assert torch.equal(few.parts, many.parts[:2])
    assert few.ids == many.ids[:2]


def test_faces_seeds_and_splits_differ():
    images = [*opened().images, *opened(seed=1).images, *opened("val").images]
    assert len({image.numpy().tobytes() for image in images}) == 9


def test_fingerprint_is_that_of_the_content():
    dataset = opened()
    prints = {Contents(d).fingerprint() for d in (dataset, opened(seed=1), opened("val"))}
    dataset.parts[2, 5, 7] = 0 if dataset.parts[2, 5, 7] else 1
    prints.add(Contents(dataset).fingerprint())
    dataset.images[0, 1, 2, 3] ^= 1
    prints.add(Contents(dataset).fingerprint())
    assert len(prints) == 5


def test_samples_are_labelled_everywhere_and_subjects_of_their_own():
    dataset = opened("test", 3)
    first = dataset[0]
    assert len(dataset) == 3
    assert dataset.ids == dataset.groups == ("test-0000", "test-0001", "test-0002")
    assert (first.id, first.group) == ("test-0000", "test-0000")
    assert first.image.shape == (3, 48, 48)
    assert first.masks.shape == first.labelled.shape == (len(FACE_CONCEPTS), 48, 48)
    assert first.labelled.all()
    assert first.labelled.untyped_storage().nbytes() == 1


def test_masks_are_disjoint_and_leave_a_background(sample):
    cover = torch.stack([each.masks.sum(0) for each in sample])
    assert cover.max() == 1
    assert 0.2 < (cover == 0).float().mean() < 0.8


def test_masks_are_the_index_map():
    dataset = opened()
    masks = dataset[1].masks
    index = torch.where(masks.any(0), masks.int().argmax(0), NOTHING)
    assert torch.equal(index, dataset.parts[1].long())


@pytest.mark.parametrize(
    ("concept", "least", "most"),
    [
        ("skin", 0.08, 0.3),
        ("hair", 0.05, 0.25),
        ("eyes", 0.005, 0.02),
        ("brows", 0.002, 0.015),
        ("nose", 0.004, 0.02),
        ("mouth", 0.004, 0.02),
        ("clothes", 0.06, 0.25),
    ],
)
def test_each_concept_is_seen_in_most_images(sample, concept, least, most):
    shares = torch.stack([s.masks[FACE_CONCEPTS.index(concept)].float().mean() for s in sample])
    assert (shares > 0).float().mean() >= 0.6
    assert least < shares.mean() < most


def test_features_lie_within_the_head(sample):
    for each in sample:
        left, top, right, bottom = box(each.masks[SKIN] | each.masks[HAIR])
        for part in (EYES, NOSE, MOUTH):
            if each.masks[part].any():
                x0, y0, x1, y1 = box(each.masks[part])
                assert left - 3 <= x0 <= x1 <= right + 3
                assert top - 3 <= y0 <= y1 <= bottom + 3


def test_eyes_are_above_the_mouth_in_most_images(sample):
    """Heads tilt by far less than a right angle."""
    both = [each.masks for each in sample if each.masks[EYES].any()]
    above = [box(masks[EYES])[1] < box(masks[MOUTH])[1] for masks in both]
    assert all(above)


def test_picture_agrees_with_the_parts_to_the_pixel():
    """One flat shape: inside its mask its colour, outside the other, mixed only at the edge."""
    canvas = Canvas(32)
    disc = Pose(np.array([30.0, 36.0]), 20.0, roll=0.4).flat(ellipse(0, 0, 1, 0.6))
    canvas.paint(disc, np.array([200.0, 100.0, 50.0]), NOSE)
    picture = np.asarray(canvas.picture)
    inside = np.asarray(canvas.parts) == NOSE
    assert inside.sum() == pytest.approx(np.pi * 20 * 12, rel=0.1)
    assert (picture[inside] == [200, 100, 50]).all()
    assert (picture[~inside] == 0).all()


def test_shade_changes_no_part_and_no_pixel_of_another_part():
    canvas = Canvas(32)
    square = np.array([[10.0, 10.0], [40.0, 10.0], [40.0, 40.0], [10.0, 40.0]])
    canvas.paint(square, np.full(3, 100.0), SKIN)
    before, parts = np.asarray(canvas.picture).copy(), np.asarray(canvas.parts).copy()
    canvas.shade(square + 15, np.full(3, 250.0), SKIN, 0.5, blur=2)
    changed = (np.asarray(canvas.picture) != before).any(-1)
    assert changed[26:40, 26:40].all()
    assert (parts[changed] == SKIN).all()
    assert np.array_equal(np.asarray(canvas.parts), parts)


@pytest.mark.parametrize("part", range(len(FACE_CONCEPTS)), ids=FACE_CONCEPTS)
def test_mask_edges_are_edges_of_the_picture(sample, part):
    """Colours jump along the outline of a mask more than along the outline moved two pixels."""

    def jump(down, right):
        jumps = []
        for each in sample:
            mask = each.masks[part].roll((down, right), (0, 1))
            step = (each.image[:, :, 2:].float() - each.image[:, :, :-2]).abs().mean(0)
            jumps.append(step[mask[:, 2:] != mask[:, :-2]])
        return torch.cat(jumps).mean()

    moved = [jump(0, -2), jump(0, 2), jump(-2, 0), jump(2, 0)]
    assert jump(0, 0) > 1.05 * max(moved)


def test_hats_and_frames_belong_to_no_concept(monkeypatch):
    """A thing painted over the whole picture leaves no concept anywhere."""
    whole = np.array([[0.0, 0.0], [200.0, 0.0], [200.0, 200.0], [0.0, 200.0]])

    def cover(canvas, *_):
        canvas.paint(whole, np.full(3, 90.0), THING)

    monkeypatch.setattr("cavalcade.data.faces.FRONT", (cover,))
    picture, parts = portrait(np.random.default_rng(0), 48)
    assert (parts == NOTHING).all()
    assert picture.std() < 40


def test_faces_vary(sample):
    """Places, sizes and colours of the faces spread out."""
    skins = torch.stack([s.image[:, s.masks[SKIN]].float().mean(1) for s in sample])
    assert skins.mean(1).std() > 30
    noses = torch.stack([torch.stack(box(s.masks[NOSE])) for s in sample]).float()
    assert noses[:, :2].std(0).min() > 5
    walls = torch.stack([s.image[:, ~s.masks.any(0)].float().mean(1) for s in sample])
    assert walls.std(0).min() > 25


def test_turning_the_head_moves_features_across_it_and_narrows_them():
    nose = ellipse(0.3, 0, 0.2, 0.2)
    ahead = Pose(np.zeros(2), 100.0).face(nose)
    turned = Pose(np.zeros(2), 100.0, yaw=0.4).face(nose)
    assert turned[:, 0].mean() > ahead[:, 0].mean() + 10
    assert np.ptp(turned[:, 0]) < 0.9 * np.ptp(ahead[:, 0])
    assert np.ptp(turned[:, 1]) == pytest.approx(np.ptp(ahead[:, 1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 31}, "data.size is 31; give a whole number from 32 up"),
        ({"seed": -1}, "data.seed is -1"),
        ({"num_images": {"train": 0}}, "data.num_images.train is 0; give a whole number from 1"),
        ({"num_images": {"trian": 4}}, "no split 'trian'; closest: train"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Faces(**settings)


def test_a_split_without_a_count_is_named():
    with pytest.raises(InputError, match="num_images has no split 'val'; there are: train"):
        Faces(num_images={"train": 2}).open("val")


def test_defaults():
    faces = Faces()
    assert (faces.name, faces.grid, faces.size) == ("faces", (72, 72), 144)
    assert faces.num_images == {"train": 400, "val": 100, "test": 200}
