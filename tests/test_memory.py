"""A device with too little memory: parts of batches are halved, and nothing counts twice."""

import logging

import pytest

from cavalcade.concepts import Factorisation, Probes
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.errors import InputError
from cavalcade.visiting.cost import seconds_per_image
from run_folders import assert_same_up_to_rounding
from tiny import out_of_memory, small_device, streamed, tiny_backbone, tiny_visit

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


def test_no_memory_for_one_image_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no memory for one image of tiny; set a smaller"):
        tiny_visit(tmp_path, small_device(0))
    assert not list(tmp_path.glob("*/probes/*"))


def test_other_errors_are_not_mistaken_for_it(tmp_path):
    backbone = tiny_backbone()
    backbone.model[3].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("x")))
    with pytest.raises(RuntimeError, match="x"):
        tiny_visit(tmp_path, backbone)
