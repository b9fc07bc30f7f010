"""Which precision a trainer's network gets, and what of it enters a run's digest."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from cavalcade.errors import InputError
from cavalcade.visiting import trainers as module
from cavalcade.visiting.trainers import Trainers, computes_in_bfloat16, device_of
from tiny import quiet_trainer

CPU = torch.device("cpu")


def asked(**settings):
    return Trainers(partial(Trainer, accelerator="cpu", enable_progress_bar=False, **settings))


@pytest.mark.parametrize(("has", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_what_is_fastest_on_the_device(monkeypatch, has, expected):
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda _: has)
    trainers = asked(precision="auto")
    assert trainers.precision == expected
    assert trainers().precision == expected
    assert trainers.identity() == {"precision": expected}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "32-true"),
        ({"precision": "32"}, "32-true"),
        ({"precision": "bf16-mixed"}, "bf16-mixed"),
        ({"precision": "16-mixed"}, "16-mixed"),
    ],
)
def test_what_is_given_is_taken(monkeypatch, given, expected):
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda _: True)
    trainers = asked(**given)
    assert trainers.precision == expected
    assert trainers.identity()["precision"] == expected


def test_the_ways_to_ask_for_full_precision_are_one_run():
    digests = [asked(**given).identity() for given in ({}, {"precision": "32"})]
    assert digests[0] == digests[1]


def test_a_precision_that_changes_the_network_is_refused():
    with pytest.raises(InputError, match="precision is '64-true'; give one of auto, 32-true"):
        asked(precision="64-true").check()


def test_float16_without_a_gpu_is_refused():
    with pytest.raises(InputError, match="precision=16-mixed needs a GPU; give auto, bf16-mixed"):
        asked(precision="16-mixed").check()


@pytest.mark.parametrize("extension", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_cpu_has_bfloat16_by_either_extension(monkeypatch, extension):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == extension)
    assert computes_in_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, extension, lambda: False)
    assert not computes_in_bfloat16(CPU)


def test_without_a_cuda_device_all_runs_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {device_of(name) for name in ("auto", "gpu", "cpu")} == {CPU}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == "cuda"
    assert device_of("cpu") == CPU


def test_trainers_of_tests_are_in_full_precision():
    assert Trainers(quiet_trainer).precision == "32-true"
