"""The parts of torchvision's detectors, and how images reach them."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD, SSDFeatureExtractorVGG
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cavalcade.backbones.preprocessing import Preprocessing, input_size

DIVISOR = 32  # torchvision pads to multiples of it


def run_detector(model: nn.Module, images: Tensor) -> object:
    """Trunk, neck, and the convolutions of the head; no boxes, which are no maps."""
    two_stage = isinstance(model, GeneralizedRCNN)
    head = model.get_submodule("rpn.head" if two_stage else "head")
    return head(list(model.get_submodule("backbone")(images).values()))


def detector_parts(model: nn.Module) -> dict[str, Any]:
    """What of a detector is trunk, neck and head, for `Network`.

    The trunk is the classification network within: its layers have the relative depth that
    they have alone.
    """
    if isinstance(model, SSD):
        neck = ["backbone.extra"]
        if isinstance(model.backbone, SSDFeatureExtractorVGG):
            # the first extra block begins with the last convolutions of VGG-16
            first, *others = model.backbone.extra
            neck = [f"backbone.extra.0.{len(first) - 1}"]
            neck += [f"backbone.extra.{number}" for number, _ in enumerate(others, start=1)]
            branches = neck
        else:
            branches = ["backbone.extra.?"]
        heads = ["head"]
    else:
        neck = ["backbone.fpn"]
        branches = ["backbone.fpn.layer_blocks.?", "backbone.fpn.extra_blocks.*"]
        heads = ["rpn", "roi_heads"] if isinstance(model, GeneralizedRCNN) else ["head"]
    return {"head": [*neck, *heads], "branches": branches, "run": run_detector}


def detector_preprocessing(
    own: GeneralizedRCNNTransform, image_size: int | Sequence[int] | None
) -> Preprocessing:
    """The detector's own way to warp, or to enlarge and pad, an image.

    Those that pad get a square that holds any image at their own scale, or with `image_size`
    the image as large as it fits.
    """
    sides = None
    if own.fixed_size is not None:
        size = own.fixed_size if image_size is None else image_size
    elif image_size is None:
        sides = (own.min_size[-1], own.max_size)
        size = math.ceil(own.max_size / DIVISOR) * DIVISOR
    else:
        size = image_size
    return Preprocessing(
        size=input_size(size),
        mean=tuple(own.image_mean),
        std=tuple(own.image_std),
        crop_mode="squash" if own.fixed_size is not None else "corner",
        interpolation="bilinear",
        antialias=False,
        sides=sides,
    )
