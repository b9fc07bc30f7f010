"""What a network sees, and where: against timm's own transform, and by markers in pictures."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import create_transform, resolve_model_data_config

from cavalcade.backbones import Preprocessing, timm_backbone
from cavalcade.data.geometry import Frame, area_average
from cavalcade.errors import InputError

MODES = ["squash", "center", "border", "corner", "letterbox"]
SIZE = (48, 64)


def plain(crop_mode="squash", crop_pct=1.0, size=SIZE):
    """Values stay between 0 and 1, so that the input is itself a picture."""
    return Preprocessing(
        size=size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop_mode=crop_mode,
        crop_pct=crop_pct,
        interpolation="bilinear",
    )


def marked(height, width):
    """A picture with a white box a little off its middle, and the box as a mask."""
    box = torch.zeros(1, height, width, dtype=torch.bool)
    box[:, height * 4 // 10 : height * 5 // 10, width * 4 // 10 : width * 6 // 10] = True
    return box.expand(3, -1, -1).to(torch.uint8) * 255, box


def marker(preprocessing, image):
    """What the network sees of the box, whatever the padding around the image, and where."""
    seen, frame = preprocessing(image)
    return seen - preprocessing(torch.zeros_like(image))[0], frame


def centre_of_mass(picture):
    """Row and column, in pixels; the centre of the first pixel is 0.5."""
    rows, columns = (torch.arange(n) + 0.5 for n in picture.shape)
    weight = picture.sum()
    return (
        float((picture.sum(dim=1) * rows).sum() / weight),
        float((picture.sum(dim=0) * columns).sum() / weight),
    )


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "inception_v3"])
def test_center_is_what_timm_evaluates_with(name):
    backbone = timm_backbone(name, weights="random", crop_mode="center")
    timms = create_transform(**resolve_model_data_config(backbone.model))
    china = load_sample_image("china.jpg")
    level = 1 / 255 / min(backbone.preprocessing.std)
    for picture in (china, china[:, 200:400], china[:400, :400], china[100:181, 100:297]):
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)
        expected = timms(Image.fromarray(np.ascontiguousarray(picture)))
        seen, _ = backbone.preprocessing(image)
        # Pillow and torch round differently, in each of two passes
        assert (seen - expected).abs().max() < 2.01 * level
        assert (seen - expected).abs().mean() < 0.02 * level


@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(90, 150), (150, 90), (100, 100)])
@pytest.mark.parametrize("crop_mode", MODES)
def test_a_marker_lies_where_the_frame_says(crop_mode, shape, crop_pct):
    image, box = marked(*shape)
    seen, frame = marker(plain(crop_mode, crop_pct), image)
    at = [c / n for c, n in zip(centre_of_mass(box[0].float()), shape, strict=True)]
    expected = (
        (at[0] - frame.top) / (frame.bottom - frame.top) * SIZE[0],
        (at[1] - frame.left) / (frame.right - frame.left) * SIZE[1],
    )
    assert centre_of_mass(seen[0]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(90, 150), (150, 90)])
@pytest.mark.parametrize("crop_mode", MODES)
def test_targets_lie_under_what_the_network_sees(crop_mode, shape, crop_pct):
    image, box = marked(*shape)
    seen, frame = marker(plain(crop_mode, crop_pct), image)
    target = area_average(box, frame, SIZE)
    assert centre_of_mass(target[0]) == pytest.approx(centre_of_mass(seen[0]), abs=0.05)
    assert target.sum() == pytest.approx(float(seen[0].sum()), rel=0.02)
    assert (target[0] - seen[0]).abs().sum() < 0.15 * target.sum()


@pytest.mark.parametrize(
    ("crop_mode", "crop_pct", "frame"),
    [
        ("squash", 1.0, Frame(0.0, 0.0, 1.0, 1.0)),
        ("squash", 0.5, Frame(0.25, 0.25, 0.75, 0.75)),
        ("center", 1.0, Frame(0.0, 0.25, 1.0, 0.75)),
        ("center", 0.5, Frame(0.25, 0.375, 0.75, 0.625)),
        ("border", 1.0, Frame(-0.5, 0.0, 1.5, 1.0)),
        ("border", 0.5, Frame(0.0, 0.25, 1.0, 0.75)),
        ("corner", 1.0, Frame(0.0, 0.0, 2.0, 1.0)),
        ("corner", 0.5, Frame(0.0, 0.0, 1.0, 0.5)),
        ("letterbox", 1.0, Frame(-0.5, 0.0, 1.5, 1.0)),
        ("letterbox", 0.5, Frame(0.0, 0.25, 1.0, 0.75)),
    ],
)
def test_frames_of_a_picture_twice_as_wide_as_high(crop_mode, crop_pct, frame):
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    assert plain(crop_mode, crop_pct, (64, 64))(image)[1] == frame


def test_border_pads_with_the_mean_colour():
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    preprocessing = Preprocessing(size=(40, 40), mean=mean, std=std, crop_mode="border")
    seen, _ = preprocessing(torch.full((3, 50, 100), 255, dtype=torch.uint8))
    assert not seen[:, :10].any()
    assert not seen[:, 30:].any()
    white = (1 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(seen[:, 10:30], white[:, None, None].expand(3, 20, 40))


def test_corner_pads_below_and_to_the_right_with_the_mean_colour():
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    preprocessing = Preprocessing(size=(40, 40), mean=mean, std=std, crop_mode="corner")
    seen, _ = preprocessing(torch.full((3, 50, 100), 255, dtype=torch.uint8))
    assert not seen[:, 20:].any()
    white = (1 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(seen[:, :20], white[:, None, None].expand(3, 20, 40))


def test_letterbox_pads_with_grey():
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    preprocessing = Preprocessing(size=(40, 40), mean=mean, std=std, crop_mode="letterbox")
    seen, _ = preprocessing(torch.zeros(3, 50, 100, dtype=torch.uint8))
    grey = ((114 / 255 - torch.tensor(mean)) / torch.tensor(std))[:, None, None]
    black = -(torch.tensor(mean) / torch.tensor(std))[:, None, None]
    torch.testing.assert_close(seen[:, :10], grey.expand(3, 10, 40))
    torch.testing.assert_close(seen[:, 30:], grey.expand(3, 10, 40))
    torch.testing.assert_close(seen[:, 10:30], black.expand(3, 20, 40))


def test_sides_bound_the_resized_image():
    preprocessing = Preprocessing(
        size=(160, 160),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop_mode="corner",
        interpolation="bilinear",
        sides=(80, 120),
    )
    white = torch.full((3, 100, 110), 255, dtype=torch.uint8)  # the shorter side is bound
    seen, frame = preprocessing(white)
    assert (int(seen[0, :, 0].sum()), int(seen[0, 0].sum())) == (80, 88)
    assert frame == Frame(0.0, 0.0, 2.0, 160 / 88)
    seen, frame = preprocessing(white[:, :50, :100])  # the longer one
    assert (int(seen[0, :, 0].sum()), int(seen[0, 0].sum())) == (60, 120)
    assert frame == Frame(0.0, 0.0, 160 / 60, 160 / 120)


@pytest.mark.parametrize("antialias", [True, False])
def test_antialiasing_decides_whether_fine_stripes_average_out(antialias):
    stripes = (torch.arange(128) % 4 // 3 * 255).to(torch.uint8).expand(3, 128, 128)
    preprocessing = replace(plain(size=(32, 32)), antialias=antialias)
    shrunk = preprocessing(stripes)[0][0, 4:-4, 4:-4]
    assert shrunk.mean() == pytest.approx(0.25 if antialias else 0.0, abs=0.01)


def test_the_image_is_left_alone():
    image, _ = marked(30, 50)
    kept = image.clone()
    for crop_mode in MODES:
        plain(crop_mode)(image)
        replace(plain(crop_mode), antialias=False)(image)
    assert torch.equal(image, kept)


# torch fails to shrink pictures of one column (an internal assertion of its uint8 kernel)
sides = st.integers(min_value=2, max_value=70)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.sampled_from(MODES))
def test_frames_hold_what_their_mode_promises(height, width, rows, columns, crop_mode):
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    seen, (top, left, bottom, right) = plain(crop_mode, size=(rows, columns))(image)
    assert seen.shape == (3, rows, columns)
    if crop_mode == "squash":
        assert (top, left, bottom, right) == (0, 0, 1, 1)
    elif crop_mode == "center":
        assert 0 <= top < bottom <= 1
        assert 0 <= left < right <= 1
        assert (top, bottom) == (0, 1) or (left, right) == (0, 1)
    else:
        assert top <= 0 < 1 <= bottom
        assert left <= 0 < 1 <= right
    if crop_mode in ("border", "letterbox"):
        assert (top, bottom) == (0, 1) or (left, right) == (0, 1)
    if crop_mode == "corner":  # torchvision rounds down; 48 / 47 * 47 is a little less than 48
        assert (top, left) == (0, 0)
        assert rows / bottom > rows - 1.01 or columns / right > columns - 1.01


def test_an_unknown_crop_mode():
    message = "backbone.crop_mode is 'centre'; give one of " + ", ".join(MODES)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plain("centre")


@pytest.mark.parametrize("size", [0, -64, (0, 64), [64, -1], (64,), (3, 64, 64), ()])
def test_a_bad_image_size(size):
    message = f"backbone.image_size is {size}; give [height, width] in pixels"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        timm_backbone("resnet18", weights="random", image_size=size)


@pytest.mark.parametrize("crop_pct", [0.0, -0.5, 1.5, float("nan")])
def test_a_bad_crop_pct(crop_pct):
    message = f"backbone.crop_pct is {crop_pct}; give a share above 0, up to 1"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plain(crop_pct=crop_pct)


def test_identity_is_plain_and_complete():
    assert plain("center", 0.5).identity() == {
        "size": SIZE,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "crop_mode": "center",
        "crop_pct": 0.5,
        "interpolation": "bilinear",
        "antialias": True,
        "sides": None,
    }
