"""A frozen network is never changed, and its taps are what the network computes."""

import copy
import json

import pytest
import torch
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing, timm_backbone
from cavalcade.errors import InputError

NAMES = ("stem", "norm", "act", "shared", "deep")


class Small(nn.Module):
    """Has what goes wrong: BatchNorm, an in-place ReLU after it, and a module called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.deep = nn.Conv2d(6, 9, 3, stride=2, padding=1)
        self.head = nn.Linear(9, 5)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.deep(self.shared(self.shared(x)))
        return self.head(x.mean(dim=(2, 3)))


def small_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Small()
        for tensor in (model.norm.weight, model.norm.bias, model.norm.running_mean):
            nn.init.normal_(tensor)
        return model


def frozen(model, layers=NAMES, size=(16, 24), mean=(0.0, 0.0, 0.0)):
    preprocessing = Preprocessing(size=size, mean=mean, std=(1.0, 1.0, 1.0))
    return FrozenBackbone(Network("small", model, preprocessing, head=("head",)), layers)


def random_images(count=3, size=(16, 24), seed=1):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def first_outputs(model, names, inputs):
    """The slow twin: a full forward with hooks of its own, and the network's output."""
    outputs = {}

    def keep(name, output):
        outputs.setdefault(name, output.clone())  # returns nothing: it would replace the output

    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: keep(name, output)
        )
        for name in names
    ]
    with torch.no_grad():
        result = model.eval()(inputs)
    for handle in handles:
        handle.remove()
    return outputs, result


def count_calls(module):
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def hooks_left(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def snapshot(model):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


@pytest.mark.parametrize("wake", [False, True])
def test_weights_and_buffers_stay_bit_identical(wake):
    backbone = frozen(small_model())
    before = snapshot(backbone.model)
    for seed in range(3):
        if wake:
            backbone.train()
        backbone(random_images(seed=seed))
    after = snapshot(backbone.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_train_does_not_wake_it():
    backbone = frozen(small_model())
    expected = backbone(random_images())
    assert backbone.train() is backbone
    assert not any(module.training for module in backbone.modules())
    holder = nn.Sequential(backbone).train()
    assert holder.training
    assert not any(module.training for module in backbone.modules())
    assert all(torch.equal(expected[name], tap) for name, tap in backbone(random_images()).items())


def test_no_parameter_asks_for_a_gradient():
    assert not any(parameter.requires_grad for parameter in frozen(small_model()).parameters())


def test_taps_carry_no_gradient_and_can_train_a_probe():
    probe = nn.Conv2d(9, 2, 1)
    tap = frozen(small_model())(random_images().requires_grad_())["deep"]
    assert not tap.requires_grad
    assert not tap.is_inference()
    probe(tap).square().mean().backward()
    assert probe.weight.grad.abs().sum() > 0


def test_no_graph_is_built_and_gradients_work_again_afterwards():
    backbone = frozen(small_model())
    graphs = []
    backbone.model.deep.register_forward_hook(lambda *call: graphs.append(call[2].grad_fn))
    backbone(random_images().requires_grad_())
    assert graphs == [None]
    assert torch.is_grad_enabled()


def test_taps_are_those_of_a_plain_forward():
    model = small_model()
    expected, _ = first_outputs(copy.deepcopy(model), NAMES, random_images())
    taps = frozen(model)(random_images())
    assert tuple(taps) == NAMES
    for name in NAMES:
        torch.testing.assert_close(taps[name], expected[name])


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_taps_of_a_real_network_are_those_of_a_plain_forward(name):
    backbone = timm_backbone(name, weights="random", layers="blocks", image_size=64)
    inputs = random_images(2, (64, 64)).contiguous(memory_format=torch.channels_last)
    expected, _ = first_outputs(backbone.model, backbone.names, inputs)
    taps = backbone(inputs)
    assert all(torch.equal(taps[name], expected[name]) for name in backbone.names)


def test_a_tap_before_an_in_place_relu_is_not_rewritten():
    taps = frozen(small_model(), ["norm", "deep"])(random_images())
    assert taps["norm"].min() < 0


def test_a_module_called_twice_keeps_its_first_output():
    model = small_model()
    backbone = frozen(model, ["act", "shared", "deep"])
    taps = backbone(random_images())
    with torch.no_grad():
        once = model.shared(taps["act"])
    torch.testing.assert_close(taps["shared"], once)
    assert not torch.allclose(taps["shared"], model.shared(once))


def test_changing_a_tap_changes_nothing_else():
    class Stored(nn.Module):
        """Hands out its input and its own buffer, as position maps do."""

        def __init__(self):
            super().__init__()
            self.same = nn.Identity()
            self.table = nn.ParameterList([torch.ones(1, 3, 4, 4)])
            self.stored = nn.Module()
            self.stored.forward = lambda: self.table[0]
            self.last = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.last(self.same(x) + self.stored())

    model = Stored()
    backbone = frozen(model, ["same", "stored", "last"], size=(4, 4))
    inputs = random_images(1, (4, 4)).contiguous(memory_format=torch.channels_last)
    kept = inputs.clone()
    output = model(inputs)
    for tap in backbone(inputs).values():
        tap.zero_()
    assert torch.equal(inputs, kept)
    assert torch.equal(model(inputs), output)


def test_the_forward_stops_after_the_deepest_tap():
    backbone = frozen(small_model(), ["act", "stem"])
    shallow, deep = count_calls(backbone.model.act), count_calls(backbone.model.shared)
    backbone(random_images())
    assert (len(shallow), len(deep)) == (1, 0)


def test_the_network_itself_runs_whole_afterwards():
    model = small_model()
    _, expected = first_outputs(copy.deepcopy(model), (), random_images())
    backbone = frozen(model, ["act"])
    backbone(random_images())
    torch.testing.assert_close(backbone.model(random_images()), expected)


def test_hooks_are_gone_afterwards():
    backbone = frozen(small_model())
    assert hooks_left(backbone.model) == 0
    backbone(random_images())
    assert hooks_left(backbone.model) == 0


def test_hooks_are_gone_after_an_error_in_the_network():
    def fail(*_):
        raise RuntimeError("out of memory")

    backbone = frozen(small_model())
    handle = backbone.model.deep.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        backbone(random_images())
    handle.remove()
    assert hooks_left(backbone.model) == 0
    assert tuple(backbone(random_images())) == NAMES


def test_images_that_the_network_cannot_take():
    with pytest.raises(
        InputError,
        match=r"^densenet121-random cannot take images of 8 x 8 pixels \(.+\); "
        r"set another backbone\.image_size$",
    ):
        timm_backbone("densenet121", weights="random", image_size=8)


def model_with_buffers():
    model = small_model()
    model.register_buffer("rough", torch.arange(6.0).reshape(2, 3).to(torch.bfloat16))
    model.register_buffer("seen", torch.tensor(7))
    model.register_buffer("flags", torch.tensor([True, False]))
    model.register_buffer("empty", torch.zeros(0, 3))
    return model


def test_fingerprint_is_of_the_weights_alone():
    first, second = frozen(model_with_buffers()), frozen(model_with_buffers(), ["act"])
    assert first.weights_fingerprint() == second.weights_fingerprint()
    first(random_images())
    assert first.weights_fingerprint() == second.weights_fingerprint()
    assert len(first.weights_fingerprint()) == 64


@pytest.mark.parametrize(
    "name", ["stem.weight", "norm.running_var", "norm.num_batches_tracked", "rough", "seen"]
)
def test_fingerprint_changes_with_one_value(name):
    backbone = frozen(model_with_buffers())
    before = backbone.weights_fingerprint()
    values = backbone.model.state_dict()[name]
    kept = values.clone()
    values[(0,) * values.ndim] += 1
    assert backbone.weights_fingerprint() != before
    values.copy_(kept)
    assert backbone.weights_fingerprint() == before


@pytest.mark.parametrize(
    "buffer", [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int32), torch.full((2, 3), -0.0)]
)
def test_fingerprint_sees_shapes_types_and_bits(buffer):
    backbone = frozen(small_model())
    backbone.model.register_buffer("extra", torch.zeros(2, 3))
    before = backbone.weights_fingerprint()
    backbone.model.extra = buffer
    assert backbone.weights_fingerprint() != before


def test_identity_is_of_all_that_changes_results():
    reference = frozen(small_model())
    same = frozen(small_model(), tuple(reversed(NAMES)))
    others = [
        frozen(small_model(seed=1)),
        frozen(small_model(), ["act", "deep"]),
        frozen(small_model(), size=(24, 16)),
        frozen(small_model(), mean=(0.5, 0.0, 0.0)),
    ]
    text = json.dumps(reference.identity(), sort_keys=True)
    assert json.dumps(same.identity(), sort_keys=True) == text
    assert len({text, *(json.dumps(o.identity(), sort_keys=True) for o in others)}) == 5
    assert [layer["name"] for layer in reference.identity()["layers"]] == list(NAMES)
