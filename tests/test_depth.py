import numpy as np
import pytest
from scipy import stats

from cavalcade.similarity import Estimate, block_weights
from cavalcade.similarity.depth import (
    STATISTICS,
    alignment,
    best_matches,
    both_ways,
    match_table,
)
from cavalcade.similarity.estimates import interval
from cavalcade.similarity.held_out import held_out_matches
from test_layer_matrix import VALUES, layers, matrix, noisy

WEIGHTS = block_weights(21, resamples=60)


def by_loop(values, depths, others, trunk, other_trunk):
    """Best matches of rows, one by one."""
    found = []
    for row in range(len(depths)):
        columns = [c for c in range(len(others)) if other_trunk[c] and np.isfinite(values[row, c])]
        if trunk[row] and columns:
            best = max(columns, key=lambda c: values[row, c])
            found.append((row, best, values[row, best], depths[row], others[best]))
    return found


def statistics_by_loop(values, a, b):
    depths = [np.array([layer.depth for layer in part]) for part in (a, b)]
    trunk = [[layer.trunk for layer in part] for part in (a, b)]
    ways = (
        by_loop(values, depths[0], depths[1], trunk[0], trunk[1]),
        by_loop(values.T, depths[1], depths[0], trunk[1], trunk[0]),
    )
    parts = []
    for way in ways:
        _, _, best, own, match = map(np.array, zip(*way, strict=True))
        rank = stats.spearmanr(own, match).statistic if len(own) > 2 else np.nan
        parts.append((best.mean(), np.abs(own - match).mean(), rank))
    return dict(zip(STATISTICS, np.mean(parts, axis=0), strict=True))


def random_matrix(seed, rows=6, columns=5, branch=((), ())):
    """Best matches near the diagonal, some of them elsewhere."""
    rng = np.random.default_rng(seed)
    a = layers(*np.sort(rng.random(rows)), branch=branch[0])
    b = layers(*np.sort(rng.random(columns)), branch=branch[1])
    gap = np.subtract.outer([layer.depth for layer in a], [layer.depth for layer in b])
    values = 0.8 - np.abs(gap) + 0.15 * rng.normal(size=gap.shape)
    return matrix(values, a, b, cells=noisy(values, spread=0.1, seed=seed))


def test_best_matches_of_both_directions():
    first, second = both_ways(matrix(VALUES), np.array(VALUES))
    assert [*first.matches, *second.matches] == [0, 1, 1, 0, 2]
    assert [*first.values, *second.values] == [0.9, 0.5, 0.8, 0.9, 0.8]
    assert [*first.match_depths, *second.match_depths] == [0.1, 0.9, 0.9, 0.0, 1.0]
    gaps = np.abs(np.r_[first.depths - first.match_depths, second.depths - second.match_depths])
    assert gaps.tolist() == pytest.approx([0.1, 0.4, 0.1, 0.1, 0.1])
    numbers = alignment(matrix(VALUES), np.array(VALUES))
    assert numbers["mean_best_match"] == pytest.approx(((0.9 + 0.5 + 0.8) / 3 + 0.85) / 2)
    assert numbers["depth_gap"] == pytest.approx((0.2 + 0.1) / 2)


def test_branches_and_undefined_cells_stay_out():
    values = np.array(VALUES)
    values[1] = np.nan
    one = matrix(values, b=layers(0.1, 0.9, branch=(1,)))
    first, second = both_ways(one, values)
    assert (first.positions.tolist(), first.matches.tolist()) == ([0, 2], [0, 0])
    assert (second.positions.tolist(), second.matches.tolist()) == ([0], [0])
    assert first.values.tolist() == [0.9, 0.2]


def test_an_undefined_cell_is_never_the_best():
    values = np.array([[np.nan, 0.1], [-0.4, np.nan], [np.nan, np.nan]])
    first, second = both_ways(matrix(values), values)
    assert (first.positions.tolist(), first.matches.tolist()) == ([0, 1], [1, 0])
    assert first.values.tolist() == [0.1, -0.4]  # though below 0
    assert (second.positions.tolist(), second.matches.tolist()) == ([0, 1], [1, 0])


BRANCHES = [((), ()), ((1,), ()), ((), (0, 4)), ((0, 5), (2,))]


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("seed", range(3))
def test_statistics_are_those_of_a_loop_and_of_scipy(seed, branch):
    one = random_matrix(seed, branch=branch)
    one.values[2, 1:4] = np.nan
    reference = statistics_by_loop(one.values, one.pair.layers_a, one.pair.layers_b)
    for name, value in alignment(one, one.values).items():
        np.testing.assert_allclose(value, reference[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_stack_of_replicates_is_a_loop_over_them(branch):
    one = random_matrix(3, branch=branch)
    stack = one.estimate.replicates(WEIGHTS)
    together = alignment(one, stack)
    # in these resamples best matches do change
    assert len(np.unique(both_ways(one, stack)[0].matches, axis=0)) > 1
    for k, cells in enumerate(stack):
        reference = statistics_by_loop(cells, one.pair.layers_a, one.pair.layers_b)
        for name in STATISTICS:
            np.testing.assert_allclose(together[name][k], reference[name], rtol=1e-9)


def test_a_stack_of_stacks_keeps_its_shape():
    one = random_matrix(4)
    stack = one.estimate.replicates(WEIGHTS)
    again = alignment(one, stack.reshape(6, 10, *one.values.shape))
    for name, values in alignment(one, stack).items():
        np.testing.assert_array_equal(again[name], values.reshape(6, 10))


def test_changing_the_networks_over_changes_no_statistic():
    one = random_matrix(5)
    other = one.transposed()
    for name, value in alignment(one, one.values).items():
        np.testing.assert_allclose(alignment(other, other.values)[name], value, rtol=1e-12)


def test_the_same_depths_align_perfectly():
    depths = layers(0.0, 0.3, 0.6, 1.0)
    numbers = alignment(matrix(np.eye(4), depths, depths), np.eye(4))
    assert {name: float(value) for name, value in numbers.items()} == pytest.approx(
        {"mean_best_match": 1.0, "depth_gap": 0.0, "rank_correlation": 1.0}
    )
    backwards = alignment(matrix(np.eye(4), depths, depths), np.eye(4)[::-1])
    assert backwards["rank_correlation"] == pytest.approx(-1)
    assert backwards["depth_gap"] == pytest.approx((1.0 + 0.3 + 0.3 + 1.0) / 4)


def test_one_match_for_all_keeps_no_order():
    values = np.array([[0.9, 0.2, 0.1], [0.9, 0.1, 0.2], [0.9, 0.1, 0.3]])
    numbers = alignment(matrix(values), values)
    # one way all match l0; the other way the depths 0, 1, 2 have the matches 0, 0, 2
    assert numbers["rank_correlation"] == pytest.approx((0 + np.sqrt(0.75)) / 2)
    assert np.isfinite(numbers["depth_gap"])


def test_two_layers_have_no_rank_correlation():
    values = np.array([[0.9, 0.1], [0.9, 0.3]])
    assert np.isnan(alignment(matrix(values), values)["rank_correlation"])


@pytest.mark.parametrize("shape", [(3, 2), (4, 3, 2)])
def test_nothing_defined_is_undefined(shape):
    nothing = np.full(shape, np.nan)
    for value in alignment(matrix(VALUES), nothing).values():
        assert value.shape == shape[:-2]
        assert np.isnan(value).all()


def test_only_branches_is_undefined():
    branches = layers(0.0, 0.5, 1.0, branch=(0, 1, 2))
    one = matrix(VALUES, a=branches)
    assert np.isnan(list(alignment(one, one.values).values())).all()
    assert match_table(one, WEIGHTS[:, :2]).empty


def test_best_matches_by_themselves():
    cells = np.array([[0.1, 0.7], [0.3, 0.2]])
    found = best_matches(
        cells, (np.array([0.0, 1.0]), np.array([0.2, 0.8])), (np.array([True, True]),) * 2
    )
    assert found.matches.tolist() == [1, 0]
    assert found.match_depths.tolist() == [0.8, 0.2]


def test_the_table_has_a_row_for_each_trunk_layer_of_either_network():
    one = random_matrix(6, rows=4, columns=3, branch=((1,), ()))
    table = match_table(one, WEIGHTS)
    assert list(table.columns) == [
        "network", "layer", "depth", "match", "match_depth",
        "value", "low", "high", "match_depth_low", "match_depth_high",
    ]  # fmt: skip
    assert table["network"].tolist() == ["A"] * 3 + ["B"] * 3
    assert table["layer"].tolist() == ["l0", "l2", "l3", "l0", "l1", "l2"]
    frame = one.frame().drop(index="l1")
    assert table["match"].tolist() == [*frame.idxmax(axis=1), *frame.idxmax(axis=0)]
    assert table["value"].tolist() == [*frame.max(axis=1), *frame.max(axis=0)]
    depths = {"A": one.pair.layers_a, "B": one.pair.layers_b}
    for row in table.itertuples():
        own, other = depths[row.network], depths["B" if row.network == "A" else "A"]
        assert row.depth == next(layer.depth for layer in own if layer.name == row.layer)
        assert row.match_depth == next(layer.depth for layer in other if layer.name == row.match)


def test_intervals_of_the_table_are_those_over_resamples():
    one = random_matrix(6)
    table = match_table(one, WEIGHTS)
    replicates = one.estimate.replicates(WEIGHTS)
    best = np.concatenate([replicates.max(axis=2), replicates.max(axis=1)], axis=1)
    low, high = interval(best, 21)
    np.testing.assert_allclose(table["low"], low)
    np.testing.assert_allclose(table["high"], high)
    depth_b = np.array([layer.depth for layer in one.pair.layers_b])
    low, high = interval(depth_b[replicates.argmax(axis=2)], 21)
    np.testing.assert_allclose(table["match_depth_low"][:6], low)
    np.testing.assert_allclose(table["match_depth_high"][:6], high)


def held_out_by_loop(said, weights, trunk_b):
    """For each row the mean over drawn blocks of what the match chosen by the others is there."""
    drawn = [block for block, times in enumerate(weights) for _ in range(times)]
    judged = np.zeros((len(drawn), said.shape[1]))
    for k, block in enumerate(drawn):
        others = sum(said[other] for other in drawn if other != block)
        matches = np.where(trunk_b, others, -np.inf).argmax(axis=1)
        judged[k] = said[block][np.arange(said.shape[1]), matches]
    return judged.mean(axis=0)


def test_held_out_matches_agree_with_a_loop_over_blocks():
    one = random_matrix(7, branch=((), (2,)))
    trunk_b = one.pair.trunk[1]
    first, second = held_out_matches(one, WEIGHTS)
    said = one.estimate.by_block
    np.testing.assert_allclose(said.mean(axis=0), one.values)
    once = np.ones(21, dtype=int)
    np.testing.assert_allclose(first.values, held_out_by_loop(said, once, trunk_b))
    for draw, weights in enumerate(WEIGHTS[:8]):
        wide = first.values + np.sqrt(21 / 20) * (
            held_out_by_loop(said, weights, trunk_b) - first.values
        )
        np.testing.assert_allclose(first.replicates[draw], wide)
    assert second.positions.tolist() == [0, 1, 3, 4]
    assert held_out_matches(one.transposed(), WEIGHTS)[0].values == pytest.approx(second.values)


@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
def test_held_out_matches_agree_with_a_loop_however_often_a_block_decides(spread):
    rng = np.random.default_rng(11)
    said = rng.random((6, 5)) + spread * rng.normal(size=(21, 6, 5))
    said[:, 1, 4] = np.nan
    cells = Estimate(said.mean(axis=0), (said.sum(axis=0) - said) / 20)
    weights = np.concatenate([WEIGHTS, [[21] + [0] * 20]])  # one block alone chooses for itself
    (way, _) = held_out_matches(matrix(cells.value, cells=cells), weights)
    defined, known = np.isfinite(said).all(axis=0), np.ones(5, dtype=bool)
    said = np.where(defined, said, -1e3)
    reference = [held_out_by_loop(said, draw, known) for draw in WEIGHTS]
    reference = np.array([*reference, said[0].max(axis=1)])
    wide = way.values + np.sqrt(21 / 20) * (reference - way.values)
    np.testing.assert_allclose(way.replicates, wide, rtol=1e-9)


def test_held_out_matches_of_noise_are_not_above_chance():
    """The best of many numbers is, as is its bootstrap."""
    values, best = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        said = rng.normal(size=(21, 8, 8))
        cells = Estimate(said.mean(axis=0), (said.sum(axis=0) - said) / 20)
        one = matrix(cells.value, cells=cells)
        values.append(held_out_matches(one, WEIGHTS[:1])[0].values.mean())
        best.append(cells.value.max(axis=1).mean())
    error = np.std(values, ddof=1) / np.sqrt(60)
    assert abs(np.mean(values)) < 4 * error
    assert np.mean(best) > 10 * error


def test_chance_of_held_out_matches_is_that_of_their_cells():
    rng = np.random.default_rng(8)
    values = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.7]])
    repaired = 0.1 + 0.05 * rng.normal(size=(4, 3, 2))
    cells = noisy(values, spread=0.001)
    first, _ = held_out_matches(matrix(values, cells=cells, repaired=repaired), WEIGHTS)
    own = repaired[:, [0, 1, 2], [0, 1, 1]]
    np.testing.assert_allclose(first.values, [0.9, 0.8, 0.7] - own.mean(axis=0))
    np.testing.assert_allclose(first.repaired, own - own.mean(axis=0), atol=1e-12)


def test_layers_without_a_defined_cell_have_no_held_out_match():
    values = np.array([[0.9, np.nan], [np.nan, np.nan], [0.1, 0.7]])
    first, second = held_out_matches(matrix(values, cells=noisy(values)), WEIGHTS)
    assert first.positions.tolist() == [0, 2]
    assert second.positions.tolist() == [0, 1]
    assert np.isfinite(first.replicates).all()
    nothing = np.full((3, 2), np.nan)
    assert not held_out_matches(matrix(nothing, cells=noisy(nothing)), WEIGHTS)[0].positions.size


def test_a_layer_without_an_error_has_no_row_in_the_table():
    """It is defined, but not without one of the blocks."""
    one = random_matrix(9)
    one.estimate.without[3, 1] = np.nan
    table = match_table(one, WEIGHTS)
    assert table.loc[table["network"] == "A", "layer"].tolist() == ["l0", "l2", "l3", "l4", "l5"]
    assert table.notna().all(axis=None)
