"""Parts of the body lie where people have them, whatever the pose, size and view."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cavalcade.data.body_parts import BODY_PARTS, KEYPOINTS, Pose, body_parts, shown_parts
from coco_folder import SHAPES, figure, standing

SHAPE = (150, 100)
FACE = KEYPOINTS[:5]
NOTHING = np.zeros((17, 3))


def painted(polygons, shape=SHAPE):
    picture = Image.new("1", shape[::-1])
    for polygon in polygons:
        ImageDraw.Draw(picture).polygon(polygon, fill=1)
    return np.array(picture)


def person(stature=120, x=50, y=10, shape=SHAPE):
    """The true parts of a standing person, who has no other pixels."""
    return {part: painted(polygons, shape) for part, polygons in figure(stature, x, y).items()}


def outline(parts):
    return np.any(list(parts.values()), axis=0)


def found(keypoints, mask):
    present, unknown = body_parts(keypoints, mask)
    return dict(zip(BODY_PARTS, present, strict=True)), dict(zip(BODY_PARTS, unknown, strict=True))


def jaccard(a, b):
    return (a & b).sum() / (a | b).sum()


def only(keypoints, *names):
    """The same, with all other keypoints not labelled."""
    kept = np.isin(KEYPOINTS, names)
    return np.where(kept[:, None], keypoints, 0.0)


def hidden(keypoints, *names):
    keypoints = keypoints.copy()
    keypoints[np.isin(KEYPOINTS, names), 2] = 1
    return keypoints


@pytest.mark.parametrize("stature", [40, 120])
def test_a_standing_person(stature):
    parts = person(stature)
    present, unknown = found(standing(stature, 50, 10), outline(parts))
    shares = {name: jaccard(present[name], parts[name]) for name in BODY_PARTS}
    # where the torso meets the limbs, both are found
    assert shares["head"] > 0.85
    assert min(shares.values()) > 0.6
    assert not any(each.any() for each in unknown.values())


def test_everything_lies_inside_of_the_person():
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    for keypoints in (standing(120, 50, 10), only(standing(120, 50, 10), *FACE)):
        for maps in body_parts(keypoints, mask):
            assert not (maps & ~mask).any()


def test_nothing_is_both_present_and_unknown():
    keypoints = only(standing(120, 50, 10), *FACE, "left_shoulder", "left_elbow", "left_hip")
    present, unknown = body_parts(keypoints, np.ones(SHAPE, bool))
    assert present.any(axis=(1, 2)).tolist() == [True, True, True, False]
    assert not (present & unknown).any()


@given(turns=st.integers(1, 3))
def test_a_person_may_lie_or_stand_on_the_head(turns):
    """Turned by right angles, the parts turn too; the head needs the shoulders for it."""
    shape = (150, 150)
    mask, keypoints = outline(person(shape=shape)), standing(120, 50, 10)
    turned = keypoints.copy()
    for _ in range(turns):  # counter-clockwise, as rot90 does
        turned[:, :2] = np.stack([turned[:, 1], 149 - turned[:, 0]], axis=1)
    upright, _ = body_parts(keypoints, mask)
    lying, _ = body_parts(turned, np.rot90(mask, turns))
    for a, b in zip(upright, lying, strict=True):
        assert jaccard(np.rot90(a, turns), b) > 0.99


@given(factor=st.sampled_from([2, 3, 5]))
def test_widths_grow_with_the_person(factor):
    small, _ = body_parts(standing(30, 25, 4), np.ones((40, 50), bool))
    large, _ = body_parts(
        standing(30 * factor, 25 * factor, 4 * factor), np.ones((40 * factor, 50 * factor), bool)
    )
    areas = large.sum(axis=(1, 2)) / small.sum(axis=(1, 2)) / factor**2
    assert np.allclose(areas, 1, atol=0.08)


def test_the_mirror_image_has_the_mirrored_parts():
    mask, keypoints = outline(person()), standing(120, 50, 10)
    mirrored = keypoints.copy()
    mirrored[:, 0] = 99 - mirrored[:, 0]
    for a, b in zip(body_parts(keypoints, mask), body_parts(mirrored, mask[:, ::-1]), strict=True):
        assert np.array_equal(a[:, :, ::-1], b)


@pytest.mark.parametrize(
    "names",
    [
        FACE,
        ("nose",),
        ("left_eye", "right_eye", "nose"),
        ("left_ear", "right_ear"),
        (*FACE, "left_shoulder", "right_shoulder"),
        KEYPOINTS,
    ],
)
def test_the_head_reaches_to_its_top_and_ends_at_the_neck(names):
    parts = person()
    present, unknown = found(only(standing(120, 50, 10), *names), outline(parts))
    assert (parts["head"] & ~present["head"]).sum() < 0.1 * parts["head"].sum()
    assert jaccard(present["head"], parts["head"]) > 0.7
    assert not unknown["head"].any()


def test_the_head_in_profile_reaches_from_face_to_nape():
    """The ear is in its middle; the far side of the face is not labelled."""
    keypoints = only(standing(120, 50, 10), "nose", "left_eye", "left_ear")
    keypoints[0, :2], keypoints[1, :2], keypoints[3, :2] = (57.8, 20.2), (56, 17.5), (50, 18)
    rows, columns = np.mgrid[:150, :100]
    skull = ((columns - 50.5) / 7) ** 2 + ((rows - 18) / 8.2) ** 2 <= 1
    present, _ = found(keypoints, skull | (rows > 27))
    assert jaccard(present["head"], skull) > 0.9


def test_a_turned_torso_keeps_a_width():
    """Both shoulders and both hips coincide."""
    keypoints = standing(120, 50, 10)
    keypoints[[5, 6, 11, 12], 0] = 50
    present, _ = found(keypoints, np.ones(SHAPE, bool))
    widths = present["torso"][35:65].sum(axis=1)
    assert (widths > 0.09 * 120).all()
    assert (widths < 0.14 * 120).all()


def test_a_torso_is_the_widened_hull_of_its_corners_in_any_order():
    keypoints = standing(120, 50, 10)
    crossed = keypoints.copy()
    crossed[[11, 12]] = keypoints[[12, 11]]  # hips the other way round: seen while turning
    everywhere = np.ones(SHAPE, bool)
    straight, _ = found(keypoints, everywhere)
    twisted, _ = found(crossed, everywhere)
    # the distance from each shoulder to its hip grows, and the margin with it
    assert not (straight["torso"] & ~twisted["torso"]).any()
    assert jaccard(straight["torso"], twisted["torso"]) > 0.9
    assert straight["torso"][45, 50]


def test_a_torso_is_whole_where_it_is_wide_beside_the_stature():
    """Arms and legs point at the camera, so that the margin is narrow."""
    keypoints = np.zeros((17, 3))
    left, right = ([5, 7, 9], [11, 13, 15]), ([6, 8, 10], [12, 14, 16])
    for x, (arm, leg) in ((80, left), (20, right)):
        keypoints[arm], keypoints[leg] = (x, 20, 2), (x, 80, 2)
    present, _ = found(keypoints, np.ones(SHAPE, bool))
    assert present["torso"][20:80, 20:80].all()
    assert not present["torso"][:, :10].any()


def test_a_head_that_is_tilted_is_as_large():
    upright, tilted = standing(120, 50, 10), standing(120, 50, 10)
    offset = tilted[:, :2] - 60
    tilted[:, :2] = 60 + offset @ np.array([[1, 1], [-1, 1]]) / 2**0.5
    heads = [found(k, np.ones(SHAPE, bool))[0]["head"].sum() for k in (upright, tilted)]
    assert heads[0] == pytest.approx(heads[1], rel=0.03)


def test_a_part_that_is_labelled_in_part_is_unknown_elsewhere():
    mask = outline(person())
    keypoints = standing(120, 50, 10, {"right_wrist": 0})
    present, unknown = found(keypoints, mask)
    assert present["arms"].any()
    assert np.array_equal(unknown["arms"], mask & ~present["arms"])
    assert not unknown["legs"].any()
    whole, _ = found(standing(120, 50, 10), mask)
    assert not (present["arms"] & ~whole["arms"]).any()
    assert present["arms"].sum() < whole["arms"].sum()


def test_a_hidden_limb_is_unknown_along_its_line_only():
    mask = outline(person())
    keypoints = hidden(standing(120, 50, 10), "left_elbow", "left_wrist")
    present, unknown = found(keypoints, mask)
    whole, _ = found(standing(120, 50, 10), mask)
    assert unknown["arms"].any()
    assert np.array_equal(present["arms"] | unknown["arms"], whole["arms"])


def test_a_torso_behind_something_is_where_the_person_still_is():
    mask = outline(person())
    corners = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    keypoints = standing(120, 50, 10)
    behind, unknown = found(hidden(keypoints, *corners), mask)
    assert np.array_equal(behind["torso"], found(keypoints, mask)[0]["torso"])
    assert not unknown["torso"].any()


def test_without_keypoints_every_part_is_unknown():
    mask = outline(person())
    present, unknown = body_parts(NOTHING, mask)
    assert not present.any()
    assert np.array_equal(unknown, np.broadcast_to(mask, unknown.shape))


def test_a_person_without_pixels_has_no_parts():
    for maps in body_parts(standing(120, 50, 10), np.zeros(SHAPE, bool)):
        assert maps.shape == (4, *SHAPE)
        assert not maps.any()


def test_keypoints_that_coincide_are_no_trouble():
    keypoints = np.tile([50.0, 60.0, 2.0], (17, 1))
    present, unknown = body_parts(keypoints, np.ones(SHAPE, bool))
    assert present.any(axis=(1, 2)).all()
    assert not unknown.any()


@pytest.mark.parametrize(
    ("keypoints", "parts"),
    [
        (standing(120, 50, 10), list(BODY_PARTS)),
        (NOTHING, []),
        (only(standing(120, 50, 10), "right_ear"), ["head"]),
        (only(standing(120, 50, 10), "left_shoulder", "right_shoulder"), []),
        (only(standing(120, 50, 10), "left_shoulder", "right_hip"), ["torso"]),
        (only(standing(120, 50, 10), "left_elbow", "left_wrist"), ["arms"]),
        (hidden(only(standing(120, 50, 10), "left_hip", "left_knee"), "left_knee"), ["legs"]),
        (hidden(only(standing(120, 50, 10), "left_hip", "left_knee"), "left_hip", "left_knee"), []),
    ],
)
def test_shown_parts_are_those_that_are_drawn(keypoints, parts):
    flags = keypoints[:, 2] > 0
    keypoints = np.where(flags[:, None], keypoints, 0.0)
    assert shown_parts(keypoints) == parts
    present, _ = found(keypoints, np.ones(SHAPE, bool))
    assert [name for name in BODY_PARTS if present[name].any()] == parts


@pytest.mark.parametrize(
    "names", [KEYPOINTS, KEYPOINTS[5:], KEYPOINTS[:7], FACE, ("left_hip", "left_knee")]
)
def test_the_stature_is_told_by_whatever_is_labelled(names):
    pose = Pose(only(standing(120, 50, 10), *names), area=1.0)
    assert pose.stature == pytest.approx(120, rel=0.15)


def test_limbs_that_point_at_the_camera_do_not_make_a_person_smaller():
    keypoints = standing(120, 50, 10)
    keypoints[13:15, 1], keypoints[15:, 1] = keypoints[11:13, 1] + 6, keypoints[11:13, 1] + 30
    assert Pose(keypoints, area=1.0).stature == pytest.approx(120, rel=0.15)


def test_the_stature_rests_on_the_area_where_one_keypoint_is_labelled():
    area = float(outline(person()).sum())
    nose = only(standing(120, 50, 10), "nose")
    assert Pose(nose, area).stature == pytest.approx(120, rel=0.25)
    assert set(SHAPES) == set(BODY_PARTS)
