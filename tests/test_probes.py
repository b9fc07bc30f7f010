import math

import pytest
import torch

from cavalcade.concepts.probes import StackedProbes, probe_loss
from cavalcade.data import Targets


def some_case(seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=g)
    labelled = torch.rand(2, 3, 4, 5, generator=g)
    present = labelled * torch.rand(2, 3, 4, 5, generator=g)
    alpha = torch.tensor([0.9, 0.5, 0.7])
    return logits, Targets(present, labelled), alpha


@pytest.mark.parametrize("kind", ["balanced", "net2vec"])
def test_loss_is_the_written_formula(kind):
    logits, targets, alpha = some_case()
    loss = probe_loss(logits, targets, alpha, kind)
    for i in range(2):
        for k in range(3):
            total = 0.0
            for y in range(4):
                for x in range(5):
                    z = logits[i, k, y, x].item()
                    weight = targets.labelled[i, k, y, x].item()
                    t = targets.present[i, k, y, x].item() / weight
                    p = 1 / (1 + math.exp(-z))
                    a = alpha[k].item()
                    if kind == "balanced":
                        cost = -(a * t * math.log(p) + (1 - a) * (1 - t) * math.log(1 - p))
                    else:
                        cost = -(a * t * p + (1 - a) * (1 - t) * (1 - p))
                    total += weight * cost
            assert loss[i, k].item() == pytest.approx(total / 20, rel=1e-4)


def test_unlabelled_cells_weigh_nothing():
    logits, targets, alpha = some_case()
    targets.present[:, :, :2] = 0
    targets.labelled[:, :, :2] = 0
    changed = logits.clone()
    changed[:, :, :2] = 100.0
    before = probe_loss(logits, targets, alpha, "balanced")
    torch.testing.assert_close(before, probe_loss(changed, targets, alpha, "balanced"))


def test_large_logits_stay_finite():
    targets = Targets(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    loss = probe_loss(torch.full((1, 1, 1, 1), -1e4), targets, torch.tensor([0.5]), "balanced")
    assert loss.item() == pytest.approx(5e3)


def test_folded_probe_equals_standardised_probe():
    g = torch.Generator().manual_seed(1)
    activations = torch.randn(2, 6, 3, 3, generator=g) * 7 + 3
    probes = StackedProbes("a", ["x", "y"], 6, seed=0)
    mean = activations.mean(dim=(0, 2, 3))
    deviation = activations.std(dim=(0, 2, 3))
    probes.standardise(mean, deviation)
    probes.keep_best(torch.zeros(2))
    standardised = (activations - mean[:, None, None]) / deviation[:, None, None]
    reference = torch.einsum("kc,ichw->ikhw", probes.weight, standardised)
    torch.testing.assert_close(probes.fold().encode(activations), reference, rtol=1e-4, atol=1e-6)


def test_constant_channels_do_not_explode():
    probes = StackedProbes("a", ["x"], 2, seed=0)
    probes.standardise(torch.tensor([5.0, 1.0]), torch.tensor([0.0, 2.0]))
    assert probes.scale.tolist() == [1.0, 2.0]


def test_each_concept_keeps_its_own_best_epoch():
    probes = StackedProbes("a", ["x", "y"], 2, seed=0)
    probes.keep_best(torch.tensor([1.0, 1.0]))
    first = probes.weight.detach().clone()
    with torch.no_grad():
        probes.weight.add_(1)
    probes.keep_best(torch.tensor([0.5, 2.0]))
    kept = probes.fold().vectors
    torch.testing.assert_close(kept[0], first[0] + 1)
    torch.testing.assert_close(kept[1], first[1])


def test_start_depends_on_seed_layer_and_concept_alone():
    both = StackedProbes("a", ["x", "y"], 4, seed=0).weight
    alone = StackedProbes("a", ["y"], 4, seed=0).weight
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(alone, StackedProbes("b", ["y"], 4, seed=0).weight)
    assert not torch.equal(alone, StackedProbes("a", ["y"], 4, seed=1).weight)
