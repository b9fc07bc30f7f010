"""What detectors and classifiers see is what torchvision and ultralytics would show them."""

import importlib
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torchvision.models import get_model
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import InterpolationMode

from cavalcade.backbones import Preprocessing
from cavalcade.backbones.torchvision_detectors import detector_preprocessing
from cavalcade.errors import InputError
from zoo import needs_ultralytics

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(427, 640), (201, 99), (100, 333), (63, 64), (80, 80), (37, 411)]


def picture(height, width):
    """A cut from a photograph: fine detail, where resizing differs most."""
    china = load_sample_image("china.jpg")
    return torch.from_numpy(china[:height, :width].copy()).permute(2, 0, 1)


def theirs(transform, image):
    """The batch of one that the detector's own transform makes, and the image's part of it."""
    images, _ = transform.eval()([image.float() / 255])
    return images.tensors[0], images.image_sizes[0]


def check_against(transform, preprocessing, image):
    expected, (height, width) = theirs(transform, image)
    seen, frame = preprocessing(image)
    rows, columns = preprocessing.size
    assert (rows / (frame.bottom - frame.top), columns / (frame.right - frame.left)) == (
        pytest.approx((height, width))
    )
    torch.testing.assert_close(
        seen[:, :height, :width], expected[:, :height, :width], atol=1e-5, rtol=0
    )
    assert not seen[:, height:].any()
    assert not seen[:, :, width:].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_corner_is_the_transform_of_detectors_that_pad(shape):
    transform = GeneralizedRCNNTransform(64, 107, list(MEAN), list(STD))
    preprocessing = detector_preprocessing(transform, None)
    assert preprocessing.size == (128, 128)
    assert preprocessing.sides == (64, 107)
    check_against(transform, preprocessing, picture(*shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [96, 128])
def test_corner_of_another_size_fills_the_square(shape, side):
    """As a detector whose shorter and longer side may both be as large as the square."""
    transform = GeneralizedRCNNTransform(side, side, list(MEAN), list(STD))
    preprocessing = detector_preprocessing(transform, side)
    assert preprocessing.sides is None
    check_against(transform, preprocessing, picture(*shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),  # SSD300
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # SSDlite
    ],
)
def test_squash_is_the_transform_of_detectors_that_warp(shape, mean, std):
    transform = GeneralizedRCNNTransform(72, 72, list(mean), list(std), 1, (72, 72))
    preprocessing = detector_preprocessing(transform, None)
    assert (preprocessing.crop_mode, preprocessing.size) == ("squash", (72, 72))
    image = picture(*shape)
    expected, size = theirs(transform, image)
    assert size == (72, 72)
    torch.testing.assert_close(preprocessing(image)[0], expected, atol=1e-5 / min(std), rtol=0)


@pytest.mark.parametrize(
    ("name", "crop_mode", "size", "sides"),
    [
        ("fasterrcnn_mobilenet_v3_large_fpn", "corner", 1344, (800, 1333)),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "corner", 640, (320, 640)),
        ("ssdlite320_mobilenet_v3_large", "squash", 320, None),
    ],
)
def test_the_transforms_of_real_detectors(name, crop_mode, size, sides):
    transform = get_model(name, weights=None, weights_backbone=None).transform
    preprocessing = detector_preprocessing(transform, None)
    assert (preprocessing.crop_mode, preprocessing.size) == (crop_mode, (size, size))
    assert preprocessing.sides == sides
    assert preprocessing.size[0] >= max(sides or (0,))
    for shape in SHAPES[:2]:
        check_against(transform, preprocessing, picture(*shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (161, 97)])
def test_letterbox_is_that_of_ultralytics(shape, size):
    needs_ultralytics()
    augment = importlib.import_module("ultralytics.data.augment")
    image = picture(*shape)
    bgr = np.ascontiguousarray(image.permute(1, 2, 0).flip(2).numpy())
    expected = augment.LetterBox(size, auto=False)(image=bgr)[..., ::-1]
    preprocessing = Preprocessing(
        size=size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop_mode="letterbox",
        interpolation="bilinear",
        antialias=False,
    )
    seen, frame = preprocessing(image)
    expected = torch.from_numpy(expected.copy()).permute(2, 0, 1)
    assert seen.shape == expected.shape
    assert (seen * 255 - expected).abs().max() < 1.5
    assert frame.top <= 0 <= 1 <= frame.bottom
    assert frame.left <= 0 <= 1 <= frame.right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("crop", "resize", "interpolation"),
    [(64, 73, "bilinear"), (64, 66, "bicubic"), (75, 86, "bilinear"), (96, 96, "bilinear")],
)
def test_center_is_the_transform_of_classifiers(shape, crop, resize, interpolation):
    preset = ImageClassification(
        crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation)
    )
    preprocessing = Preprocessing(
        size=(crop, crop),
        mean=MEAN,
        std=STD,
        crop_mode="center",
        crop_pct=crop / resize,
        interpolation=interpolation,
    )
    image = picture(*shape)
    off = (preprocessing(image)[0] - preset(image)) * torch.tensor(STD)[:, None, None] * 255
    # theirs rounds once, at the end; ours, as Pillow does, between rows and columns too, which
    # moves a value by less than half a level, a quarter on average, and none of them one way
    assert off.abs().max() < 1.01
    assert off.abs().mean() < 0.25
    assert off.mean().abs() < 0.02


def test_a_canvas_holds_the_longest_side():
    transform = GeneralizedRCNNTransform(800, 1333, list(MEAN), list(STD))
    size = detector_preprocessing(transform, None).size
    assert size == (math.ceil(1333 / 32) * 32,) * 2


def test_a_bad_size():
    transform = GeneralizedRCNNTransform(800, 1333, list(MEAN), list(STD))
    with pytest.raises(InputError, match=r"^backbone\.image_size is \[1, 2, 3\]; give"):
        detector_preprocessing(transform, [1, 2, 3])
