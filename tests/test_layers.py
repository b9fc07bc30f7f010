"""Which layers the rules find in networks of many families, and what they say of them."""

from functools import cache
from itertools import pairwise

import pytest
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing, timm_backbone
from cavalcade.errors import InputError

FAMILIES = [
    "convnext_atto",
    "densenet121",
    "mobilenetv3_small_050",
    "mobileone_s0",
    "regnety_002",
    "resnet18",
    "resnet50",
    "tf_efficientnet_lite0",
    "vgg11_bn",
]
RESNET18_BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
LITE0_BLOCKS = [
    f"blocks.{stage}.{block}"
    for stage, blocks in enumerate([1, 2, 2, 3, 3, 4, 1])
    for block in range(blocks)
]


@cache
def stages(name):
    return timm_backbone(name, weights="random", layers="stages", image_size=64)


def taps(name, rule):
    """What a rule finds; the network is built once for both."""
    return stages(name).choose(rule)


def named(layers):
    return timm_backbone("resnet18", weights="random", layers=layers, image_size=64)


@pytest.mark.parametrize("rule", ["stages", "blocks"])
@pytest.mark.parametrize("name", FAMILIES)
def test_taps_are_in_execution_order(name, rule):
    depths = [layer.depth for layer in taps(name, rule)]
    assert 4 <= len(depths) <= 60
    assert depths == sorted(depths)
    assert 0 < depths[0] < 0.2
    assert 0.75 <= depths[-1] <= 1
    assert all(layer.trunk for layer in taps(name, rule))


@pytest.mark.parametrize("name", FAMILIES)
def test_stages_have_a_stride_each(name):
    strides = [layer.stride for layer in taps(name, "stages")]
    assert strides == sorted(set(strides))
    assert {4.0, 8.0, 16.0, 32.0} <= set(strides)


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_cover_every_stride_of_the_stages(name):
    blocks, ends = taps(name, "blocks"), taps(name, "stages")
    assert {layer.stride for layer in ends} <= {layer.stride for layer in blocks}
    assert len(blocks) > len(ends)


@pytest.mark.parametrize("name", FAMILIES)
def test_stride_and_grid_agree(name):
    for layer in taps(name, "blocks"):
        assert layer.grid == (64 / layer.stride, 64 / layer.stride)


@pytest.mark.parametrize(
    ("name", "rule", "expected"),
    [
        ("resnet18", "stages", ["act1", "layer1", "layer2", "layer3", "layer4"]),
        ("resnet18", "blocks", ["act1", *RESNET18_BLOCKS]),
        ("tf_efficientnet_lite0", "stages", [f"blocks.{stage}" for stage in (0, 1, 2, 4, 6)]),
        ("tf_efficientnet_lite0", "blocks", LITE0_BLOCKS),
        ("vgg11_bn", "stages", [f"features.{n}" for n in (2, 6, 13, 20, 27, 28)]),
    ],
)
def test_names_are_known(name, rule, expected):
    assert [layer.name for layer in taps(name, rule)] == expected


def test_a_layer_says_what_it_is():
    stem, *_, last = taps("resnet18", "stages")
    assert (stem.depth, stem.channels, stem.stride, stem.grid) == (1 / 20, 64, 2.0, (32, 32))
    assert (last.depth, last.channels, last.stride, last.grid) == (1.0, 512, 32.0, (2, 2))


def test_names_out_of_order_are_sorted_and_named_once():
    backbone = named(["layer4", "layer1.0", "layer2", "layer4", "maxpool"])
    assert backbone.names == ("maxpool", "layer1.0", "layer2", "layer4")


def test_a_single_name_is_enough():
    assert named("layer3").names == ("layer3",)


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(
        InputError,
        match=r"^no layer 'layer5' in resnet18-random; closest: layer4, layer3, layer2; "
        r"or a rule: stages, blocks$",
    ):
        named(["layer1", "layer5"])


@pytest.mark.parametrize("layers", [[], ()])
def test_no_layer_at_all(layers):
    with pytest.raises(
        InputError,
        match=r"^backbone\.layers names no layer of resnet18-random; give names, stages or blocks$",
    ):
        named(layers)


class Small(nn.Sequential):
    """A convolution, and what comes after it."""

    def __init__(self, before, after):
        super().__init__(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())


def test_blocks_of_one_convolution_are_blocks():
    trunk = nn.Sequential(*(Small(before, 8) for before in (3, 8, 8, 8)))
    preprocessing = Preprocessing(size=(32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    network = Network("small", nn.Sequential(trunk, nn.Conv2d(8, 2, 1)), preprocessing, ("1",))
    assert FrozenBackbone(network, "blocks").names == ("0.0", "0.1", "0.2", "0.3")
    assert FrozenBackbone(network, "stages").names == ("0.0", "0.1", "0.2", "0")


@pytest.mark.parametrize("empty", ["", [""]])
def test_the_network_itself_is_no_layer(empty):
    with pytest.raises(InputError, match="no layer '' in resnet18-random"):
        named(empty)


def test_a_layer_without_a_map():
    with pytest.raises(
        InputError,
        match=r"^layer 'fc' of resnet18-random yields no map \(its output is \(1, 1000\)\); "
        r"tap one with channels, height and width, or with tokens$",
    ):
        named(["layer1", "fc"])


class Branched(nn.Module):
    """A trunk of four convolutions without a zoo's word on it, a branch, and an idle module."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, 3, 3, stride=1 + n % 2, padding=1) for n in range(4))
        )
        self.idle = nn.Conv2d(3, 3, 1)
        self.head = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1))

    def forward(self, x):
        return self.head(self.trunk(x))


def branched(layers, stage_ends=()):
    preprocessing = Preprocessing(size=(16, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    network = Network("branched", Branched(), preprocessing, ("head",), stage_ends=stage_ends)
    return FrozenBackbone(network, layers).layers


def deep(layers, stage_ends=()):
    """Eight convolutions, two for each of four strides, and a pooled map of a single cell."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 3, 3, stride=2 - n % 2, padding=1) for n in range(8)),
        nn.AdaptiveAvgPool2d(1),
    )
    model.add_module("idle", nn.Module())
    model.idle.forward = lambda x: x.flatten(1)
    preprocessing = Preprocessing(size=(32, 64), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    network = Network("deep", model, preprocessing, stage_ends=stage_ends)
    return FrozenBackbone(network, layers).layers


def test_a_layer_that_does_not_run():
    with pytest.raises(
        InputError,
        match=r"^layer 'idle' of branched does not run in its forward; tap another$",
    ):
        branched(["idle"])


def test_three_strides_are_too_few_for_stages():
    layers = branched("stages")
    assert [layer.name for layer in layers] == [f"trunk.{n}" for n in range(4)]
    assert [layer.depth for layer in layers] == [0.25, 0.5, 0.75, 1.0]
    assert [layer.stride for layer in layers] == [1.0, 2.0, 2.0, 4.0]
    assert [layer.grid for layer in layers] == [(16, 32), (8, 16), (8, 16), (4, 8)]


def test_stages_without_the_word_of_a_zoo():
    assert [layer.name for layer in deep("stages")] == ["1", "3", "5", "7"]
    assert [layer.stride for layer in deep("stages")] == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("wrong", ["nowhere", "idle"])
def test_the_word_of_a_zoo_is_not_taken_for_what_cannot_be_tapped(wrong):
    word = ("0", "2", "4", "6")
    assert deep("stages", (*word, wrong)) == deep("stages")
    assert [layer.name for layer in deep("stages", word)] == list(word)


def test_the_word_of_a_zoo_is_not_taken_where_it_is_too_short():
    assert [layer.name for layer in branched("stages", ("trunk.1",))] == [
        f"trunk.{n}" for n in range(4)
    ]


def test_layers_of_the_head_are_marked_and_do_not_count():
    trunk, head = branched(["trunk.3", "head.0"])
    assert (trunk.trunk, head.trunk) == (True, False)
    assert (trunk.depth, head.depth) == (1.0, 1.0)


def test_blocks_of_a_plain_network_are_its_layers():
    names = [layer.name for layer in branched("blocks")]
    assert names[:4] == [f"trunk.{n}" for n in range(4)]


def test_outputs_with_channels_last_are_maps():
    backbone = timm_backbone(
        "convnext_atto", weights="random", image_size=64, layers="stages.0.blocks.0.norm"
    )
    (layer,) = backbone.layers
    assert (layer.channels, layer.grid, layer.stride) == (40, (16, 16), 4.0)


def test_blocks_of_ghostnet_are_its_bottlenecks():
    backbone = timm_backbone("ghostnet_050", weights="random", image_size=64, layers="blocks")
    assert not any("ghost1" in name for name in backbone.names)
    assert "blocks.3.0" in backbone.names


def test_of_many_layers_60_are_taken_evenly_and_the_last_of_every_stride():
    strides = [2, 2, *[1] * 97, 2]
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=n, padding=1) for n in strides))
    preprocessing = Preprocessing(size=(16, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    backbone = FrozenBackbone(Network("long", model, preprocessing), "blocks")
    chosen = [int(name) for name in backbone.names]
    assert len(chosen) == 60
    assert {0, 98, 99} <= set(chosen)  # each the last, or the only one, of its stride
    inner = [number for number in chosen if 0 < number < 98]
    gaps = {after - before for before, after in pairwise(inner)}
    assert gaps == {1, 2}
