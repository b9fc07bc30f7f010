"""Adapter of the YOLO networks that the package ultralytics builds."""

import importlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.preprocessing import Preprocessing, check_multiples, input_size
from cavalcade.backbones.weights import downloading, load_matching, read_state_dict, seeded, variant
from cavalcade.errors import InputError, closest
from cavalcade.file_bytes import check_no_larger_inside

log = logging.getLogger(__name__)

OTHERS = ("rtdetr", "world", "yoloe", "resnet")  # of which parts are no YOLO, or read text
SIDE, SIDE_OF_CLASSIFIERS = 640, 224


def yolo_backbone(
    name: str,
    *,
    weights: str = "pretrained",
    layers: str | Sequence[str] = "stages",
    image_size: int | Sequence[int] | None = None,
    crop_mode: str = "letterbox",
    crop_pct: float = 1.0,
    label: str | None = None,
    seed: int = 0,
) -> FrozenBackbone:
    """A YOLO of ultralytics, frozen: v3 to v12 and later, of any size and task.

    The trunk is what its YAML calls the backbone; the layers of the neck are branches. Layers
    are called `model.<number>`, the number as in the YAML.

    Args:
        name: `yolov5s`, `yolov8n-seg`, `yolo11m`: a YAML model of ultralytics, with its size.
        weights: `pretrained` (ultralytics' download), `random` (seeded), or a file: a
            checkpoint of ultralytics, or a plain state dict, of YOLOv5 v6 and v7 too, whose
            head is another one and stays random.
        layers: `stages` (every layer of the backbone, and those of the neck), `blocks`, or
            module names.
        image_size: side, or height and width, of the network's input; 640 if None, and 224 for
            classifiers.
        crop_mode: see `Preprocessing`; YOLO's own is `letterbox`.
        crop_pct: share of the resized image that is seen.
        label: how the network is called; its name if None.
        seed: of random weights, together with the name.

    Raises:
        InputError: for an unknown name or layer, weights that do not fit, or if ultralytics is
            not installed.
    """
    ultralytics = import_ultralytics()
    names = yolo_names()
    if name not in names:
        raise InputError(f"ultralytics has no YOLO {name!r}; {closest(name, names)}")
    with seeded(seed, name):
        model: nn.Module = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.eval()
    *parts, head = (
        f"model.{number}" for number, _ in model.get_submodule("model").named_children()
    )
    length = len(_architecture(model)["backbone"])
    trunk, neck = parts[:length], parts[length:]
    if weights == "pretrained":
        with downloading(name):
            path = _download(name)
        _load_checkpoint(model, path, head)
    elif weights != "random":
        _load_checkpoint(model, weights, head)
    own_side = SIDE if neck else SIDE_OF_CLASSIFIERS
    size = input_size(own_side if image_size is None else image_size)
    stride = int(torch.as_tensor(model.stride).max())
    check_multiples(size, (stride, stride), name, str(stride))  # else the neck's maps do not fit
    network = Network(
        label=(label or name) + variant(weights),
        model=model,
        preprocessing=Preprocessing(
            size=size,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            crop_mode=crop_mode,
            crop_pct=crop_pct,
            interpolation="bilinear",
            antialias=False,
        ),
        head=(*neck, head),
        branches=[part for part in neck if list(model.get_submodule(part).parameters())],
        stage_ends=trunk,
        random=weights == "random",
    )
    return FrozenBackbone(network, layers)


def import_ultralytics() -> ModuleType:
    """The package ultralytics, without what its import does to others.

    It replaces functions of Pillow and PyTorch: a damaged image would have it install packages.
    """
    os.environ.setdefault("YOLO_VERBOSE", "false")  # its first import writes to the terminal
    own_open, own_save = Image.open, torch.save
    try:
        ultralytics = importlib.import_module("ultralytics")
        importlib.import_module("ultralytics.utils.patches")
        return ultralytics
    except ImportError as error:
        raise InputError(
            "a YOLO needs the package ultralytics, which is licensed under AGPL-3.0; run "
            "pip install 'cavalcade[yolo]'"
        ) from error
    finally:
        Image.open, torch.save = own_open, own_save


def _architecture(model: nn.Module) -> dict[str, Any]:
    """The contents of the YAML that a model was built from."""
    contents = vars(model)["yaml"]
    assert isinstance(contents, dict)
    return contents


def yolo_names() -> list[str]:
    """The networks that the YAMLs of ultralytics describe, in alphabetical order.

    Raises:
        InputError: if ultralytics is not installed.
    """
    folder = Path(str(import_ultralytics().__file__)).parent / "cfg/models"
    return sorted(each for path in folder.rglob("yolo*.yaml") for each in _sizes(path))


def _sizes(path: Path) -> list[str]:
    """What the networks of one YAML are called: `yolov8n-seg` and others of `yolov8-seg`."""
    if any(other in path.stem for other in OTHERS):
        return []
    family = re.fullmatch(r"(yolov?\d+)(|-.*)", path.stem)
    scales = yaml.safe_load(path.read_text()).get("scales")
    if scales is None or family is None:
        return [path.stem]
    return [f"{family[1]}{scale}{family[2]}" for scale in scales]


def _download(name: str) -> str:
    """Where ultralytics has put, or now puts, its weights."""
    downloads = importlib.import_module("ultralytics.utils.downloads")
    checks = importlib.import_module("ultralytics.utils.checks")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / checks.check_yolov5u_filename(f"{name}.pt", verbose=False)
    return str(downloads.attempt_download_asset(path))


def _load_checkpoint(model: nn.Module, source: str, head: str) -> None:
    """Load a checkpoint, or a plain state dict, whose head may be another one.

    YOLOv5 v6 and v7 have the trunk and the neck of ultralytics' YOLOv5 and another head.
    """
    path = Path(source).expanduser()
    used, given = load_matching(model, _read(path), str(path), optional=(head,))
    own = len(model.state_dict())
    log.info("%s: %d of its %d tensors fill %d of the network's %d", path, used, given, used, own)
    if used < own:
        log.info("its head, %s, differs and stays random", head)


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file; what is no plain state dict, ultralytics reads without code."""
    try:
        return read_state_dict(path)
    except InputError:
        if not path.is_file():
            raise
        # before torch 2.6 ultralytics' safe loader is none, and says nothing of it
        if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
            raise InputError(
                f"weights {path} are no plain state dict, and without running code only torch 2.6 "
                "or later reads them; update torch, or save model.state_dict() alone"
            ) from None
        tasks = importlib.import_module("ultralytics.nn.tasks")
        try:
            check_no_larger_inside(path)
            checkpoint, _ = tasks.torch_safe_load(str(path), safe_only=True)
            model = checkpoint.get("ema") or checkpoint["model"]
            state: Mapping[str, Tensor] = model.float().state_dict()
        except Exception as error:  # a damaged pickle raises nearly anything
            raise InputError(
                f"weights {path} are neither a plain state dict nor a checkpoint that ultralytics "
                "reads without running code; save model.state_dict() alone"
            ) from error
        return state
