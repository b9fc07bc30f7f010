import itertools
import math

import pytest
import torch

from cavalcade.concepts.probes import StackedProbes, channel_scales, probe_loss
from cavalcade.data import Targets


def some_case(seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, 3, 4, 5, generator=g)
    labelled = torch.rand(2, 3, 4, 5, generator=g)
    present = labelled * torch.rand(2, 3, 4, 5, generator=g)
    alpha = torch.tensor([[0.9, 0.5, 0.7], [0.8, 0.4, 0.2]])
    return logits, Targets(present, labelled), alpha


@pytest.mark.parametrize("kind", ["balanced", "net2vec"])
def test_loss_is_the_written_formula(kind):
    logits, targets, alpha = some_case()
    loss = probe_loss(logits, targets, alpha, kind)
    for i, r, k in itertools.product(range(2), range(2), range(3)):
        total = 0.0
        for y, x in itertools.product(range(4), range(5)):
            z = logits[i, r, k, y, x].item()
            weight = targets.labelled[i, k, y, x].item()
            t = targets.present[i, k, y, x].item() / weight
            p = 1 / (1 + math.exp(-z))
            a = alpha[r, k].item()
            if kind == "balanced":
                cost = -(a * t * math.log(p) + (1 - a) * (1 - t) * math.log(1 - p))
            else:
                cost = -(a * t * p + (1 - a) * (1 - t) * (1 - p))
            total += weight * cost
        assert loss[i, r, k].item() == pytest.approx(total / 20, rel=1e-4)


def test_unlabelled_cells_weigh_nothing():
    logits, targets, alpha = some_case()
    targets.present[:, :, :2] = 0
    targets.labelled[:, :, :2] = 0
    changed = logits.clone()
    changed[:, :, :, :2] = 100.0
    before = probe_loss(logits, targets, alpha, "balanced")
    torch.testing.assert_close(before, probe_loss(changed, targets, alpha, "balanced"))


def test_large_logits_stay_finite():
    targets = Targets(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    logits, alpha = torch.full((1, 1, 1, 1, 1), -1e4), torch.tensor([[0.5]])
    loss = probe_loss(logits, targets, alpha, "balanced")
    assert loss.item() == pytest.approx(5e3)


def test_folded_probe_equals_standardised_probe():
    g = torch.Generator().manual_seed(1)
    activations = torch.randn(2, 6, 3, 3, generator=g) * 7 + 3
    probes = StackedProbes("a", ["x", "y"], 6, seed=0)
    mean = activations.mean(dim=(0, 2, 3))
    deviation = activations.std(dim=(0, 2, 3))
    probes.standardise(mean, deviation)
    probes.keep_best(torch.zeros(1, 2))
    standardised = (activations - mean[:, None, None]) / deviation[:, None, None]
    reference = torch.einsum("kc,ichw->ikhw", probes.weight[0], standardised)
    torch.testing.assert_close(probes.fold().encode(activations), reference, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(probes(activations)[:, 0], reference, rtol=1e-4, atol=1e-6)


def test_constant_channels_do_not_explode():
    probes = StackedProbes("a", ["x"], 5, seed=0)
    noise = 700 * 2**-24  # of a constant channel, as rounding leaves it
    mean = torch.tensor([5.0, 0.0, 700.0, -700.0, 100.0])
    probes.standardise(mean, torch.tensor([0.0, 0.0, noise, noise, 0.0625]))
    assert probes.scale.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0625]


def test_channels_that_are_all_zero_have_a_scale_too():
    assert channel_scales(torch.zeros(3), torch.zeros(3)).tolist() == [1.0] * 3


def test_each_concept_keeps_its_own_best_epoch():
    probes = StackedProbes("a", ["x", "y"], 2, replicates=2, seed=0)
    probes.keep_best(torch.ones(2, 2))
    first = probes.weight.detach().clone()
    with torch.no_grad():
        probes.weight.add_(1)
    probes.keep_best(torch.tensor([[0.5, 2.0], [2.0, 0.5]]))
    for replicate, (better, worse) in enumerate([(0, 1), (1, 0)]):
        kept, start = probes.fold(replicate).vectors, first[replicate]
        torch.testing.assert_close(kept[better], start[better] + 1)
        torch.testing.assert_close(kept[worse], start[worse])


def test_replicates_and_concepts_share_one_convolution_without_mixing():
    probes = StackedProbes("a", ["x", "y"], 4, replicates=3, seed=0)
    probes.standardise(torch.randn(4), torch.rand(4) + 0.5)
    with torch.no_grad():
        probes.bias.normal_()
    probes.keep_best(torch.zeros(3, 2))
    activations = torch.randn(5, 4, 3, 2)
    logits = probes(activations)
    for replicate in range(3):
        torch.testing.assert_close(logits[:, replicate], probes.fold(replicate).encode(activations))


def test_start_depends_on_seed_layer_concept_and_replicate_alone():
    both = StackedProbes("a", ["x", "y"], 4, seed=0).weight
    alone = StackedProbes("a", ["y"], 4, seed=0).weight
    thrice = StackedProbes("a", ["y"], 4, replicates=3, seed=0).weight
    assert torch.equal(both[0, 1], alone[0, 0])
    assert torch.equal(thrice[:1], alone)
    assert len(thrice.detach()[:, 0].unique(dim=0)) == 3
    assert not torch.equal(alone, StackedProbes("b", ["y"], 4, seed=0).weight)
    assert not torch.equal(alone, StackedProbes("a", ["y"], 4, seed=1).weight)
