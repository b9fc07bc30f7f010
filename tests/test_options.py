"""Every option of conf/ is built and run: each network on an image, each data set on its files."""

import json

import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from broden_folder import write_broden
from cavalcade.cli import check_config
from celeba_folder import write_celeba
from coco_folder import write_coco
from index_map_folders import write_ade20k, write_cityscapes, write_oxford_pets, write_voc
from test_config import CONF, TRAIN_KEYS, composed
from tiny import tiny_backbone, tiny_data
from zoo import needs_ultralytics

BACKBONES = sorted(path.stem for path in CONF.glob("backbone/*.yaml"))
DATA = sorted(path.stem for path in CONF.glob("data/*.yaml"))
# what must be given, and the small images that a network can take
SETTINGS = {
    "custom": ["target=torchvision.models.resnet18", "image_size=64"],
    "dinov2_small": ["image_size=[56,84]"],
    "ssd300_vgg16": ["image_size=300"],
    "timm": ["name=resnet18", "image_size=64"],
    "torchvision": ["name=fcn_resnet50", "image_size=64"],
    "yolo": ["name=yolov8n", "image_size=64"],
}
YOLOS = ("yolo", "yolov5s")


def write_folder(root):
    """Two images of each split, with index maps."""
    for split in ("train", "val", "test"):
        for number in range(2):
            for part, mode in (("images", "RGB"), ("masks", "L")):
                path = root / part / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (40, 30)).save(path)
    (root / "classes.json").write_text(json.dumps({"names": ["dark"]}))


WRITERS = {
    "ade20k": write_ade20k,
    "broden": write_broden,
    "celeba_mask_hq": write_celeba,
    "cityscapes": write_cityscapes,
    "coco": write_coco,
    "folder": write_folder,
    "images": write_folder,
    "oxford_pets": write_oxford_pets,
    "voc": write_voc,
}


def built(option, *overrides):
    """What an option of conf/ makes."""
    config = composed("train", option, *overrides)
    check_config(config, TRAIN_KEYS)
    return instantiate(config[option.partition("=")[0]], _convert_="all")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_network_is_built_and_looked_at(name):
    if name in YOLOS:
        needs_ultralytics()
    settings = [f"backbone.{each}" for each in SETTINGS.get(name, ["image_size=64"])]
    backbone = built(f"backbone={name}", "backbone.weights=random", *settings)
    assert backbone.random
    assert backbone.label.endswith("-random")
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    inputs, frame = backbone.preprocessing(image)
    maps = backbone(inputs[None])
    assert 4 <= len(maps) <= 60
    for layer in backbone.layers:
        assert maps[layer.name].shape == (1, layer.channels, *layer.grid)
        assert maps[layer.name].isfinite().all()
    assert frame.bottom > frame.top
    assert frame.right > frame.left


@pytest.mark.parametrize("name", DATA)
def test_a_data_set_is_read_and_shown_to_a_network(name, tmp_path):
    settings = ["data.num_images={train: 4, val: 2, test: 2}"]
    if name in WRITERS:
        WRITERS[name](tmp_path)
        settings = [f"data.root={tmp_path}"]
    data = built(f"data={name}", *settings)
    backbone = tiny_backbone()
    splits = ("train", "test") if name == "images" else ("train", "val", "test")
    module = tiny_data(backbone, data, splits=splits)
    for split in splits:
        batch = next(iter(module.in_order(split, targets=True)))
        maps = backbone(batch.inputs)
        assert batch.truth.shape[2:] == tuple(data.grid)
        assert batch.truth.any() == (name != "images")
        for layer in backbone.layers:
            targets = batch.targets[layer.grid]
            assert maps[layer.name].shape[2:] == layer.grid
            assert (targets.present <= targets.labelled + 1e-6).all()
