"""The adapter of YOLO: names, parts, and weights of all sorts, none of which runs code."""

import importlib
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from cavalcade.backbones import yolo_backbone, yolo_zoo
from cavalcade.backbones.yolo_zoo import _sizes
from cavalcade.errors import InputError
from fuzzing import Trap
from hardening import NOTHING_RAN
from zoo import built, needs_ultralytics

ultralytics = needs_ultralytics()
MODELS = Path(ultralytics.__file__).parent / "cfg/models"
NAMES = sorted(name for path in MODELS.rglob("yolo*.yaml") for name in _sizes(path))


def exactly(message):
    return f"^{re.escape(message)}$"


def yolo(name="yolov8n", **settings):
    return yolo_backbone(name, **{"weights": "random", "image_size": 64, **settings})


def own(name="yolov8n"):
    """As ultralytics itself builds it, with other weights than any of a seed."""
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False).model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# names


def test_known_names():
    assert {"yolov3", "yolov5s", "yolov8n-seg", "yolov8x-cls", "yolo11m", "yolov9e"} <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))
    assert not any("world" in name or "rtdetr" in name for name in NAMES)
    assert "yolo11-cls-resnet18" not in NAMES  # a download, of torchvision


def test_every_name_is_a_yaml_of_ultralytics():
    """Ultralytics finds the file of a size by taking its letter out of the name."""
    load = importlib.import_module("ultralytics.nn.tasks").yaml_model_load
    for name in NAMES:
        unified = load(f"{name}.yaml")
        scales = unified.get("scales")
        # of YOLOv10-B, whose letter it does not know, it takes the only size
        assert not scales or unified["scale"] in scales or list(scales) == ["b"], name
        assert len(unified["backbone"]) >= 4, name


@pytest.mark.parametrize(
    ("name", "near"), [("yolov5", "yolov5s"), ("yolo8n", "yolov8n"), ("yolov8n-seq", "yolov8n-seg")]
)
def test_an_unknown_name_gets_the_closest(name, near):
    with pytest.raises(InputError, match=rf"^ultralytics has no YOLO '{name}'; closest: .*{near}"):
        yolo(name)


@pytest.mark.parametrize("label", [None, "mine"])
def test_the_label_tells_weights_apart(tmp_path, label):
    torch.save(own().state_dict(), tmp_path / "run7.pt")
    name = label or "yolov8n"
    assert yolo(label=label).label == f"{name}-random"
    assert yolo(label=label, weights=str(tmp_path / "run7.pt")).label == f"{name}-run7"


# parts


@pytest.mark.parametrize(
    ("name", "trunk", "neck"),
    [
        ("yolov5s", 10, [10, 13, 14, 17, 18, 20, 21, 23]),
        ("yolov8n", 10, [12, 15, 16, 18, 19, 21]),
        ("yolov8n-seg", 10, [12, 15, 16, 18, 19, 21]),
        ("yolo11n", 11, [13, 16, 17, 19, 20, 22]),
        ("yolov8n-cls", 9, []),
    ],
)
def test_the_trunk_the_neck_and_the_head(name, trunk, neck):
    backbone = built("yolo", name, 64)
    parts = {layer.name: layer.trunk for layer in backbone.layers}
    assert parts == {f"model.{number}": number < trunk for number in [*range(trunk), *neck]}
    deepest = max(layer.depth for layer in backbone.layers if layer.trunk)
    assert deepest == 1.0
    assert backbone.random
    assert backbone.label == f"{name}-random"


@pytest.mark.parametrize(("name", "side"), [("yolov5s", 640), ("yolov8n-cls", 224)])
def test_the_default_is_the_size_of_the_model(name, side):
    preprocessing = yolo(name, image_size=None).preprocessing
    assert preprocessing.size == (side, side)
    assert preprocessing.crop_mode == "letterbox"
    assert not preprocessing.antialias
    assert (preprocessing.mean, preprocessing.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("size", [72, (64, 80)])
def test_sizes_at_which_the_neck_does_not_fit(size):
    height, width = (size, size) if isinstance(size, int) else size
    message = f"backbone.image_size is [{height}, {width}]; yolov8n takes multiples of 32 pixels"
    with pytest.raises(InputError, match=exactly(message)):
        yolo(image_size=size)


def test_taps_are_those_of_ultralytics_own_forward():
    backbone = built("yolo", "yolov8n", 64)
    inputs = torch.rand(2, 3, 64, 64)
    seen = []
    handle = backbone.model.model[9].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        backbone.model(inputs)
    handle.remove()
    torch.testing.assert_close(backbone(inputs)["model.9"], seen[0], rtol=1e-4, atol=1e-5)


def test_nothing_changes_it():
    backbone = built("yolo", "yolov5s", 64)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    backbone.train()
    backbone(torch.rand(2, 3, 64, 64))
    assert same(before, backbone.model.state_dict())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


# weights


def test_random_weights_are_those_of_seed_and_name():
    before = torch.random.get_rng_state()
    one = yolo().model.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(one, yolo().model.state_dict())
    other = yolo(seed=1).model.state_dict()
    assert not torch.equal(one["model.0.conv.weight"], other["model.0.conv.weight"])


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_plain_state_dict(tmp_path, suffix):
    model = own()
    torch.save(model.state_dict(), tmp_path / f"w{suffix}")
    backbone = yolo(weights=str(tmp_path / f"w{suffix}"))
    assert same(backbone.model.state_dict(), model.state_dict())
    assert not backbone.random


@pytest.mark.parametrize("key", ["model", "ema"])
def test_a_checkpoint_of_ultralytics(tmp_path, key):
    """Modules pickled whole, in half precision, as ultralytics saves them after training."""
    model = own().half()
    torch.save({"model": None, "ema": None, "epoch": 3, key: model}, tmp_path / "best.pt")
    backbone = yolo(weights=str(tmp_path / "best.pt"))
    assert backbone.label == "yolov8n-best"
    assert same(backbone.model.state_dict(), model.float().state_dict())


def version_7(**changed):
    """The state dict of YOLOv5 v7: trunk and neck of ultralytics' own, and another head."""
    state = {
        name: value for name, value in own("yolov5s").state_dict().items() if "model.24" not in name
    }
    state["model.24.anchors"] = torch.rand(3, 3, 2)
    for number, channels in enumerate((128, 256, 512)):
        state[f"model.24.m.{number}.weight"] = torch.rand(255, channels, 1, 1)
        state[f"model.24.m.{number}.bias"] = torch.rand(255)
    return state | changed


def test_yolov5_version_7(tmp_path, caplog):
    state = version_7()
    torch.save(state, tmp_path / "v7.pt")
    with caplog.at_level(logging.INFO, "cavalcade"):
        backbone = yolo("yolov5s", weights=str(tmp_path / "v7.pt"))
    whole = len(backbone.model.state_dict())
    assert (len(state), len(state) - 7) == (349, 342)
    assert caplog.messages == [
        f"{tmp_path / 'v7.pt'}: 342 of its 349 tensors fill 342 of the network's {whole}",
        "its head, model.24, differs and stays random",
    ]
    loaded = backbone.model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state if "model.24" not in name)
    assert not backbone.random
    # the head stays as the seed draws it
    drawn = built("yolo", "yolov5s", 64).model.state_dict()
    head = [name for name in drawn if name.startswith("model.24.")]
    assert head
    assert all(torch.equal(loaded[name], drawn[name]) for name in head)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model.25.conv.weight": torch.zeros(1)}, r"1 unexpected \(model\.25\.conv\.weight\)"),
        ({"model.0.conv.weight": torch.zeros(32, 3, 3, 3)}, r"1 mis-shaped \(model\.0\.conv"),
        # its number begins as the head's
        ({"model.240.weight": torch.zeros(1)}, r"1 unexpected \(model\.240\.weight\)"),
    ],
)
def test_another_trunk_is_refused(tmp_path, change, problem):
    torch.save(version_7(**change), tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"do not fit the network: {problem}"):
        yolo("yolov5s", weights=str(tmp_path / "w.pt"))


def test_a_missing_neck_is_refused(tmp_path):
    state = {name: value for name, value in version_7().items() if "model.23" not in name}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"missing \(model\.23\.cv1\.conv\.weight"):
        yolo("yolov5s", weights=str(tmp_path / "w.pt"))


def test_another_network_is_refused(tmp_path):
    torch.save(own("yolov8n").state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="do not fit the network"):
        yolo("yolo11n", weights=str(tmp_path / "w.pt"))


def unread(path):
    return exactly(
        f"weights {path} are neither a plain state dict nor a checkpoint that ultralytics "
        "reads without running code; save model.state_dict() alone"
    )


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"model": trap}])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, wrap, zipped, tried):
    path, sprung = tmp_path / "w.pt", tmp_path / "sprung"
    torch.save(wrap(Trap(sprung)), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=unread(path)):
        yolo(weights=str(path))
    assert not sprung.exists()
    tried("code", "code in weights", NOTHING_RAN)


def test_where_the_safe_loader_is_none(tmp_path, monkeypatch):
    """With torch before 2.6 ultralytics' own would run the code."""
    path, sprung = tmp_path / "w.pt", tmp_path / "sprung"
    torch.save({"model": Trap(sprung)}, path)
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    with pytest.raises(InputError, match=r"only torch 2\.6 or later reads them; update torch, or"):
        yolo(weights=str(path))
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", None])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "w.pt"
    torch.save({"model": own()}, path)
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InputError, match=unread(path)):
        yolo(weights=str(path))


def test_no_file():
    with pytest.raises(InputError, match=r"^backbone\.weights is 'w\.pt', which is no \.pth"):
        yolo(weights="w.pt")


# downloads


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub/checkpoints"


def test_without_a_network(weights_folder, monkeypatch):
    def getaddrinfo(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(
        InputError,
        match=r"^pretrained weights of 'yolov8n' cannot be downloaded \([^❌\n]+\); connect to the "
        r"network, or set backbone\.weights to a file or to random$",
    ):
        yolo(weights="pretrained")
    assert not list(weights_folder.glob("*.pt"))


@pytest.mark.parametrize(("name", "file"), [("yolov8n", "yolov8n.pt"), ("yolov5s", "yolov5su.pt")])
def test_what_was_downloaded_is_used(weights_folder, name, file):
    model = own(name)
    weights_folder.mkdir(parents=True)
    torch.save({"model": model}, weights_folder / file)
    backbone = yolo(name, weights="pretrained")
    assert backbone.label == name
    assert same(backbone.model.state_dict(), model.state_dict())


# the package


def test_without_ultralytics(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(
        InputError,
        match=exactly(
            "a YOLO needs the package ultralytics, which is licensed under AGPL-3.0; run "
            "pip install 'cavalcade[yolo]'"
        ),
    ):
        yolo_zoo.yolo_backbone("yolov8n")


def test_ultralytics_leaves_pillow_and_torch_alone():
    """Else a damaged image has it install packages."""
    yolo()
    assert Image.open.__module__ == "PIL.Image"
    assert torch.save.__module__ == "torch.serialization"


@pytest.mark.slow  # programs of its own
def test_ultralytics_is_imported_when_it_is_needed_and_silently(tmp_path):
    """On a machine that never had it, where it would write of its settings."""
    program = """
import sys
import cavalcade, cavalcade.backbones
assert "ultralytics" not in sys.modules
cavalcade.backbones.yolo_backbone("yolov8n", weights="random", image_size=64)
assert "ultralytics" in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if name != "YOLO_VERBOSE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
