"""Networks of every zoo with random weights, each built once for the tests of a file."""

from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import pytest

from cavalcade.backbones import FrozenBackbone, timm_backbone, torchvision_backbone, yolo_backbone
from cavalcade.backbones.yolo_zoo import import_ultralytics

ZOOS = {"timm": timm_backbone, "torchvision": torchvision_backbone, "yolo": yolo_backbone}
KEPT = 16  # networks: all of them take 5 GB


@lru_cache(maxsize=KEPT)
def built(
    zoo: str, name: str, image_size: int | tuple[int, int] = 64, **settings
) -> FrozenBackbone:
    return ZOOS[zoo](name, weights="random", image_size=image_size, **settings)


def needs_ultralytics() -> ModuleType:
    """Skip without it. Imported in any other way it replaces functions of Pillow, for all tests."""
    if find_spec("ultralytics") is None:
        pytest.skip("needs the extra yolo", allow_module_level=True)
    return import_ultralytics()
