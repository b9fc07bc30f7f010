"""Chances add up to what is wanted, and what is drawn stands for what is not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.concepts.drawing import inclusion, systematic

few = settings(max_examples=60, deadline=None)
importances = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=1, max_size=40)
chance_lists = st.lists(
    st.one_of(st.just(0.0), st.just(1.0), st.floats(0.001, 1)), min_size=1, max_size=40
)
starts = st.floats(0, 1, exclude_max=True)


@few
@given(importances, st.floats(0.01, 30))
def test_chances_are_in_proportion_and_add_up_to_what_is_wanted(importance, wanted):
    importance = torch.tensor(importance)
    chances = inclusion(importance, torch.tensor([wanted]))
    assert (chances >= 0).all()
    assert (chances <= 1).all()
    assert (chances[importance == 0] == 0).all()
    possible = min(wanted, int((importance > 0).sum()))
    assert chances.sum().item() <= possible * (1 + 1e-4)
    free = chances < 1
    rates = chances[free & (importance > 0)] / importance[free & (importance > 0)]
    if len(rates):
        torch.testing.assert_close(rates, rates[:1].expand_as(rates), rtol=1e-3, atol=0)


@few
@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=40), st.floats(0.01, 30))
def test_chances_reach_what_is_wanted(importance, wanted):
    """Where importance differs by less than some hundreds; else a little is left over."""
    chances = inclusion(torch.tensor(importance), torch.tensor([wanted]))
    assert chances.sum().item() == pytest.approx(min(wanted, len(importance)), rel=0.02)


def test_what_is_certain_leaves_its_surplus_to_the_others():
    chances = inclusion(torch.tensor([100.0, 1, 1, 2, 0]), torch.tensor([3.0]))
    torch.testing.assert_close(chances, torch.tensor([1, 0.5, 0.5, 1, 0]))


def test_what_is_left_over_goes_to_none_of_no_importance():
    chances = inclusion(torch.tensor([5.0, 5.0, 0, 0]), torch.tensor([40.0]))
    assert chances.tolist() == [1, 1, 0, 0]


def test_sets_are_independent_of_each_other():
    importance = torch.rand(5, 30, generator=torch.Generator().manual_seed(0)) ** 4
    wanted = torch.tensor([[0.5], [3], [10], [25], [29]])
    together = inclusion(importance, wanted)
    for k in range(5):
        torch.testing.assert_close(together[k], inclusion(importance[k], wanted[k]))


def test_nothing_of_importance_gives_no_chance():
    assert (inclusion(torch.zeros(2, 4), torch.ones(2, 1)) == 0).all()


@few
@given(chance_lists, starts)
def test_as_many_are_drawn_as_chances_add_up_to(chances, start):
    chances = torch.tensor(chances)
    drawn = systematic(chances, torch.tensor([start], dtype=torch.float64))
    total = chances.double().sum().item()
    assert abs(drawn.sum().item() - total) < 1 + 1e-6
    assert not drawn[chances == 0].any()
    assert drawn[chances == 1].all()


@few
@given(chance_lists)
def test_each_is_drawn_as_often_as_its_chance(chances):
    chances = torch.tensor(chances)
    many = 2000
    even = (torch.arange(many, dtype=torch.float64) + 0.5)[:, None] / many
    drawn = systematic(chances.expand(many, -1), even)
    often = drawn.double().mean(dim=0)
    torch.testing.assert_close(often, chances.double(), rtol=0, atol=2 / many)


def test_sums_of_what_is_drawn_over_its_chance_are_unbiased():
    g = torch.Generator().manual_seed(0)
    importance, values = torch.rand(50, generator=g) + 0.05, torch.randn(50, generator=g) + 1
    chances = inclusion(importance, torch.tensor([12.0]))
    even = (torch.arange(4000, dtype=torch.float64) + 0.5)[:, None] / 4000
    drawn = systematic(chances.expand(4000, -1), even)
    sums = (drawn * (values / chances)).sum(dim=1)
    assert sums.mean().item() == pytest.approx(values.sum().item(), rel=2e-3)
    assert sums.std() > 0.1


def test_neighbours_are_spread_out():
    drawn = systematic(torch.full((100,), 0.1), torch.tensor([0.35]))
    places = drawn.nonzero().flatten()
    assert places.diff().tolist() == [10] * 9


def test_chances_of_a_set_do_not_depend_on_the_others():
    importance = torch.rand(30, 50, generator=torch.Generator().manual_seed(0))
    importance[7, 3] = 1000  # whose surplus is spread in more rounds
    wanted = importance.sum(dim=1, keepdim=True) * 0.3
    together = inclusion(importance, wanted)
    for own, each, chances in zip(importance, wanted, together, strict=True):
        assert torch.equal(inclusion(own, each), chances)
