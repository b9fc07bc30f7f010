"""Networks of every zoo with random weights, each built once for the tests of a file."""

from functools import cache

from cavalcade.backbones import FrozenBackbone, timm_backbone, torchvision_backbone, yolo_backbone

ZOOS = {"timm": timm_backbone, "torchvision": torchvision_backbone, "yolo": yolo_backbone}


@cache
def built(
    zoo: str, name: str, image_size: int | tuple[int, int] = 64, **settings
) -> FrozenBackbone:
    return ZOOS[zoo](name, weights="random", image_size=image_size, **settings)
