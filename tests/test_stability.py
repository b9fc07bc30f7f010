"""Reproducibility: cosines by their definition, and blocks that are drawn as wholes."""

import numpy as np
import pytest
import torch

from cavalcade.concepts.stability import Reproducibility, bootstrap_weights


def test_a_concept_found_again_exactly_has_1():
    directions = torch.eye(3)
    again = [directions[[2, 0, 1]] * 5, directions]  # in any order and of any length
    found = Reproducibility.of(directions, again)
    for part in (found.mean, found.low, found.high):
        torch.testing.assert_close(part, torch.ones(3))
    torch.testing.assert_close(found.next_best, torch.zeros(3))


def test_mean_and_range_are_those_of_the_best_matches():
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    again = [torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]])]
    found = Reproducibility.of(directions, again)
    half = 2**-0.5
    torch.testing.assert_close(found.mean, torch.tensor([(half + 1) / 2, (half + 0.8) / 2]))
    torch.testing.assert_close(found.low, torch.tensor([half, half]))
    torch.testing.assert_close(found.high, torch.tensor([1.0, 0.8]))


def test_refits_without_a_concept_count_for_nothing():
    directions = torch.eye(2)
    found = Reproducibility.of(directions, [directions, torch.empty(0, 2)])
    torch.testing.assert_close(found.low, torch.ones(2))
    assert Reproducibility.of(directions, [torch.empty(0, 2)]).mean.isnan().all()


def test_a_concept_without_a_direction_is_not_known_to_be_reproducible():
    found = Reproducibility.of(torch.zeros(1, 3), [torch.zeros(1, 3)])
    assert found.mean.isnan().all()


def test_without_refits_nothing_is_known():
    found = Reproducibility.of(torch.ones(1, 4), [])
    assert found.mean.isnan().all()
    assert found.next_best.isnan().all()  # there is no other concept


def test_blocks_are_drawn_as_wholes():
    groups = ["a"] * 50 + ["b"] * 50
    weights = bootstrap_weights(groups, 30, seed=0)
    assert weights.shape == (30, 100)
    assert torch.equal(weights, bootstrap_weights(groups, 30, seed=0))
    assert not torch.equal(weights, bootstrap_weights(groups, 30, seed=1))
    blocks = weights.view(30, 20, 5)  # twenty blocks of five neighbours
    assert (blocks == blocks[..., :1]).all()
    np.testing.assert_allclose(weights.double().mean(), 1)
    assert (weights == 0).any()


def test_one_block_cannot_be_resampled():
    """Every draw of it is itself, which would pass for perfect reproducibility."""
    assert len(bootstrap_weights(["a"], 10, 0)) == 0


@pytest.mark.parametrize("restarts", [0, 1])
def test_any_number_of_restarts(restarts):
    assert bootstrap_weights(["a", "b"], restarts, 0).shape == (restarts, 2)
