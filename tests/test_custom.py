"""A network of the user's own: found, built, described, and every mistake named."""

import json
import re
import sys

import pytest
import torch
from torch import nn

from cavalcade.backbones import custom_backbone
from cavalcade.errors import InputError

HERE = "test_custom"


def exactly(message):
    return f"^{re.escape(message)}$"


class Own(nn.Module):
    """A stem; then channels last, tokens with one before them, and a tuple; a neck; a head."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.last = nn.Linear(width, width)
        self.tokens = nn.Linear(width, width)
        self.pair = Pair(width)
        self.neck = nn.Conv2d(width, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.last(self.stem(x).permute(0, 2, 3, 1))
        rows, columns = x.shape[1:3]
        x = x.flatten(1, 2)
        x = self.tokens(torch.cat([x[:, :1], x], dim=1))[:, 1:]
        x = self.pair(x.mT.unflatten(2, (rows, columns)))[0]
        return self.head(self.neck(x).mean(dim=(2, 3)))


class Pair(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x), x


def build(width=8):
    return Own(width)


def nothing():
    return "a network"


no_function = 3


def own(target=f"{HERE}.build", **settings):
    settings = {
        "image_size": (32, 48),
        "layers": ["stem", "last", "tokens", "pair", "neck"],
        "head": ["neck", "head"],
        "branches": ["neck"],
        **settings,
    }
    return custom_backbone(target, **settings)


def test_what_it_is():
    backbone = own()
    assert backbone.label == "test_custom"  # the last part that is not build
    assert not backbone.random
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    layers = {layer.name: layer for layer in backbone.layers}
    grids = {name: layer.grid for name, layer in layers.items()}
    assert grids == {"stem": (8, 12), "last": (8, 12), "tokens": (8, 12)} | dict.fromkeys(
        ("pair", "neck"), (4, 6)
    )
    assert [layer.depth for layer in backbone.layers] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [layer.trunk for layer in backbone.layers] == [True, True, True, True, False]
    own_preprocessing = backbone.preprocessing
    assert own_preprocessing.size == (32, 48)
    assert own_preprocessing.mean == (0.485, 0.456, 0.406)


def test_maps_of_every_layout():
    backbone = own()
    model, inputs = backbone.model, torch.rand(3, 3, 32, 48)
    taps = backbone(inputs)
    with torch.no_grad():
        stem = model.stem(inputs)
        last = model.last(stem.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        tokens = model.tokens(last.flatten(2).mT).mT.unflatten(2, (8, 12))
        pair = model.pair.conv(tokens)
        expected = [stem, last, tokens, pair, model.neck(pair)]
    for tap, theirs in zip(taps.values(), expected, strict=True):
        torch.testing.assert_close(tap, theirs)


def test_branches_are_chosen_by_rules():
    backbone = own(layers="blocks")
    assert "neck" in backbone.names
    assert "neck" not in own(layers="blocks", branches=()).names
    assert not any(name.startswith("head") for name in backbone.names)


@pytest.mark.parametrize(
    ("target", "label", "expected"),
    [
        (f"{HERE}.build", None, "test_custom"),
        (f"{HERE}.Own", None, "Own"),
        (f"{HERE}.Own", "mine", "mine"),
    ],
)
def test_labels(target, label, expected):
    assert own(target, label=label).label == expected
    assert own(target, label=label, weights="random").label == f"{expected}-random"


def test_arguments_reach_the_target():
    assert own(arguments={"width": 11}).layers[0].channels == 11


def test_settings_of_the_image_reach_the_preprocessing():
    own_preprocessing = own(
        crop_mode="letterbox", crop_pct=0.5, interpolation="nearest", mean=[0.0] * 3, std=[1.0] * 3
    ).preprocessing
    assert own_preprocessing.crop_mode == "letterbox"
    assert own_preprocessing.crop_pct == 0.5
    assert own_preprocessing.interpolation == "nearest"
    assert own_preprocessing.mean == (0.0, 0.0, 0.0)
    assert own_preprocessing.std == (1.0, 1.0, 1.0)


# weights


def test_random_weights_are_seeded():
    before = torch.random.get_rng_state()
    backbone = own(weights="random")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert backbone.random
    torch.manual_seed(99)
    assert own(weights="random").weights_fingerprint() == backbone.weights_fingerprint()
    assert own(weights="random", seed=1).weights_fingerprint() != backbone.weights_fingerprint()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_weights_of_a_file(tmp_path, suffix):
    state = Own().state_dict()
    torch.save({"state_dict": state}, tmp_path / f"run{suffix}")
    backbone = own(weights=str(tmp_path / f"run{suffix}"))
    assert backbone.label == "test_custom-run"
    assert not backbone.random
    loaded = backbone.model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_weights_that_do_not_fit(tmp_path):
    torch.save(Own(width=9).state_dict(), tmp_path / "run.pth")
    with pytest.raises(InputError, match=r"do not fit the network: .* mis-shaped"):
        own(weights=str(tmp_path / "run.pth"))


# mistakes


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_package.build", "No module named 'no_such_package'"),
        (f"{HERE}.biuld", "module 'test_custom' has no attribute 'biuld'"),
        ("build", "Empty module name"),
        ("", "Empty module name"),
        ("..build", "the 'package' argument is required to perform a relative import for '.'"),
    ],
)
def test_a_target_that_is_not_there(target, reason):
    with pytest.raises(
        InputError,
        match=exactly(
            f"backbone.target {target} cannot be imported ({reason}); give "
            "package.module.function of a module in the present folder or on the PYTHONPATH"
        ),
    ):
        own(target)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence\\nsecond line')", "no licence"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("1 +", "invalid syntax (failing.py, line 1)"),
        ("raise KeyError", "KeyError"),
    ],
)
def test_a_target_whose_module_fails(tmp_path, monkeypatch, code, reason):
    (tmp_path / "failing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    message = f"backbone.target failing.build cannot be imported ({reason}); give"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        own("failing.build")


@pytest.mark.parametrize(("target", "kind"), [("no_function", "int"), ("HERE", "str")])
def test_a_target_that_cannot_be_called(target, kind):
    message = f"backbone.target {HERE}.{target} is {kind}, no function"
    with pytest.raises(InputError, match=exactly(message)):
        own(f"{HERE}.{target}")


def test_a_target_that_returns_no_network():
    message = f"backbone.target {HERE}.nothing returns str, not a torch.nn.Module"
    with pytest.raises(InputError, match=exactly(message)):
        own(f"{HERE}.nothing")


def test_arguments_that_it_does_not_take():
    with pytest.raises(
        InputError,
        match=r"^backbone\.target test_custom\.build cannot be called \(TypeError: .*unexpected "
        r"keyword argument 'depth'\); mend it, or set backbone\.arguments$",
    ):
        own(arguments={"depth": 3})


@pytest.mark.parametrize("mean", [[0.5], [0.1, 0.2, 0.3, 0.4]])
def test_a_mean_that_is_not_of_three_channels(mean):
    message = f"backbone.mean is {mean}; give three numbers, of R, G and B"
    with pytest.raises(InputError, match=exactly(message)):
        own(mean=mean)


def test_an_unknown_head():
    message = "backbone.head names 'nek', which test_custom.build has not; closest: neck"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        own(head=["nek"])


def broken():
    raise KeyError("width")


def test_a_target_that_fails():
    with pytest.raises(InputError, match=r"broken cannot be called \(KeyError: 'width'\); mend it"):
        own(target=f"{HERE}.broken")


class OfTwo(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_network_of_two_inputs():
    with pytest.raises(
        InputError,
        match=r"^OfTwo cannot take images of 32 x 48 pixels \(.*'y'\); give a network that takes "
        r"\(images, 3, height, width\) and nothing else$",
    ):
        own(target=f"{HERE}.OfTwo", head=[])


class Bent(nn.Sequential):
    """Of one architecture and one set of weights, whatever its forward does."""

    def __init__(self, bend):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
        self.bend = bend

    def forward(self, x):
        return super().forward(x * self.bend)


def test_arguments_and_head_are_part_of_what_a_network_is():
    def identity(bend, **settings):
        backbone = own(
            target=f"{HERE}.Bent",
            arguments={"bend": bend},
            layers=["0", "1"],
            **{"head": [], **settings},
        )
        backbone.weights_fingerprint = lambda: "equal"
        return json.dumps(backbone.identity(), sort_keys=True)

    assert identity(1.0) == identity(1.0)
    assert len({identity(1.0), identity(2.0), identity(1.0, head=["1"])}) == 3


def test_what_a_forward_does_is_part_of_what_a_network_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number, does in enumerate(("relu", "sigmoid", "relu")):
        code = (
            "import torch\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.conv = torch.nn.Conv2d(3, 4, 3)\n"
            "    def forward(self, x):\n"
            f"        return torch.{does}(self.conv(x))\n"
        )
        place = tmp_path / str(number)
        place.mkdir()
        (place / "net_of_mine.py").write_text(code)
        monkeypatch.syspath_prepend(place)
        sys.modules.pop("net_of_mine", None)
        backbone = own(target="net_of_mine.Net", layers=["conv"], head=[], label="net")
        found.append(backbone.identity()["settings"])
    sys.modules.pop("net_of_mine")
    assert found[0] == found[2]
    assert found[0] != found[1]


def test_networks_of_other_arguments_draw_other_weights():
    one, two = (
        own(
            target=f"{HERE}.Bent", arguments={"bend": bend}, layers=["0"], head=[], weights="random"
        )
        for bend in (1.0, 2.0)
    )
    assert not torch.equal(one.model[0].weight, two.model[0].weight)


@pytest.mark.parametrize("std", [[0.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
def test_a_deviation_that_is_none(std):
    with pytest.raises(InputError, match=r"^backbone\.std is .*; give numbers above 0$"):
        own(std=std)


def test_images_that_it_cannot_take():
    with pytest.raises(
        InputError,
        match=r"^test_custom cannot take images of 2 x 2 pixels \(.+\); set another "
        r"backbone\.image_size$",
    ):
        own(image_size=2)
