"""Adapter of torchvision's zoo: classification, segmentation and detection."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torchvision
from torch import hub, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.preprocessing import Preprocessing, input_size
from cavalcade.backbones.torchvision_detectors import detector_parts, detector_preprocessing
from cavalcade.backbones.weights import (
    PACKAGE,
    WEIGHT_FILES,
    downloading,
    load_weights,
    seeded,
    variant,
)
from cavalcade.errors import InputError, closest, one_line

MODULES = (torchvision.models, torchvision.models.segmentation, torchvision.models.detection)
# an adaptive pool may upsample, and is no part of any trunk
HEADS = (
    *("fc", "classifier", "aux_classifier", "heads", "head", "AuxLogits", "aux1", "aux2"),
    "avgpool",
)
ANY_CODE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # the opposite, which it refuses beside that
NO_CODE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # asks torch.load so, whatever its caller says


def torchvision_backbone(
    name: str,
    *,
    weights: str = "pretrained",
    layers: str | Sequence[str] = "stages",
    image_size: int | Sequence[int] | None = None,
    crop_mode: str | None = None,
    crop_pct: float | None = None,
    label: str | None = None,
    seed: int = 0,
) -> FrozenBackbone:
    """A network of torchvision, frozen: a classifier, a segmenter, or a detector.

    Args:
        name: as torchvision calls it, `resnet50` or `fasterrcnn_resnet50_fpn`.
        weights: `pretrained` (the best that torchvision downloads), one of its names for the
            weights (`IMAGENET1K_V1`), `random` (seeded), or a file.
        layers: `stages`, `blocks`, or module names.
        image_size: side, or height and width, of the network's input; the model's own if None.
        crop_mode: see `Preprocessing`; if None that of the detector, and `squash` for others.
        crop_pct: share of the resized image that is seen; if None the model's own for
            `center`, and all of it otherwise.
        label: how the network is called; its name if None.
        seed: of random weights, together with the name.

    Raises:
        InputError: for an unknown name or layer, or weights that do not fit.
    """
    names = torchvision_names()
    if name not in names:
        raise InputError(f"torchvision has no network {name!r}; {closest(name, names)}")
    published = get_model_weights(name)
    _check_weights(name, weights, [each.name for each in published])
    model = _build(name, weights, published, seed)
    parts: dict[str, Any]
    if name in list_models(torchvision.models.detection):
        parts = detector_parts(model)
        assert isinstance(model.transform, GeneralizedRCNNTransform)
        preprocessing = detector_preprocessing(model.transform, image_size)
    else:
        parts = {"head": [part for part, _ in model.named_children() if part in HEADS]}
        preprocessing = _preprocessing(weights, published, image_size, crop_mode)
    crop = {"crop_mode": crop_mode, "crop_pct": crop_pct}
    asked: dict[str, Any] = {key: value for key, value in crop.items() if value is not None}
    network = Network(
        label=(label or name) + variant(weights),
        model=model,
        preprocessing=replace(preprocessing, **asked),
        random=weights == "random",
        **parts,
    )
    return FrozenBackbone(network, layers)


def torchvision_names() -> list[str]:
    """The networks that there are, in alphabetical order."""
    return sorted(known for module in MODULES for known in list_models(module))


def _build(name: str, weights: str, published: type[WeightsEnum], seed: int) -> nn.Module:
    in_parts = name not in list_models(torchvision.models)
    settings: dict[str, Any] = {"weights_backbone": None} if in_parts else {}
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = False  # theirs takes a minute
        settings["transform_input"] = weights != "random"  # as those of torchvision expect
    with seeded(seed, name):
        if weights == "pretrained" or weights in published.__members__:
            chosen = "DEFAULT" if weights == "pretrained" else weights
            return _downloaded(name, published[chosen], settings).eval()
        model = get_model(name, weights=None, **settings)
    if weights != "random":
        load_weights(model, weights)
    return model.eval()


def _downloaded(name: str, weights: WeightsEnum, settings: dict[str, Any]) -> nn.Module:
    """A network with weights of torchvision, downloaded or from the folder of earlier downloads.

    It is built by torchvision, which turns and renames things for some of its weights.
    """
    try:
        with downloading(name), _no_code():
            return get_model(name, weights=weights, **settings)
    except InputError as error:
        path = Path(hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
        if not path.exists():
            raise
        reason = one_line(error.__cause__ or error).partition(". ")[0]
        raise InputError(
            f"weights {path} cannot be read as plain tensors of {name} ({reason}): the file is "
            "damaged, or needs code to be run; delete it, and it is downloaded again"
        ) from error


@contextmanager
def _no_code() -> Iterator[None]:
    """Have weights read as plain tensors: torchvision would run what a pickle holds."""
    before = {name: os.environ.pop(name, None) for name in (NO_CODE, ANY_CODE)}
    os.environ[NO_CODE] = "1"
    try:
        yield
    finally:
        del os.environ[NO_CODE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _check_weights(name: str, weights: str, named: Sequence[str]) -> None:
    """Raise for a word that is no file and none of torchvision's names."""
    known = ("pretrained", "random", *named)
    if (
        weights not in (*known, "DEFAULT")
        and not weights.startswith(PACKAGE)
        and not Path(weights).suffix
    ):
        raise InputError(
            f"torchvision has no weights {weights!r} of {name}; there are: {', '.join(known)}; "
            f"or give a {', '.join(WEIGHT_FILES)} file"
        )


def _preprocessing(
    weights: str,
    published: type[WeightsEnum],
    image_size: int | Sequence[int] | None,
    crop_mode: str | None,
) -> Preprocessing:
    """Of a classifier or segmenter, from what torchvision says of its weights, or of its best."""
    own = published.__members__.get(weights, published.DEFAULT).transforms()
    side = getattr(own, "crop_size", own.resize_size)[0]
    return Preprocessing(
        size=input_size(side if image_size is None else image_size),
        mean=tuple(own.mean),
        std=tuple(own.std),
        crop_pct=side / own.resize_size[0] if crop_mode == "center" else 1.0,
        interpolation=own.interpolation.value,
    )
