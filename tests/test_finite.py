"""Activations with which nothing can be computed become a sentence, in whatever phase they come."""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cavalcade.backbones import Preprocessing
from cavalcade.concepts import ActivationCache, Factorisation, Probes, passes
from cavalcade.concepts.finite import LARGEST, are_usable
from cavalcade.errors import InputError
from cavalcade.runs import load_run
from cavalcade.visiting.trainers import Trainers
from faulty_networks import KINDS, spoilt_for
from test_children import ended
from test_cli import SMALL, python
from tiny import quiet_trainer, streamed, tiny_backbone, tiny_data, tiny_model, tiny_visit

MINED = {
    name: Factorisation(method=name, num_concepts=3, rows=500, restarts=2)
    for name in ("nmf", "pca", "kmeans")
}
EPOCHS = 2
IMAGE, LAYER = "refused, naming the image", "refused, naming the layer"


@dataclass(frozen=True)
class Phase:
    """Where in a visit activations are first spoilt.

    Attributes:
        split: of the image whose activations they are.
        method: how concepts are found.
        after: how often the image was seen as it is.
        cached: activations are kept on the disk.
    """

    split: str
    method: Probes | Factorisation
    after: int = 0
    cached: bool = False

    def visit(self, folder: Path, kind: str) -> str:
        """What a visit says of it; it leaves no run behind."""
        loader = tiny_data(tiny_backbone(), splits=self.method.splits)
        batch = next(iter(loader.in_order(self.split)))
        backbone = tiny_backbone(model=spoilt_for(batch.inputs[1], kind, self.after))
        cache = ActivationCache(folder / "cache") if self.cached else None
        with pytest.raises(InputError) as raised:
            tiny_visit(folder / "runs", backbone, data=loader, method=self.method, cache=cache)
        assert not list(folder.glob("runs/*/*/tiny-*/meta.json"))
        assert not list(folder.glob("cache/tiny-*"))
        return str(raised.value).replace(loader.splits[self.split].ids[1], "IMAGE")


PHASES = {
    "sampling for probes": Phase("train", Probes()),
    "sampling validation images": Phase("val", Probes()),
    "surveying training images": Phase("train", streamed()),
    "surveying for quantiles": Phase("train", streamed(input="quantile")),
    "a step of a fit by stream": Phase("train", streamed(epochs=EPOCHS), after=1),
    "validation of a fit by stream": Phase("val", streamed(epochs=EPOCHS), after=1),
    "calibrating thresholds": Phase("train", streamed(epochs=EPOCHS), after=1 + EPOCHS),
    "encoding validation images": Phase("val", Probes(), after=1),
    "encoding test images": Phase("test", Probes()),
    "sampling for nmf": Phase("train", MINED["nmf"]),
    "sampling for pca": Phase("train", MINED["pca"]),
    "sampling for kmeans": Phase("train", MINED["kmeans"]),
    "encoding of mined concepts": Phase("test", MINED["nmf"]),
    "storing in the activation cache": Phase("train", Probes(), cached=True),
}
DAILY = [(phase, "a NaN") for phase in list(PHASES)[::2]]
OTHERS = list(KINDS)[1:]


@pytest.mark.parametrize(
    ("phase", "kind"),
    [  # of every phase a NaN, and one of the others in turn
        pytest.param(phase, kind, marks=() if (phase, kind) in DAILY else pytest.mark.slow)
        for number, phase in enumerate(PHASES)
        for kind in ("a NaN", OTHERS[number % len(OTHERS)])
    ],
)
def test_one_image_is_named_in_every_phase(tmp_path, tried, phase, kind):
    said = PHASES[phase].visit(tmp_path, kind)
    if kind == "numbers of 1e30":
        assert said == (
            "tiny: layers 4, 6 have activations of up to 1e+30, too large to compute with, "
            "for image IMAGE; leave them out of backbone.layers"
        )
    else:
        assert said == (
            "tiny: layers 4, 6 have activations that are not finite for image IMAGE; "
            "leave them out of backbone.layers, or the image out of the data"
        )
    tried("activations", f"{kind} in the activations of one image, in any phase", IMAGE)


def spoilt_weights(name, value):
    model = tiny_model()
    with torch.no_grad():
        model.state_dict()[name][2] = value
    return model


@pytest.mark.parametrize("method", [Probes(), MINED["pca"]], ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("name", "value", "layers"),
    [
        ("3.bias", torch.nan, "layers 4, 6 have"),
        ("5.weight", torch.inf, "layer 6 has"),
        ("1.running_var", torch.nan, "layers 2, 4, 6 have"),
    ],
)
def test_weights_that_are_not_finite_are_named(tmp_path, tried, method, name, value, layers):
    backbone = tiny_backbone(model=spoilt_weights(name, value))
    data = tiny_data(backbone, splits=method.splits)
    with pytest.raises(InputError) as raised:
        tiny_visit(tmp_path, backbone, data=data, method=method)
    assert str(raised.value) == (
        f"tiny: {layers} activations that are not finite for image train-0000, since weights of "
        f"the network are not ({name}); give others with backbone.weights"
    )
    tried("activations", "weights that are not finite", "refused, naming the weights and the image")


def test_in_half_precision_the_way_out_is_another(tmp_path, tried):
    loader = tiny_data(tiny_backbone())
    image = next(iter(loader.in_order("train"))).inputs[0]
    backbone = tiny_backbone(model=spoilt_for(image, "an overflow of float16"))
    trainers = Trainers(partial(quiet_trainer, precision="bf16-mixed"))
    said = (
        r"^tiny: layers 4, 6 have activations that are not finite for image train-0000; set "
        r"trainer\.precision=32-true, or leave"
    )
    with pytest.raises(InputError, match=said):
        tiny_visit(tmp_path, backbone, data=loader, trainers=trainers)
    tried("activations", "an overflow under trainer.precision=bf16-mixed", IMAGE)


def test_what_a_cache_holds_is_looked_at_too(tmp_path, tried, monkeypatch):
    """It may come from a version that kept anything."""
    backbone = tiny_backbone(model=spoilt_weights("3.bias", torch.inf))
    loader, cache = tiny_data(backbone), ActivationCache(tmp_path / "cache")
    trainers = Trainers(quiet_trainer)
    with monkeypatch.context() as before:
        before.setattr(passes, "are_usable", lambda _: True)
        cache.serve(backbone, loader, trainers, trainers.precision)
    assert set(loader.cached) == {"train", "val", "test"}
    loader.cached.clear()
    said = "^tiny: layers 4, 6 have activations that are not finite for image (train|val|test)-0000"
    with pytest.raises(InputError, match=said):
        tiny_visit(tmp_path, backbone, data=loader, cache=cache)
    tried("activations", "infinity in an activation cache that is read", IMAGE)


@pytest.mark.slow
def test_with_several_processes_none_waits_for_ever(tmp_path, tried):
    settings = (*SMALL, "backbone=custom", "backbone.target=faulty_networks.build", "logger=none")
    result = python(
        tmp_path,
        *("train.py", *settings, "backbone.layers=['2','4','6']"),
        *("trainer=ddp", "trainer.devices=2"),
        PIDS=str(tmp_path),
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    )
    said = result.stdout + result.stderr
    pids = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    assert all(map(ended, pids))
    assert result.returncode == 1
    assert "Traceback" not in said
    words = " ".join(said.split())
    sentence = r"layers 4, 6 have activations that are not finite for image \S+;"
    assert len(re.findall(sentence, words)) == 1, words
    tried("activations", "a NaN in one of two processes", IMAGE + ", once; both ended")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_no_number_hides_among_others(tried, dtype, layout):
    torch.manual_seed(0)
    usual, found = torch.randn(2, 6, 5, 7).to(dtype), 0
    values = [torch.nan, torch.inf, -torch.inf, *([] if dtype is torch.float16 else [1e16, -1e30])]
    for value in values:
        for place in range(usual.numel()):
            maps = usual.clone()
            maps.view(-1)[place] = value
            assert not are_usable([usual, maps.contiguous(memory_format=layout)])
            found += 1
    assert are_usable([usual.contiguous(memory_format=layout), torch.zeros(1, 1, 1, 1)])
    assert found == len(values) * usual.numel()
    what = "a NaN, infinity or huge number at each place of a map"
    tried("activations", what, "found", found)


def test_large_numbers_whose_norm_is_too_large_are_none():
    """They are looked at one by one."""
    maps = torch.full((2, 8, 64, 64), 0.9 * LARGEST)
    assert not are_usable([maps])
    passes.check_each("net", tiny_model(), {"4": maps}, ["a", "b"])
    maps[1] *= 2
    with pytest.raises(InputError, match=r"layer 4 has activations of up to 2e\+15.*for image b;"):
        passes.check_each("net", tiny_model(), {"4": maps}, ["a", "b"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("field", ["mean", "std"])
def test_images_cannot_be_made_of_what_is_no_number(tried, field, value):
    settings = {"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)} | {field: (0.5, value, 0.5)}
    with pytest.raises(InputError, match=rf"backbone\.{field} is \[0\.5, {value}, 0\.5\]; give"):
        Preprocessing(size=(8, 8), **settings)
    tried(
        "activations",
        "mean or deviation of images that is no number",
        "refused, naming the field",
    )


def dead_channel(maps):
    maps[:, 3] = 0


def constant_channel(maps):
    maps[:, 3] = 5


def dead(maps):
    maps.zero_()


def constant(maps):
    maps.fill_(3)


def large(maps):
    maps.abs_().clamp_(max=9).mul_(1e14)


def tiny_numbers(maps):
    maps.mul_(1e-30)


CASES = {
    dead_channel: "a channel that is 0",
    constant_channel: "a channel that is constant",
    dead: "a layer that is 0",
    constant: "a layer that is constant",
    large: "activations of 0 to 9e14",
    tiny_numbers: "activations of 1e-30",
}
METHODS = {"probes": Probes(), "stream": streamed(), "quantile": streamed(input="quantile")} | MINED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "method"),
    [
        pytest.param(case, method, id=f"{case.__name__}-{method}")
        for case in CASES
        for method in (METHODS if case in (dead, constant, large) else ("probes", "nmf"))
    ],
)
def test_constant_and_extreme_activations_never_crash(tmp_path, tried, case, method):
    model = tiny_model()
    model[4].register_forward_hook(lambda _, inputs, output: case(output))  # noqa: ARG005
    backbone = tiny_backbone(("4",), model=model)
    method = METHODS[method]
    data = tiny_data(backbone, splits=method.splits)
    if case in (dead, constant) and isinstance(method, Factorisation):
        with pytest.raises(InputError, match=r"layer 4 (is the same at all|has no positive)"):
            tiny_visit(tmp_path, backbone, data=data, method=method)
        tried("activations", f"{CASES[case]}, mined", LAYER)
        return
    run = load_run(tiny_visit(tmp_path, backbone, data=data, method=method))
    for name, layer in run.concept_set.layers.items():
        assert layer.vectors.isfinite().all()
        assert layer.bias.isfinite().all()
        assert not layer.thresholds.isnan().any()  # -inf: of a dead layer it fires everywhere
        assert run.features(name).isfinite().all()
        assert run.strengths(name).isfinite().all()
    table = run.score_matrix("jaccard", "test") if isinstance(method, Probes) else run.table
    assert not table.isna().any(axis=None)
    assert np.isfinite(table.select_dtypes("number").to_numpy(np.float64)).all()
    said = "went on; vectors, features, strengths and scores are finite, no threshold is NaN"
    tried("activations", CASES[case], said)
