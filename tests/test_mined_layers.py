"""Layers compared by matching concepts: against definitions written out, and degenerate cases."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.similarity import Estimate
from cavalcade.similarity.concept_cells import PairCells
from cavalcade.similarity.mined_layers import (
    ConceptCells,
    assigned_mean,
    assignment,
    best_match_mean,
    layer_cells,
    layer_slices,
    less_chance,
)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=30, deadline=None)


def cells(shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.2, 1, shape)


@given(shapes, seeds)
@few
def test_best_match_mean_is_its_definition(shape, seed):
    matrix = cells(shape, seed)
    rows = [max(matrix[i, j] for j in range(shape[1])) for i in range(shape[0])]
    columns = [max(matrix[i, j] for i in range(shape[0])) for j in range(shape[1])]
    assert best_match_mean(matrix) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2)


@given(shapes, seeds)
@few
def test_assigned_mean_is_the_best_of_all_assignments(shape, seed):
    matrix = cells(shape, seed)
    wide = matrix if shape[0] <= shape[1] else matrix.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    expected = (best / shape[0] + best / shape[1]) / 2
    assert assigned_mean(matrix) == pytest.approx(expected)


@given(shapes, seeds)
@few
def test_both_are_symmetric_and_blind_to_order(shape, seed):
    matrix, rng = cells(shape, seed), np.random.default_rng(seed)
    shuffled = matrix[rng.permutation(shape[0])][:, rng.permutation(shape[1])]
    for statistic in (best_match_mean, assigned_mean):
        assert statistic(matrix.T) == pytest.approx(statistic(matrix))
        assert statistic(shuffled) == pytest.approx(statistic(matrix))


def test_one_concept_can_be_the_best_match_of_all_but_the_partner_of_one():
    matrix = np.array([[0.9, 0.0], [0.8, 0.0]])
    assert best_match_mean(matrix) == pytest.approx((0.85 + 0.45) / 2)
    assert assigned_mean(matrix) == pytest.approx(0.45)


def test_undefined_cells_are_no_matches():
    matrix = np.array([[np.nan, 0.2, np.nan], [np.nan, np.nan, np.nan]])
    assert best_match_mean(matrix) == pytest.approx(0.2)
    assert assigned_mean(matrix) == pytest.approx(0.2)
    rows, columns = assignment(matrix)
    assert (rows.tolist(), columns.tolist()) == ([0], [1])
    assert assigned_mean(np.array([[0.9, 0.0], [0.0, np.nan]])) == pytest.approx(0.45)
    rows, columns = assignment(np.array([[np.nan, 0.3], [0.1, np.nan]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    nothing = np.full((2, 3), np.nan)
    assert np.isnan(best_match_mean(nothing))
    assert np.isnan(assigned_mean(nothing))


def test_a_stack_is_matrix_by_matrix():
    stack = cells((5, 2, 3, 4))
    for statistic in (best_match_mean, assigned_mean):
        found = statistic(stack)
        assert found.shape == (5, 2)
        assert found[3, 1] == pytest.approx(float(statistic(stack[3, 1])))


NAMES_A = (("x", "c1"), ("x", "c2"), ("y", "c1"))
NAMES_B = (("u", "c1"), ("v", "c1"), ("v", "c2"))


def some_cells():
    value, without, repaired = cells((3, 3)), cells((4, 3, 3), 1), cells((2, 3, 3), 2)
    estimate = Estimate(value, without)
    found = PairCells({"adjusted": estimate, "jaccard": estimate}, {"adjusted": repaired})
    return found, value, without, repaired


def test_each_cell_of_layers_is_made_of_the_concepts_of_both():
    found, value, without, repaired = some_cells()
    layers = layer_slices(NAMES_A), layer_slices(NAMES_B)
    estimate, again = layer_cells(found, "adjusted", best_match_mean, layers)
    assert estimate.value.shape == (2, 2)
    assert estimate.value[0, 1] == pytest.approx(float(best_match_mean(value[:2, 1:])))
    assert estimate.without[3, 1, 0] == pytest.approx(float(best_match_mean(without[3, 2:, :1])))
    assert again[1, 1, 1] == pytest.approx(float(best_match_mean(repaired[1, 2:, 1:])))


@pytest.mark.parametrize("statistic", [best_match_mean, assigned_mean])
def test_chance_is_that_of_the_concepts_that_are_defined(statistic):
    """Half of the concepts are too rare to say anything: re-paired images are asked of the rest."""
    value, repaired = cells((4, 4)), cells((3, 4, 4), 2)
    value[2:] = np.nan
    estimate = Estimate(value, np.repeat(value[None], 2, axis=0))
    found = PairCells({"adjusted": estimate}, {"adjusted": repaired})
    _, again = layer_cells(found, "adjusted", statistic, ([slice(0, 4)], [slice(0, 4)]))
    expected = statistic(np.where(np.isnan(value), np.nan, repaired))
    np.testing.assert_allclose(again[:, 0, 0], expected)
    assert not np.allclose(again[:, 0, 0], statistic(repaired))


def test_between_two_layers():
    found, value, *_ = some_cells()
    concepts = ConceptCells.of(NAMES_A, NAMES_B, found)
    rows, columns = concepts.between("y", "v")
    assert (rows.tolist(), columns.tolist()) == ([2], [1, 2])
    np.testing.assert_allclose(concepts.adjusted, value, rtol=1e-6)
    np.testing.assert_allclose(concepts.stderr, found.measures["adjusted"].stderr, rtol=1e-5)


def test_layers_follow_each_other():
    assert layer_slices([("a", "c1"), ("a", "c2"), ("b", "c1")]) == [slice(0, 2), slice(2, 3)]


def test_chance_is_the_mean_over_re_paired_images():
    estimate, repaired = Estimate(cells((2, 2)), cells((4, 2, 2), 1)), cells((5, 2, 2), 2)
    found, again = less_chance(estimate, repaired)
    np.testing.assert_allclose(found.value, estimate.value - repaired.mean(axis=0))
    np.testing.assert_allclose(found.stderr, estimate.stderr)
    np.testing.assert_allclose(again.mean(axis=0), 0, atol=1e-12)
    nothing, _ = less_chance(estimate, repaired[:0])
    assert np.isnan(nothing.value).all()
