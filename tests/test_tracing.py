"""Depth, order and stride of a network whose calls were counted by hand."""

import pytest
import torch
from torch import nn

from cavalcade.backbones.maps import MapLayout
from cavalcade.backbones.tracing import hooked, trace


class Counted(nn.Module):
    """Four weight-bearing calls in the trunk (one module twice), then a long head."""

    def __init__(self, head_layers=10):
        super().__init__()
        self.idle = nn.Conv2d(3, 3, 1)
        self.head = nn.Sequential(*(nn.Linear(8, 8) for _ in range(head_layers)))
        self.last = nn.Conv2d(8, 8, 1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU())
        self.pair = nn.Module()
        self.pair.forward = lambda x: torch.cat([x, x], dim=1)
        self.pack = nn.Module()
        self.pack.forward = lambda x: {"map": x}

    def forward(self, x):
        x = self.twice(self.twice(self.stem(x)))
        x = self.pack(self.last(self.pair(x)))["map"]
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def watched():
    return trace(Counted().eval(), (32, 64), head=("head",))


def test_calls_are_in_the_order_in_which_they_end(watched):
    trunk = [call.name for call in watched.calls.values() if call.trunk]
    assert trunk == ["stem.0", "stem.1", "stem", "twice", "pair", "last", "pack"]
    assert [call.order for call in watched.calls.values()] == list(range(len(watched.calls)))


def test_what_does_not_run_is_not_there(watched):
    assert "idle" not in watched.calls


@pytest.mark.parametrize(
    ("name", "depth"),
    [("stem.0", 1 / 4), ("stem", 1 / 4), ("twice", 2 / 4), ("pair", 3 / 4), ("last", 1.0)],
)
def test_depth_counts_calls_of_the_trunk(watched, name, depth):
    assert watched.trunk_calls == 4
    assert watched.depth(name) == depth


@pytest.mark.parametrize("head_layers", [1, 10, 100])
def test_a_long_head_does_not_stretch_the_trunk(head_layers):
    watched = trace(Counted(head_layers).eval(), (32, 32), head=("head",))
    assert watched.depth("twice") == 0.5
    assert watched.depth("head") == 1.0
    assert not watched.calls["head"].trunk
    assert not watched.calls["head.0"].trunk


def test_what_ends_after_the_head_begins_is_outside_of_the_trunk():
    model = nn.Sequential()
    for name in ("body", "neck", "on_top"):
        model.add_module(name, nn.Conv2d(3, 3, 1))
    model.add_module("act", nn.ReLU())
    watched = trace(model, (4, 4), head=("neck",))
    assert [call.trunk for call in watched.calls.values()] == [True, False, False, False]


def test_attention_counts_as_one_call():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.mlp = nn.Linear(8, 8)

        def forward(self, x):
            x = self.embed(x).flatten(2).mT
            return self.mlp(self.attention(x, x, x)[0])

    watched = trace(Attends().eval(), (16, 32))
    assert watched.trunk_calls == 3
    assert watched.depth("attention") == pytest.approx(2 / 3)
    assert watched.layout("attention") == MapLayout("tokens", 8, (4, 8))


def test_a_network_may_be_run_another_way():
    model = Counted().eval()
    watched = trace(model, (32, 64), run=lambda model, images: model.stem(images))
    assert list(watched.calls) == ["stem.0", "stem.1", "stem"]
    assert watched.trunk_calls == 1


def test_a_head_that_is_not_declared_counts():
    assert trace(Counted(6).eval(), (32, 32)).depth("last") == 0.4


def test_a_name_that_begins_like_the_head_is_of_the_trunk():
    model = nn.Sequential()
    model.add_module("fc_in", nn.Conv2d(3, 2, 1))
    model.add_module("fc", nn.Conv2d(2, 2, 1))
    watched = trace(model, (4, 4), head=("fc",))
    assert watched.calls["fc_in"].trunk
    assert watched.trunk_calls == 1


def test_stride_and_shape(watched):
    assert watched.stride("stem") == 4.0
    assert watched.calls["stem"].shape == (1, 4, 8, 16)
    assert watched.calls["last"].shape == (1, 8, 8, 16)


def test_maps_have_height_and_width(watched):
    assert watched.layout("last") == MapLayout("channels_first", 8, (8, 16))
    assert watched.layout("pack") == watched.layout("last")  # the first of a dictionary
    assert watched.calls["head"].layout is None  # (images, channels)


def test_watching_leaves_nothing_behind():
    model = Counted().eval()
    trace(model, (32, 32))
    assert all(not module._forward_hooks for module in model.modules())


def test_hooks_get_name_module_and_output_and_then_go():
    model = Counted().eval()
    seen = []
    with hooked(model, ["last", "stem"], lambda *call: seen.append(call)):
        output = model(torch.ones(1, 3, 8, 8))
    assert [(name, module) for name, module, _ in seen] == [
        ("stem", model.stem),
        ("last", model.last),
    ]
    assert torch.equal(model.head(seen[1][2].mean(dim=(2, 3))), output)
    assert all(not module._forward_hooks for module in model.modules())


def test_hooks_go_after_an_error():
    model = Counted().eval()
    with pytest.raises(KeyError), hooked(model, ["last", "stem"], lambda *_: None):
        raise KeyError
    assert all(not module._forward_hooks for module in model.modules())


def test_an_unknown_name_hooks_nothing():
    model = Counted().eval()
    with pytest.raises(AttributeError), hooked(model, ["last", "nowhere"], lambda *_: None):
        raise AssertionError("unreached")
    assert all(not module._forward_hooks for module in model.modules())
