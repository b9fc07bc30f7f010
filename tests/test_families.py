"""What the rules for layers find in networks of many families and zoos."""

import pytest

from cavalcade.backbones.layers import _blocks, describe, every_map
from zoo import built, needs_ultralytics

TIMM = [
    ("vit_tiny_patch16_224", 64),
    ("deit_tiny_distilled_patch16_224", (64, 96)),
    ("vit_small_patch14_reg4_dinov2", 56),
    ("swin_tiny_patch4_window7_224", 64),
    ("convnext_atto", 64),
    ("resnetv2_50", 64),
    ("test_nfnet", 64),
    ("test_maxvit", 64),
    ("mobilevit_xxs", 64),
    ("poolformer_s12", 64),
    ("pvt_v2_b0", 64),
    ("mixer_s32_224", 224),
    ("xcit_nano_12_p16_224", 64),
    ("levit_128s", 224),
    ("efficientformerv2_s0", 224),
    ("edgenext_xx_small", 64),
    ("fastvit_t8", 64),
    ("hrnet_w18_small", 64),
    ("dla34", 64),
    ("dpn48b", 64),
    ("mobilenetv4_conv_small", 64),
    ("pit_ti_224", 224),
    ("convmixer_768_32", 64),
    ("repghostnet_050", 64),
    ("test_mambaout", 64),
]
TORCHVISION = [
    ("alexnet", 64),
    ("densenet161", 64),  # 80 blocks
    ("efficientnet_b0", 64),
    ("googlenet", 64),
    ("inception_v3", 128),
    ("mnasnet0_5", 64),
    ("mobilenet_v2", 64),
    ("mobilenet_v3_large", 64),
    ("regnet_y_400mf", 64),
    ("shufflenet_v2_x0_5", 64),
    ("squeezenet1_1", 64),
    ("swin_t", 64),
    ("lraspp_mobilenet_v3_large", 64),
    ("fcn_resnet50", 64),
    ("deeplabv3_mobilenet_v3_large", 64),
    ("fasterrcnn_resnet50_fpn", 128),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", 128),
    ("retinanet_resnet50_fpn_v2", 128),
    ("fcos_resnet50_fpn", 128),
    ("ssd300_vgg16", 300),
    ("ssdlite320_mobilenet_v3_large", 192),
]
YOLO = [
    ("yolov3-tiny", 64),
    ("yolov5s", 64),
    ("yolov5s-p6", 128),
    ("yolov8n-seg", 64),
    ("yolov8n-cls", 64),
    ("yolov9t", 64),
    ("yolov10n", 64),
    ("yolo11n", (64, 96)),
    ("yolo12n", 64),
]
NETWORKS = [
    (zoo, *network)
    for zoo, networks in {"timm": TIMM, "torchvision": TORCHVISION, "yolo": YOLO}.items()
    for network in networks
]


@pytest.fixture(params=NETWORKS, ids=lambda network: f"{network[0]}-{network[1]}", scope="module")
def network(request):
    zoo, name, size = request.param
    if zoo == "yolo":
        needs_ultralytics()
    return built(zoo, name, size)


@pytest.mark.parametrize("rule", ["stages", "blocks"])
def test_taps_are_in_execution_order_from_4_to_60(network, rule):
    layers = network.choose(rule)
    names = [layer.name for layer in layers]
    assert 4 <= len(names) <= 60
    assert names == [name for name in every_map(network.trace) if name in names]
    depths = [layer.depth for layer in layers if layer.trunk]
    assert depths == sorted(depths)
    assert 0 < depths[0] < 0.3
    assert 0.75 <= depths[-1] <= 1
    assert all(layer.channels > 1 for layer in layers)
    assert all(max(layer.grid) > 1 for layer in layers)


def test_every_stride_of_the_trunk_has_a_tap(network):
    """Every map of the trunk but those within a block, where attention has grids of its own."""
    units = _blocks(network.model, network.trace)
    grids = {
        call.layout.grid
        for name, call in network.trace.calls.items()
        if call.trunk and call.layout and max(call.layout.grid) > 1
        if not any(name.startswith(f"{unit}.") for unit in units)
    }
    for rule in ("stages", "blocks"):
        layers = network.choose(rule)
        inside = {name for layer in layers for name in network.trace.calls
                  if name.startswith(f"{layer.name}.")}  # fmt: skip
        missing = grids - {layer.grid for layer in layers}
        assert all(
            call.name in inside
            for call in network.trace.calls.values()
            if call.trunk and call.layout and call.layout.grid in missing
        )


def test_every_map_can_be_described(network):
    rows, columns = network.preprocessing.size
    for name in every_map(network.trace):
        layer = describe(network.trace, name)
        assert layer.name == name
        assert 0 <= layer.depth <= 1
        assert layer.stride == pytest.approx(rows / layer.grid[0], abs=1e-6)
        assert layer.grid[0] <= rows
        assert layer.grid[1] <= columns


def test_rules_agree_with_themselves(network):
    """A rule gives names that, given as names, are the same layers."""
    assert network.choose([layer.name for layer in network.layers]) == network.layers


# the trunk of a detector is the network within


def depth(zoo, name, layer, size=64):
    trace = built(zoo, name, size).trace
    assert trace.calls[layer].trunk
    return trace.depth(layer)


RESNETS = [f"{name}_resnet50_fpn" for name in ("fasterrcnn", "retinanet", "fcos", "maskrcnn")]
SEGMENTERS = ["fcn_resnet50", "deeplabv3_resnet50"]


@pytest.mark.parametrize("name", [*RESNETS, "retinanet_resnet50_fpn_v2"])
@pytest.mark.parametrize("layer", ["relu", "layer1", "layer2.0", "layer3", "layer4"])
def test_a_resnet_within_a_detector_has_its_own_depths(name, layer):
    alone = depth("torchvision", "resnet50", layer)
    assert depth("torchvision", name, f"backbone.body.{layer}", 128) == alone
    assert depth("timm", "resnet50", layer.replace("relu", "act1")) == alone


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("layer", ["relu", "layer1", "layer3", "layer4"])
def test_a_resnet_within_a_segmenter_has_its_own_depths(name, layer):
    alone = depth("torchvision", "resnet50", layer)
    assert depth("torchvision", name, f"backbone.{layer}") == alone


@pytest.mark.parametrize(
    ("alone", "within"),
    [
        ("features.3", "features.3"),  # conv1_2
        ("features.22", "features.22"),  # conv4_3
        ("features.22", "features"),
        ("features.29", "extra.0.5"),  # conv5_3
    ],
)
def test_the_vgg_within_ssd300_has_its_own_depths(alone, within):
    expected = depth("torchvision", "vgg16", alone)
    assert depth("torchvision", "ssd300_vgg16", f"backbone.{within}", 300) == expected


@pytest.mark.parametrize("block", [1, 3, 6, 12, 15, 16])
def test_a_mobilenet_within_a_detector_has_its_own_depths(block):
    alone = depth("torchvision", "mobilenet_v3_large", f"features.{block}")
    in_faster = "fasterrcnn_mobilenet_v3_large_320_fpn"
    assert depth("torchvision", in_faster, f"backbone.body.{block}", 128) == alone
    in_lite = f"backbone.features.0.{block}" if block < 13 else f"backbone.features.1.{block - 13}"
    assert depth("torchvision", "ssdlite320_mobilenet_v3_large", in_lite, 192) == alone


@pytest.mark.parametrize("name", [*RESNETS, "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
@pytest.mark.parametrize("rule", ["stages", "blocks"])
def test_necks_are_branches_and_heads_are_not_chosen(name, rule):
    size = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 192}.get(name, 128)
    layers = built("torchvision", name, size).choose(rule)
    branches = [layer for layer in layers if not layer.trunk]
    assert branches
    assert all(layer.depth == 1.0 for layer in branches)
    necks = ("backbone.fpn.", "backbone.extra.")
    assert all(layer.name.startswith(necks) for layer in branches)
    assert not any(layer.name.startswith(("rpn", "roi_heads", "head")) for layer in layers)


def test_the_vgg_of_timm_is_as_deep_as_that_of_torchvision():
    """timm counts its fully connected layers, as convolutions, apart from its classifier."""
    assert depth("timm", "vgg16", "features.29") == depth("torchvision", "vgg16", "features.29")
