"""A device with too little memory: parts of batches are halved, and nothing counts twice."""

import functools
import logging
import warnings

import pytest
import torch

from cavalcade.concepts import Factorisation, Probes, probing
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.encoding import Encoding
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.probe_sample import ProbeSample
from cavalcade.concepts.row_sample import RowSample
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration
from cavalcade.errors import InputError
from cavalcade.sweeping import measure
from cavalcade.visiting.cost import seconds_per_image
from cavalcade.visiting.trainers import PRECISIONS, Trainers, autocast
from run_folders import assert_same_up_to_rounding
from tiny import out_of_memory, quiet_trainer, small_device, streamed, tiny_backbone, tiny_visit

METHODS = {
    "one_pass": Probes(),
    "stream": streamed(),
    "nmf": Factorisation(num_concepts=3, rows=400, restarts=1),
}


@pytest.mark.parametrize("method", METHODS)
def test_batches_are_halved_and_results_stay(tmp_path, caplog, method):
    ample = tiny_visit(tmp_path / "ample", method=METHODS[method])
    backbone = small_device(1)
    with caplog.at_level(logging.WARNING):
        small = tiny_visit(tmp_path / "small", backbone, method=METHODS[method])
    said = [r.message for r in caplog.records if "no memory for" in r.message]
    assert len(said) == 2  # four images, two, one
    assert "no memory for 4 images of tiny at once; 2 go through it" in said[0]
    assert backbone.images_at_once == 1
    assert_same_up_to_rounding(ample, small)


@pytest.mark.parametrize("method", ["one_pass", "stream"])
def test_what_was_seen_before_memory_ran_out_is_not_counted_twice(tmp_path, monkeypatch, method):
    """It runs out after the first layer of a batch, in every second call."""
    ample = tiny_visit(tmp_path / "ample", method=METHODS[method])
    encode, calls = ConceptSet.encode, []

    def failing(self, activations):
        calls.append(len(activations["2"]))
        if len(calls) % 3 == 2 and calls[-1] > 1:
            raise out_of_memory()
        return encode(self, activations)

    monkeypatch.setattr(ConceptSet, "encode", failing)
    small = tiny_visit(tmp_path / "small", method=METHODS[method])
    assert min(calls) == 1
    assert_same_up_to_rounding(ample, small)


@pytest.mark.parametrize("most", [1, 5])
def test_the_time_of_an_image_is_measured_on_a_small_device(most, caplog):
    backbone = small_device(most, timed=True)
    before = backbone.images_at_once
    assert 0 < seconds_per_image(backbone, 8) < 10
    assert f"; { ({1: 1, 5: 4}[most]) } go through it" in caplog.messages[-1]
    assert backbone.images_at_once == before  # the passes may run on another device
    assert "no memory for 8 images of tiny at once; 4 go through it" in caplog.text
    with pytest.raises(InputError, match="no memory for one image of tiny; set a smaller"):
        seconds_per_image(small_device(0, timed=True), 8)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_time_of_an_image_is_measured_in_the_precision_of_the_visit(precision):
    backbone, seen = tiny_backbone(), []
    backbone.model[3].register_forward_hook(lambda _, __, maps: seen.append(maps.dtype))
    seconds_per_image(backbone, 8, precision)
    assert set(seen) == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}


def test_a_visit_is_measured_as_it_will_run(tmp_path, monkeypatch):
    asked = []

    def measured(_, *how):
        asked.append(how)
        return 1.0

    monkeypatch.setattr("cavalcade.visiting.visit.seconds_per_image", measured)
    trainers = Trainers(functools.partial(quiet_trainer, precision="bf16-mixed"))
    tiny_visit(tmp_path, trainers=trainers)
    assert asked == [(4, "bf16-mixed", torch.device("cpu"))]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_jobs_of_other_precision_are_measured_apart(monkeypatch, precision):
    asked = []

    def measured(_, *how):
        asked.append(how)
        return 1.0

    monkeypatch.setattr(measure, "seconds_per_image", measured)
    trainer = {"_target_": "lightning.pytorch.Trainer", "_partial_": True, "accelerator": "cpu"}
    config = {
        "backbone": {"_target_": "tiny.tiny_backbone"},
        "batch_size": 4,
        "trainer": trainer | {"precision": precision},
    }
    measure._network(config)
    measure._network(config)
    assert asked == [(4, precision, torch.device("cpu"))]


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_precision_is_that_of_lightning(precision):
    cpu = torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 16-mixed becomes bf16-mixed on a CPU
        plugin = quiet_trainer(precision=precision).precision_plugin
    linear, inputs = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with plugin.forward_context():
        expected = linear(inputs).dtype
    with autocast(precision, cpu):
        assert linear(inputs).dtype == expected


def test_no_memory_for_one_image_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no memory for one image of tiny; set a smaller"):
        tiny_visit(tmp_path, small_device(0))
    assert not list(tmp_path.glob("*/probes/*"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("most", [0, 1])
def test_memory_that_runs_out_in_any_pass_is_a_sentence_or_goes_on(
    tmp_path, monkeypatch, method, most, tried
):
    """After the network itself, in what is made of its activations; for all passes in turn."""
    ample = tiny_visit(tmp_path / "ample", method=METHODS[method])
    looks = {
        "one_pass": [(ProbeSample, "_look"), (Encoding, "_look")],
        "stream": [(Survey, "_look"), (ProbeFit, "_gradients"), (ProbeFit, "_losses"),
                   (Calibration, "_look"), (Encoding, "_look")],
        "nmf": [(RowSample, "_look"), (Encoding, "_look")],
    }  # fmt: skip
    for number, (owner, name) in enumerate(looks[method]):
        work = getattr(owner, name)

        def scarce(self, batch, work=work):
            if len(batch.positions) > most:
                raise out_of_memory()
            return work(self, batch)

        place = tmp_path / str(number)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, scarce)
            if most:
                assert_same_up_to_rounding(ample, tiny_visit(place, method=METHODS[method]))
            else:
                with pytest.raises(InputError, match="no memory for one image of tiny; set a"):
                    tiny_visit(place, method=METHODS[method])
                assert not list(place.glob("*/*/tiny-*"))
    tried(
        "disk",
        f"out of device memory with {'more than one image' if most else 'one image'} (simulated)",
        "fewer at once; equal up to rounding" if most else "one sentence; no run left",
        len(looks[method]),
    )


@pytest.mark.parametrize(
    ("method", "owner", "name"),
    [
        ("stream", torch.optim.Adam, "step"),
        ("stream", ProbeFit, "_regularise"),
        ("stream", ProbeFit, "start_from"),
        ("one_pass", probing, "fit_in_one_pass"),
        ("nmf", Factorisation, "_mine"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(out_of_memory(), id="device"),
        pytest.param(MemoryError(), id="machine", marks=pytest.mark.slow),
    ],
)
def test_memory_that_lacks_beside_the_images_is_a_sentence(
    tmp_path, monkeypatch, method, owner, name, error, tried
):
    def scarce(*_, **__):
        raise error

    monkeypatch.setattr(owner, name, scarce)
    words = {
        MemoryError: "this machine has no memory for the visit to tiny; make memory free, lower",
        type(out_of_memory()): "the device has no memory for what a visit to tiny keeps there",
    }
    with pytest.raises(InputError, match=words[type(error)]):
        tiny_visit(tmp_path, method=METHODS[method])
    assert not list(tmp_path.glob("*/*/tiny-*"))
    what = "memory runs out in a fit, or where concepts are mined (simulated)"
    tried("disk", what, "one sentence; no run left")


def test_other_errors_are_not_mistaken_for_it(tmp_path):
    backbone = tiny_backbone()
    backbone.model[3].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("x")))
    with pytest.raises(RuntimeError, match="x"):
        tiny_visit(tmp_path, backbone)
