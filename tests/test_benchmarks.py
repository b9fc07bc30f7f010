"""Benchmarks: that they start, and that peers see what ours does; never how long anything takes."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import benchmarks
import numpy as np
import pytest
import torch
from benchmarks import one_pass
from benchmarks.captum_cavs import captum_cavs
from benchmarks.cka_peers import peers
from benchmarks.one_pass import AfterFirstBatch, to_the_end
from benchmarks.peers import peer
from benchmarks.tapped import KeptFeatures, PooledMaps, TappedModule, WholeMaps
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, TensorDataset

from cavalcade.concepts.logistic import WeightedRows, fit
from cavalcade.errors import InputError
from cavalcade.similarity import prepare
from tiny import tiny_backbone

MODULES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
PEERS = {
    "captum.concept": "captum",
    "cka": "pytorch-cka",
    "torch_cka": "torch-cka",
    "torchnmf.nmf": "torchnmf",
}


@pytest.fixture
def without_peers(monkeypatch):
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name.partition(".")[0], None)
        monkeypatch.setitem(sys.modules, name, None)


def tapped(module: TappedModule, inputs):
    """What hooks at the layers of a module see."""
    modules, seen = dict(module.named_modules()), []
    hooks = [
        modules[name].register_forward_hook(lambda _, __, output: seen.append(output))
        for name in module.names
    ]
    module(inputs)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("without_peers")
def test_every_benchmark_is_imported_without_its_peers_and_says_how_to_run(
    name, monkeypatch, capsys
):
    module = importlib.reload(importlib.import_module(f"benchmarks.{name}"))
    if not hasattr(module, "main"):
        return
    assert f"python -m benchmarks.{name}" in module.__doc__
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("counting", ["--masks", "0"], "argument --masks: 0 is no whole number from 1 up"),
        ("counting", ["--masks", "3"], "--masks must be 20 or more"),
        ("counting", ["--pixels", "100"], "--pixels must be a multiple of 64"),
        ("nmf", ["--repeats", "many"], "argument --repeats: many is no whole number from 1 up"),
    ],
)
def test_numbers_without_sense_are_refused(name, arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit):
        importlib.import_module(f"benchmarks.{name}").main()
    assert said in capsys.readouterr().err


def test_a_process_that_keeps_to_one_core_has_one_thread_of_each_library():
    script = (
        "import os, torch, sklearn.decomposition\n"
        "from threadpoolctl import threadpool_info\n"
        "from benchmarks.cores import keep_to\n"
        "keep_to(1)\n"
        "cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1\n"
        "pools = threadpool_info()\n"
        "print(cores, torch.get_num_threads(), *{pool['num_threads'] for pool in pools})\n"
    )
    path = os.pathsep.join(filter(None, [".", os.environ.get("PYTHONPATH")]))
    several = {"PYTHONPATH": path, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | several,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["1", "1", "1"]


def test_an_epoch_is_timed_from_the_end_of_its_first_batch(monkeypatch):
    now = iter([5.0, 7.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = AfterFirstBatch()
    for number in range(3):
        clock.on_train_batch_end(None, None, None, None, number)
    assert clock.seconds == 5.0


def wide_rows(count=500, channels=1280):
    """Of a layer as wide as any, with a tenth of their weight in a concept."""
    x = torch.randn(count, channels, generator=torch.Generator().manual_seed(0))
    shown = (x[:, :5].sum(dim=1) > 3).float()
    present, absent = (part / (2 * part.sum()) for part in (shown, 1 - shown))
    return WeightedRows(x, x.new_zeros(channels), x.new_ones(channels), present[None], absent[None])


def test_the_optimum_is_that_of_scikit_learn_also_in_a_wide_layer():
    rows, l2 = wide_rows(), 1e-3
    with to_the_end() as unsolved:
        heads = fit(rows, torch.tensor([[l2]]))[0]
    assert not unsolved
    x, shown = rows.activations.double().numpy(), rows.present[0].numpy() > 0
    weights = (rows.present + rows.absent)[0].double().numpy()
    reference = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=10_000)
    reference.fit(x, shown, sample_weight=weights)

    def objective(vector, bias):
        costs = np.logaddexp(0, np.where(shown, -1, 1) * (x @ vector + bias))
        return weights @ costs + l2 / 2 * vector @ vector

    ours = heads[0].double().numpy()
    lowest = objective(reference.coef_[0], reference.intercept_[0])
    assert objective(ours[:-1], ours[-1]) <= 1.0005 * lowest


def test_an_optimum_that_is_not_reached_is_told(monkeypatch):
    monkeypatch.setattr(one_pass, "TO_THE_END", one_pass.TO_THE_END | {"MOST_STEPS": 1})
    with to_the_end() as unsolved:
        fit(wide_rows(), torch.tensor([[1e-3]]))
    assert unsolved == ["1 of 1 probes of 1280 channels are not yet at their optimum after 1 steps"]


@pytest.mark.parametrize(("module", "package"), PEERS.items())
@pytest.mark.usefixtures("without_peers")
def test_a_missing_peer_is_one_sentence(module, package):
    with pytest.raises(InputError, match=rf"^{package} is not installed.*pip install -e"):
        peer(module)


def test_what_a_peer_itself_lacks_is_no_missing_peer(tmp_path, monkeypatch):
    (tmp_path / "broken_peer.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        peer("broken_peer")


def test_peers_see_the_maps_and_the_features_that_ours_does():
    backbone = tiny_backbone()
    inputs = torch.randn(3, 3, *backbone.preprocessing.size)
    maps = list(backbone(inputs).values())
    for seen, expected in zip(tapped(WholeMaps(backbone), inputs), maps, strict=True):
        torch.testing.assert_close(seen, expected)
    for seen, own in zip(tapped(PooledMaps(backbone), inputs), maps, strict=True):
        torch.testing.assert_close(seen, own.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["torch-cka", "pytorch-cka"])
def test_peers_agree_on_the_same_features(name):
    pytest.importorskip("cka")
    pytest.importorskip("torch_cka")
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(30, 6))
    ones, others = (
        [scenes @ rng.normal(size=(6, width)) + rng.normal(size=(30, width)) for width in widths]
        for widths in ((4, 9), (7, 20, 3))
    )
    ours = prepare("cka_unbiased", ones).similarity(prepare("cka_unbiased", others))
    modules = [
        KeptFeatures([torch.from_numpy(layer).float() for layer in layers])
        for layers in (ones, others)
    ]
    loader = DataLoader(TensorDataset(torch.arange(30)), batch_size=30)
    assert (ours > 0).all()  # pytorch-cka cuts off the rest
    np.testing.assert_allclose(peers()[name](*modules, loader), ours, atol=1e-5)


def test_cavs_of_captum_point_to_the_concept():
    pytest.importorskip("captum")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    features[:20, 1] += 6  # what the first concept is
    features[20:40, 3] += 6
    examples = {"one": torch.arange(20).split(8), "two": torch.arange(20, 40).split(8)}
    (found,) = captum_cavs(KeptFeatures([features]), examples, torch.arange(40, 60).split(8))
    assert found.argmax(dim=1).tolist() == [1, 3]
