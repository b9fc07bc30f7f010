"""A compiled forward: the same taps, on a network that is left as it was."""

import pytest
import torch

from cavalcade.errors import InputError
from tiny import tiny_backbone, tiny_data, tiny_faces, tiny_visit

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler


@pytest.fixture(scope="module")
def compiled():
    backbone = tiny_backbone()
    backbone.compile_taps()
    return backbone


def images(count, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 3])
def test_taps_are_those_of_the_network(compiled, count):
    for _ in range(2):  # twice in a row, so it is compiled
        compiled(images(4))
    inputs, plain = images(count, seed=1), tiny_backbone()
    before = inputs.clone()
    found = compiled(inputs)
    expected = plain(inputs)
    assert list(found) == list(expected)
    for name, maps in expected.items():
        torch.testing.assert_close(found[name], maps, rtol=1e-5, atol=1e-5)
    assert torch.equal(inputs, before)
    assert compiled.weights_fingerprint() == plain.weights_fingerprint()
    assert not any(module._forward_hooks for module in compiled.model.modules())


@pytest.mark.slow
def test_casts_of_autocast_are_compiled_too():
    backbone, plain = tiny_backbone(), tiny_backbone()
    backbone.compile_taps()
    with torch.autocast("cpu", torch.bfloat16):
        backbone(images(4))
        found, expected = backbone(images(4)), plain(images(4))
    for name, maps in expected.items():
        assert found[name].dtype == maps.dtype == torch.bfloat16
        torch.testing.assert_close(found[name].float(), maps.float(), rtol=0.05, atol=0.05)


def test_it_is_another_network_to_a_digest():
    backbone = tiny_backbone()
    plain = backbone.identity()
    backbone.compile_taps()
    assert backbone.identity() == plain | {"compiled": True}


def test_what_cannot_be_compiled_is_a_sentence(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler was found.\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    backbone = tiny_backbone()
    backbone.compile_taps()
    expected = r"tiny cannot be compiled \(no C\+\+ compiler was found\); set compile=false"
    backbone(images(2))
    with pytest.raises(InputError, match=expected):
        backbone(images(2))


def test_running_out_of_memory_is_left_to_those_who_halve(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(torch, "compile", broken)
    backbone = tiny_backbone()
    backbone.compile_taps()
    backbone(images(2))
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory"):
        backbone(images(2))


@pytest.fixture
def compiled_sizes(monkeypatch):
    """How many images went through what was compiled, each time."""
    seen = []

    def eager(graph, **_):
        def run(inputs):
            seen.append(len(inputs))
            return graph(inputs)

        return run

    monkeypatch.setattr(torch, "compile", eager)
    return seen


def test_batches_of_a_visit_are_compiled_and_their_last_is_not(tmp_path, compiled_sizes):
    backbone = tiny_backbone()
    backbone.compile_taps()
    data = tiny_data(backbone, tiny_faces(train=14))
    tiny_visit(tmp_path, backbone, data=data)
    assert len(compiled_sizes) >= 3
    assert set(compiled_sizes) == {4}


def test_parts_of_batches_are_compiled_in_turn(compiled_sizes):
    backbone = tiny_backbone()
    backbone.compile_taps()
    for size in (8, 4, 8, 4, 8, 4, 2):  # of batches of twelve, and a last one
        backbone(images(size))
    assert set(compiled_sizes) == {8, 4}
