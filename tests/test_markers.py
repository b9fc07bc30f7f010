"""A bright square in a dark picture fires, on the common grid, where it lies in the picture."""

import pytest
import torch

from cavalcade.data.geometry import seen_cells, to_common_grid
from zoo import built, needs_ultralytics

MODES = ["squash", "center", "border", "corner", "letterbox"]
SHAPES = {"wide": (96, 150), "tall": (150, 96), "square": (120, 120)}
GRID = (48, 48)
# row and column of the square's centre, as shares; the middle crop of each shape sees them
PLACES = {"wide": (0.7, 0.4), "tall": (0.4, 0.65), "square": (0.3, 0.6)}


def marked(shape, place, share=0.08):
    """A black picture with a white square, and where its centre lies exactly."""
    picture = torch.zeros(3, *shape, dtype=torch.uint8)
    half = round(share * min(shape) / 2)
    row, column = (round(at * side) for at, side in zip(place, shape, strict=True))
    picture[:, row - half : row + half, column - half : column + half] = 255
    return picture, (row / shape[0], column / shape[1])


def energies(backbone, pictures):
    """How much each marker changes each tap, on the common grid; and the frames."""
    seen = [backbone.preprocessing(picture) for picture in pictures]
    inputs = torch.stack([values for values, _ in seen])
    black = torch.stack([backbone.preprocessing(torch.zeros_like(p))[0] for p in pictures])
    frames = torch.tensor([frame for _, frame in seen])
    taps, dark = backbone(inputs), backbone(black)
    maps = {name: (taps[name] - dark[name]).square().sum(dim=1, keepdim=True) for name in taps}
    return {name: to_common_grid(m, frames, GRID)[:, 0] for name, m in maps.items()}, frames


def centre(energy):
    """Centre of mass, as shares, of what is not weak: attention and excitation reach everywhere."""
    weight = torch.where(energy >= energy.max() / 10, energy, 0.0)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in energy.shape)
    total = weight.sum()
    return (
        float((weight.sum(dim=1) * rows).sum() / total),
        float((weight.sum(dim=0) * columns).sum() / total),
    )


def check(backbone, kinds, cells):
    """All kinds of pictures in one batch; distances in cells of the coarser of the two grids."""
    pictures, places = zip(*(marked(SHAPES[kind], PLACES[kind]) for kind in kinds), strict=True)
    maps, frames = energies(backbone, pictures)
    visible = seen_cells(frames, GRID)
    for layer in backbone.layers:
        for image, place in enumerate(places):
            top, left, bottom, right = frames[image].tolist()
            assert visible[image][int(place[0] * GRID[0]), int(place[1] * GRID[1])]
            row, column = centre(maps[layer.name][image] * visible[image])
            down = (row - place[0]) / max((bottom - top) / layer.grid[0], 1 / GRID[0])
            across = (column - place[1]) / max((right - left) / layer.grid[1], 1 / GRID[1])
            assert abs(down) <= cells[layer.name], (layer.name, kinds[image], down, across)
            assert abs(across) <= cells[layer.name], (layer.name, kinds[image], down, across)


# zero padding on both sides and a stride of 2 move a map by a quarter of its cell each time,
# half a cell in all: the middle layers are given another half for what random weights make of it
@pytest.mark.parametrize("kinds", [["wide"], ["tall"], ["wide", "tall", "square"]], ids="-".join)
@pytest.mark.parametrize("crop_mode", MODES)
def test_in_every_geometry(crop_mode, kinds):
    backbone = built("timm", "resnet18", (128, 160), crop_mode=crop_mode, layers=("act1", "layer2"))
    check(backbone, kinds, {"act1": 0.5, "layer2": 1.0})


@pytest.mark.parametrize("crop_mode", MODES)
def test_in_every_geometry_with_a_part_of_the_picture(crop_mode):
    backbone = built(
        "timm", "resnet18", (128, 160), crop_mode=crop_mode, crop_pct=0.8, layers=("act1", "layer2")
    )
    check(backbone, ["square"], {"act1": 0.5, "layer2": 1.0})


NETWORKS = [
    ("torchvision", "fasterrcnn_resnet50_fpn", 160, "backbone.body.relu", "backbone.body.layer2"),
    ("torchvision", "retinanet_resnet50_fpn", 160, "backbone.body.relu", "backbone.body.layer2"),
    ("torchvision", "fcos_resnet50_fpn", 160, "backbone.body.relu", "backbone.body.layer2"),
    ("torchvision", "ssd300_vgg16", 300, "backbone.features.8", "backbone.features.15"),
    (
        "torchvision",
        "ssdlite320_mobilenet_v3_large",
        192,
        "backbone.features.0.1",
        "backbone.features.0.6",
    ),
    ("yolo", "yolov5s", 160, "model.0", "model.4"),
    ("timm", "vit_tiny_patch16_224", (128, 160), "patch_embed", "blocks.5"),
    ("timm", "deit_tiny_distilled_patch16_224", 128, "blocks.0", "blocks.5"),
    ("timm", "vit_small_patch14_reg4_dinov2", 140, "blocks.0", "blocks.5"),
    ("timm", "swin_tiny_patch4_window7_224", (128, 160), "layers.0.blocks.0", "layers.1"),
    ("timm", "convnext_atto", 128, "stages.0", "stages.1"),
]


@pytest.mark.parametrize(
    ("zoo", "name", "size", "early", "middle"), NETWORKS, ids=[each[1] for each in NETWORKS]
)
def test_in_every_kind_of_network(zoo, name, size, early, middle):
    if zoo == "yolo":
        needs_ultralytics()
    backbone = built(zoo, name, size, layers=(early, middle))
    check(backbone, ["wide", "tall", "square"], {early: 0.5, middle: 1.0})
