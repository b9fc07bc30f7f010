"""Outputs of layers are read as maps: by hand, and as timm itself reads its networks."""

import warnings

import pytest
import timm
import torch
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing, timm_backbone
from cavalcade.backbones.maps import MapLayout, as_tensor, possible_layouts
from cavalcade.backbones.tracing import trace


def cells(rows, columns, channels):
    """A map (1, channels, rows, columns) of which every value is another."""
    return torch.arange(1.0, 1 + rows * columns * channels).reshape(1, channels, rows, columns)


def as_tokens(maps, prefix=0):
    tokens = maps.flatten(2).mT
    return torch.cat([torch.full((len(maps), prefix, maps.shape[1]), -1.0), tokens], dim=1)


def only(layouts):
    (layout,) = layouts
    return layout


# by hand


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (4, 4)), ((64, 96), (4, 6)), ((96, 32), (9, 3)), ((8, 8), (1, 1))]
)
@pytest.mark.parametrize("channels", [5, 7])
def test_channels_first(size, grid, channels):
    maps = cells(*grid, channels)
    layout = only(possible_layouts(maps, size))
    assert layout == MapLayout("channels_first", channels, grid)
    assert torch.equal(layout.read(maps), maps)


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (4, 4)), ((64, 96), (4, 6)), ((96, 32), (9, 3)), ((8, 8), (1, 1))]
)
@pytest.mark.parametrize("channels", [5, 7])
def test_channels_last(size, grid, channels):
    maps = cells(*grid, channels)
    layout = only(possible_layouts(maps.permute(0, 2, 3, 1), size))
    assert layout == MapLayout("channels_last", channels, grid)
    assert torch.equal(layout.read(maps.permute(0, 2, 3, 1)), maps)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5, 8])  # none, ViT, DeiT, DINOv2 with registers
@pytest.mark.parametrize(
    ("size", "grid"),
    [((64, 64), (4, 4)), ((64, 96), (4, 6)), ((96, 32), (9, 3)), ((518, 518), (37, 37))],
)
def test_tokens(size, grid, prefix):
    maps = cells(*grid, 6)
    layout = only(possible_layouts(as_tokens(maps, prefix), size))
    assert layout == MapLayout("tokens", 6, grid, prefix)
    assert torch.equal(layout.read(as_tokens(maps, prefix)), maps)


@pytest.mark.parametrize("order", ["channels_first", "channels_last", "tokens"])
def test_a_layout_reads_batches(order):
    maps = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    outputs = {
        "channels_first": maps,
        "channels_last": maps.permute(0, 2, 3, 1),
        "tokens": as_tokens(maps, 2),
    }
    layout = MapLayout(order, 5, (4, 6), 2 if order == "tokens" else 0)
    assert torch.equal(layout.read(outputs[order]), maps)


def test_convolutions_may_cut_margins_off():
    # the aspects of inception's maps for 256 x 512 pixels are not quite those of its input
    layout = only(possible_layouts(torch.zeros(1, 192, 29, 61), (256, 512)))
    assert layout == MapLayout("channels_first", 192, (29, 61))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 10),  # class scores
        (10,),
        (1, 64, 7, 8),  # of a square image no map is so
        (1, 7, 8, 64),
        (4, 7, 7, 96),  # windows of attention look like images
        (4, 96, 7, 7),
        (4, 49, 96),
        (1, 3, 17, 17, 32),  # heads
        (1, 59, 32),  # tokens of no square
        (1, 0, 32),
    ],
)
def test_no_maps(shape):
    assert possible_layouts(torch.zeros(shape), (224, 224)) == []


@pytest.mark.parametrize("output", [None, 3, "map", (), [], {}, (None, torch.zeros(1, 2, 4, 4))])
def test_what_is_no_tensor_is_no_map(output):
    assert as_tensor(output) is None
    assert possible_layouts(output, (8, 8)) == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda maps: (maps, None),
        lambda maps: [maps, torch.zeros(1, 9)],
        lambda maps: {"out": maps, "aux": None},
    ],
)
def test_the_first_of_several_counts(wrap):
    maps = cells(4, 4, 7)
    layout = only(possible_layouts(wrap(maps), (8, 8)))
    assert torch.equal(layout.read(wrap(maps)), maps)


# where numbers alone cannot tell


def test_a_cube_may_be_both():
    first, last = possible_layouts(torch.zeros(1, 96, 96, 96), (384, 384))
    assert (first.order, last.order) == ("channels_first", "channels_last")


def test_an_oblong_image_tells_them_apart():
    layout = only(possible_layouts(torch.zeros(1, 96, 96, 144), (384, 576)))
    assert layout.order == "channels_first"


class Shifted(nn.Module):
    """Channels last within; each has a class of its own, as blocks of one network have."""

    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Linear(channels, channels)

    def forward(self, x):
        return self.mix(x)


class Filtered(nn.Conv2d):
    """The same with channels first."""


class Ambiguous(nn.Module):
    """Maps of 16 x 16 x 16 and then of 8 x 8 x 16, with channels last."""

    def __init__(self):
        super().__init__()
        self.stem = Filtered(3, 16, 2, stride=2)
        self.first = Shifted(16)
        self.second = Shifted(16)
        self.down = Filtered(16, 16, 2, stride=2)

    def forward(self, x):
        x = self.first(self.stem(x).permute(0, 2, 3, 1))
        return self.second(self.down(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_modules_of_the_same_class_tell():
    watched = trace(Ambiguous().eval(), (32, 32))
    assert watched.layout("stem").order == "channels_first"
    assert watched.layout("first") == MapLayout("channels_last", 16, (16, 16))
    assert watched.layout("second") == MapLayout("channels_last", 16, (8, 8))
    assert watched.layout("down") == MapLayout("channels_first", 16, (8, 8))


@pytest.mark.parametrize(
    ("name", "settings", "layer", "order"),
    [
        # the first stages of Swin-T and ConvNeXt-T have 96 channels on 96 x 96 cells
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, "layers.0", "channels_last"),
        ("convnext_tiny", {"depths": (1, 1, 1, 1)}, "stages.0", "channels_first"),
    ],
)
def test_cubes_of_real_networks(name, settings, layer, order):
    sized = {"img_size": 384} if name.startswith("swin") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = timm.create_model(name, **settings, **sized).eval()
    watched = trace(model, (384, 384))
    assert watched.calls[layer].shape == (1, 96, 96, 96)
    assert watched.layout(layer) == MapLayout(order, 96, (96, 96))
    block = f"{layer}.blocks.0"
    assert watched.layout(block) == MapLayout(order, 96, (96, 96))


# real networks


def backbone_of(name, image_size, layers):
    return timm_backbone(name, weights="random", image_size=image_size, layers=layers)


def images(size, count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(3))


VITS = [
    ("vit_tiny_patch16_224", (64, 96), (4, 6), 1),
    ("deit_tiny_distilled_patch16_224", (96, 64), (6, 4), 2),
    ("vit_small_patch14_reg4_dinov2", (56, 84), (4, 6), 5),
    ("vit_small_patch14_dinov2", (56, 56), (4, 4), 1),
    ("test_vit", (160, 96), (10, 6), 1),
]


@pytest.mark.parametrize(("name", "size", "grid", "prefix"), VITS)
def test_tokens_are_read_as_timm_does(name, size, grid, prefix):
    backbone = backbone_of(name, size, ["blocks.0", "blocks.3"])
    assert backbone.trace.layout("blocks.3").prefix == prefix
    assert [layer.grid for layer in backbone.layers] == [grid, grid]
    taps = backbone(images(size))
    with torch.no_grad():
        theirs = backbone.model.forward_intermediates(
            images(size), indices=[0, 3], norm=False, intermediates_only=True
        )
    for tap, expected in zip(taps.values(), theirs, strict=True):
        torch.testing.assert_close(tap, expected)


@pytest.mark.parametrize(
    ("name", "size", "stages"),
    [
        ("swin_tiny_patch4_window7_224", (64, 96), "layers"),
        ("swinv2_tiny_window8_256", (64, 64), "layers"),
        ("convnext_atto", (64, 96), "stages"),
        ("test_convnext", (96, 64), "stages"),
    ],
)
def test_stages_are_read_as_timm_does(name, size, stages):
    backbone = backbone_of(name, size, "stages")
    names = [f"{stages}.{stage}" for stage in range(4)]
    assert list(backbone.names) == names
    taps = backbone(images(size))
    with torch.no_grad():
        theirs = backbone.model.forward_intermediates(images(size), intermediates_only=True)
    for name, expected in zip(names, theirs, strict=True):
        torch.testing.assert_close(taps[name], expected)


def test_a_layer_may_yield_a_tuple():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2, stride=2)

        def forward(self, x):
            return self.conv(x), x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)[0]

    preprocessing = Preprocessing(size=(8, 12), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    backbone = FrozenBackbone(Network("pair", Model(), preprocessing), ["pair"])
    assert backbone.layers[0].grid == (4, 6)
    inputs = images((8, 12))
    with torch.no_grad():
        expected = backbone.model.pair.conv(inputs)
    torch.testing.assert_close(backbone(inputs)["pair"], expected)
