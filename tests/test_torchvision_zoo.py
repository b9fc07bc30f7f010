"""The adapter of torchvision: names, weights, sizes, and what of a network runs."""

import os
import pickle
import re
import socket
import zipfile

import pytest
import torch
from torch import hub
from torchvision.models import get_model, get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from cavalcade.backbones import torchvision_backbone, torchvision_zoo
from cavalcade.errors import InputError
from zoo import built

SMALL = "mobilenet_v3_small"
DETECTOR = "fasterrcnn_mobilenet_v3_large_320_fpn"
DETECTORS = [
    ("fasterrcnn_resnet50_fpn", 128),
    ("fcos_resnet50_fpn", 128),
    ("retinanet_resnet50_fpn", 128),
    ("maskrcnn_resnet50_fpn", 128),
    ("ssdlite320_mobilenet_v3_large", 192),
]


def exactly(message):
    return f"^{re.escape(message)}$"


def small(**settings):
    return torchvision_backbone(SMALL, **{"weights": "random", "image_size": 64, **settings})


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# names


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet51", "resnet50"),
        ("fasterrcnn_resnet50", "fasterrcnn_resnet50_fpn"),
        ("fcn_resnet18", "fcn_resnet101"),
    ],
)
def test_an_unknown_name_gets_the_closest(name, near):
    with pytest.raises(
        InputError, match=rf"^torchvision has no network '{name}'; closest: .*{near}"
    ):
        torchvision_backbone(name, weights="random")


@pytest.mark.parametrize("name", ["r3d_18", "quantized_resnet18", ""])
def test_networks_of_videos_and_whole_numbers_are_none(name):
    with pytest.raises(InputError, match=f"^torchvision has no network '{name}'; "):
        torchvision_backbone(name, weights="random")


@pytest.mark.parametrize("label", [None, "mine"])
def test_the_label_tells_weights_apart(tmp_path, label):
    path = tmp_path / "my_run.pth"
    torch.save(small().model.state_dict(), path)
    name = label or SMALL
    assert small(label=label).label == f"{name}-random"
    assert small(label=label, weights=str(path)).label == f"{name}-my_run"


# weights


def test_random_weights_are_seeded_and_said_to_be_random():
    backbone, again = small(), small()
    assert backbone.random
    assert same(backbone.model.state_dict(), again.model.state_dict())
    other = small(seed=1).model.state_dict()
    assert not torch.equal(other["features.0.0.weight"], again.model.features[0][0].weight)


@pytest.mark.parametrize("name", [DETECTOR, "ssdlite320_mobilenet_v3_large", "fcn_resnet50"])
def test_random_means_that_nothing_is_downloaded(cut_off, name):
    torchvision_backbone(name, weights="random", image_size=128)
    assert cut_off == []


def test_a_detector_of_a_file(tmp_path):
    torch.manual_seed(5)
    model = get_model(DETECTOR, weights=None, weights_backbone=None).eval()
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    backbone = torchvision_backbone(DETECTOR, weights=str(tmp_path / "mine.pth"), image_size=128)
    assert not backbone.random
    assert backbone.label == f"{DETECTOR}-mine"
    assert same(backbone.model.state_dict(), model.state_dict())
    inputs = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        expected = model.backbone(inputs)
    tap = backbone(inputs)["backbone.fpn.layer_blocks.0"]
    torch.testing.assert_close(tap, expected["0"], rtol=1e-4, atol=1e-5)


def test_a_detector_of_a_file_of_torchvision(tmp_path):
    """Those have frozen BatchNorms, which count no batches."""
    state = get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None).state_dict()
    published = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    assert len(published) < len(state)
    torch.save(published, tmp_path / "own.pth")
    backbone = torchvision_backbone(
        "fasterrcnn_resnet50_fpn", weights=str(tmp_path / "own.pth"), image_size=64
    )
    assert same({n: backbone.model.state_dict()[n] for n in published}, published)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inputs_are_those_that_weights_of_torchvision_expect(name, tmp_path):
    random = torchvision_backbone(name, weights="random", image_size=96)
    torch.save(random.model.state_dict(), tmp_path / "own.pth")
    loaded = torchvision_backbone(name, weights=str(tmp_path / "own.pth"), image_size=96)
    assert (random.model.transform_input, loaded.model.transform_input) == (False, True)


def test_images_arrive_as_the_chosen_weights_expect(monkeypatch):
    monkeypatch.setattr(
        torchvision_zoo, "get_model", lambda name, **_: get_model(name, weights=None)
    )
    own = torchvision_backbone("regnet_y_16gf", weights="IMAGENET1K_SWAG_E2E_V1", layers="stem")
    assert own.preprocessing.size == (384, 384)
    assert own.preprocessing.interpolation == "bicubic"


def test_no_pool_is_a_stage():
    """An adaptive one would upsample small maps."""
    strides = [layer.stride for layer in built("torchvision", "vgg11", 64).layers]
    assert strides == sorted(strides)


def test_weights_of_another_detector(tmp_path):
    torch.save(small().model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"do not fit the network: .* missing .* unexpected"):
        torchvision_backbone(DETECTOR, weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("weights", ["IMAGENET1K_V3", "imagenet", "COCO_V1", "Pretrained"])
def test_unknown_weights(weights):
    with pytest.raises(
        InputError,
        match=exactly(
            f"torchvision has no weights {weights!r} of mobilenet_v3_small; there are: pretrained, "
            "random, IMAGENET1K_V1; or give a .pth, .pt, .safetensors file"
        ),
    ):
        small(weights=weights)


@pytest.mark.parametrize("weights", ["missing.pth", "weights.txt"])
def test_a_file_that_is_none(weights):
    with pytest.raises(InputError, match=rf"^backbone\.weights is '{weights}', which is no \.pth"):
        small(weights=weights)


def test_known_weights_of_an_unknown_network():
    with pytest.raises(InputError, match=r"^torchvision has no network 'resnet51'"):
        torchvision_backbone("resnet51", weights="IMAGENET1K_V1")


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """A machine without a network, on which nothing was downloaded; the hosts looked up."""
    asked = []

    def getaddrinfo(host, *_args, **_kwargs):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return asked


@pytest.mark.parametrize(
    ("name", "weights"), [(SMALL, "pretrained"), (SMALL, "IMAGENET1K_V1"), (DETECTOR, "pretrained")]
)
def test_without_a_network(cut_off, name, weights):
    reason = "<urlopen error [Errno -2] Name or service not known>"
    with pytest.raises(
        InputError,
        match=exactly(
            f"pretrained weights of {name!r} cannot be downloaded ({reason}); connect to the "
            "network, or set backbone.weights to a file or to random"
        ),
    ):
        torchvision_backbone(name, weights=weights)
    assert cut_off == ["download.pytorch.org"]


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The folder of earlier downloads, where torch looks first."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub/checkpoints"
    assert str(folder.parent) == hub.get_dir()
    folder.mkdir(parents=True)
    return folder


def file_of(name, downloads):
    return downloads / get_model_weights(name).DEFAULT.url.rpartition("/")[2]


def test_downloaded_weights_are_used(downloads):
    state = small(seed=7).model.state_dict()
    torch.save(state, downloads / "mobilenet_v3_small-047dcff4.pth")
    for weights, label in (("IMAGENET1K_V1", f"{SMALL}-IMAGENET1K_V1"), ("pretrained", SMALL)):
        backbone = small(weights=weights)
        assert backbone.label == label
        assert not backbone.random
        assert same(backbone.model.state_dict(), state)
    assert torchvision_zoo.NO_CODE not in os.environ


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "fasterrcnn_resnet50_fpn"])
def test_a_network_of_downloaded_weights_is_that_of_torchvision(downloads, name):
    """Which renames the layers of one, leaves out heads, freezes normalisations and their eps."""
    is_detector = name.startswith("faster")
    settings = {"weights_backbone": None} if is_detector else {}
    if name == "googlenet":
        settings |= {"init_weights": False, "aux_logits": True}
    torch.manual_seed(7)
    state = get_model(name, weights=None, **settings).state_dict()
    if name == "densenet121":  # as they were published
        names = {each: re.sub(r"(norm|conv)([12])\.", r"\1.\2.", each) for each in state}
        state = {names[n]: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    torch.save(state, file_of(name, downloads))
    settings.pop("aux_logits", None)
    expected = get_model(name, weights="DEFAULT", **settings)
    found = torchvision_backbone(name, image_size=64).model
    assert same(found.state_dict(), expected.state_dict())
    assert str(found) == str(expected)
    frozen = [part.eps for part in found.modules() if isinstance(part, FrozenBatchNorm2d)]
    assert frozen == ([0.0] * 53 if is_detector else [])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_zip(content, path):
    torch.save(content, path)


def as_pickles(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_packed_pickles(content, path):
    as_pickles(content, path.with_name("inner"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_name("inner"), "inner.pth")
    path.with_name("inner").unlink()


def as_damaged(content, path):
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[:200])


def as_other(content, path):  # noqa: ARG001
    torch.save({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize("write", [as_zip, as_pickles, as_packed_pickles, as_damaged, as_other])
def test_no_code_of_downloaded_weights_is_run(downloads, tmp_path, tried, write):
    """Also not of a file that lies where torch keeps its downloads."""
    path, harm = file_of(SMALL, downloads), tmp_path / "harm"
    write({"weight": torch.zeros(2), "more": Evil(harm)}, path)
    told = f"^weights {path} cannot be read as plain tensors of {SMALL} .*; delete it, and it is"
    with pytest.raises(InputError, match=told):
        small(weights="pretrained")
    assert not harm.exists()
    assert torchvision_zoo.NO_CODE not in os.environ
    if write in (as_zip, as_pickles):
        with pytest.raises((RuntimeError, pickle.UnpicklingError)):
            get_model(SMALL, weights="DEFAULT")
        assert harm.exists()  # torchvision alone runs it
    what = "downloaded weights that hold code, or are others"
    tried("code", what, "refused, and not run")


def test_a_damaged_download_is_not_kept(downloads, tmp_path, monkeypatch):
    torch.save(small().model.state_dict(), tmp_path / "other.pth")
    fetch = hub.download_url_to_file
    monkeypatch.setattr(
        hub,
        "download_url_to_file",
        lambda _, *rest, **kw: fetch((tmp_path / "other.pth").as_uri(), *rest, **kw),
    )
    with pytest.raises(InputError, match=r"cannot be downloaded \(invalid hash value"):
        small(weights="pretrained")
    assert list(downloads.iterdir()) == []


# sizes and crops


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("resnet18", {}, ("squash", (224, 224), 1.0)),
        ("resnet18", {"crop_mode": "center"}, ("center", (224, 224), 224 / 256)),
        ("resnet50", {"crop_mode": "center"}, ("center", (224, 224), 224 / 232)),
        ("resnet18", {"crop_mode": "center", "crop_pct": 0.5}, ("center", (224, 224), 0.5)),
        ("resnet18", {"image_size": [64, 96]}, ("squash", (64, 96), 1.0)),
        (DETECTOR, {}, ("corner", (640, 640), 1.0)),
        (DETECTOR, {"image_size": 128}, ("corner", (128, 128), 1.0)),
        (DETECTOR, {"image_size": 128, "crop_mode": "squash"}, ("squash", (128, 128), 1.0)),
        ("ssdlite320_mobilenet_v3_large", {}, ("squash", (320, 320), 1.0)),
    ],
)
def test_how_an_image_arrives(name, settings, expected):
    own = torchvision_backbone(name, weights="random", **settings).preprocessing
    assert (own.crop_mode, own.size, own.crop_pct) == expected


def test_mean_and_deviation_are_those_of_the_model():
    assert small().preprocessing.mean == (0.485, 0.456, 0.406)
    lite = built("torchvision", "ssdlite320_mobilenet_v3_large", 192).preprocessing
    assert lite.mean == lite.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", [SMALL, "resnet18", "vit_b_16", "fcn_resnet50", "googlenet"])
def test_heads_are_not_in_the_trunk(name):
    backbone = built("torchvision", name, 224 if name == "vit_b_16" else 64)
    heads = ("fc", "classifier", "aux_classifier", "heads")
    outside = [call.name for call in backbone.trace.calls.values() if not call.trunk]
    assert any(call.split(".")[0] in heads for call in outside)
    assert all(call.split(".")[0] in (*heads, "avgpool", "dropout") for call in outside)
    assert all(layer.trunk for layer in backbone.layers)


# what runs


@pytest.mark.parametrize(("name", "size"), DETECTORS)
def test_detectors_compute_no_boxes_and_stay_as_they_are(name, size):
    backbone = built("torchvision", name, size)
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    parts = ["transform", "rpn.anchor_generator", "anchor_generator", "roi_heads"]
    ran = []
    handles = [
        module.register_forward_hook(lambda *call: ran.append(type(call[0]).__name__))
        for part, module in backbone.model.named_modules()
        if part in parts
    ]
    taps = backbone(torch.rand(2, 3, size, size))
    for handle in handles:
        handle.remove()
    assert len(handles) >= 2
    assert ran == []
    assert tuple(taps) == backbone.names
    assert {len(tap) for tap in taps.values()} == {2}
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert same(backbone.model.state_dict(), before)


@pytest.mark.parametrize(("name", "size"), DETECTORS)
def test_the_convolutions_of_heads_can_be_tapped(name, size):
    trace = built("torchvision", name, size).trace
    heads = [
        call.name
        for call in trace.calls.values()
        if call.layout and call.name.startswith(("rpn.head", "head"))
    ]
    assert heads
    assert not any(trace.calls[head].trunk for head in heads)


@pytest.mark.parametrize(("name", "size"), DETECTORS[:3])
def test_maps_are_those_of_the_whole_detector(name, size):
    """Its own forward, of an image that its own transform leaves alone, box heads and all."""
    backbone = built("torchvision", name, size)
    model = backbone.model
    image = torch.rand(3, size, size)
    last = [layer.name for layer in backbone.layers if layer.trunk][-1]
    seen = []
    handle = model.get_submodule(last).register_forward_hook(lambda *call: seen.append(call[2]))
    own = model.transform.min_size, model.transform.max_size
    model.transform.min_size, model.transform.max_size = (size,), size
    with torch.no_grad():
        model([image])
    model.transform.min_size, model.transform.max_size = own
    handle.remove()
    mean, std = (
        torch.tensor(value)[:, None, None]
        for value in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    tap = backbone(((image - mean) / std)[None])[last]
    torch.testing.assert_close(tap, seen[0], rtol=1e-4, atol=1e-4)
