import numpy as np
import pytest
from scipy import stats

from cavalcade.similarity import Estimate, block_weights, derived
from cavalcade.similarity.depth import STATISTICS, alignment
from cavalcade.similarity.derived import (
    Number,
    ceiling_number,
    matched_numbers,
    mean_number,
    null_difference,
    pair_numbers,
    rows_of,
    share_numbers,
)
from test_layer_matrix import matrix, noisy

WEIGHTS = block_weights(21, resamples=400)
NOTHING = np.empty(0)
VALUES = [[0.9, 0.3, 0.1], [0.4, 0.7, 0.2], [0.2, 0.3, 0.8]]


def number(value, replicates=(0.0, 0.0), repaired=NOTHING, blocks=21):
    return Number(value, np.asarray(replicates, dtype=float), blocks, np.asarray(repaired))


def test_a_number_is_described_by_its_resamples():
    replicates = np.random.default_rng(0).normal(0.5, 0.1, size=1000)
    one = number(0.5, replicates)
    assert one.stderr == pytest.approx(replicates.std(ddof=1))
    share = stats.norm.sf(stats.t.ppf(0.975, 20))
    assert one.interval == pytest.approx(tuple(np.quantile(replicates, [share, 1 - share])))
    assert one.p == pytest.approx(2 * stats.t.sf(0.5 / one.stderr, 20))


def test_one_block_has_no_error():
    one = number(0.5, [0.5, 0.5], blocks=1)
    assert np.isnan([one.stderr, *one.interval, one.p]).all()


def test_chance_is_the_mean_of_re_paired_images():
    one = number(0.9, repaired=[0.1, 0.2, 0.3])
    assert one.null == pytest.approx(0.2)
    assert one.z == pytest.approx((0.9 - 0.2) / 0.1)


@pytest.mark.parametrize("repaired", [[], [0.1], [0.2, 0.2]])
def test_without_a_spread_of_re_paired_images_there_is_no_z(repaired):
    one = number(0.9, repaired=np.array(repaired))
    assert np.isnan(one.z)
    assert np.isnan(one.null) == (len(repaired) == 0)


def test_differences_are_paired():
    """What all pairs share cancels, in resamples as in re-pairings."""
    rng = np.random.default_rng(1)
    shared, own = rng.normal(size=(2, 400))
    one = number(0.7, 0.7 + 0.1 * shared, [0.1, 0.2, 0.4])
    other = number(0.5, 0.5 + 0.1 * shared + 0.01 * own, [0.1, 0.1])
    difference = one - other
    assert difference.value == pytest.approx(0.2)
    np.testing.assert_allclose(difference.replicates, one.replicates - other.replicates)
    np.testing.assert_allclose(difference.repaired, [0.0, 0.1])
    assert difference.stderr == pytest.approx(0.01, rel=0.1)  # not sqrt(0.02)
    assert difference.num_blocks == 21
    assert (one - one).stderr == 0


def test_a_row_is_the_number_in_words():
    one = number(0.7, np.random.default_rng(2).normal(size=400), [0.1, 0.3])
    low, high = one.interval
    assert one.row() == {
        "value": 0.7,
        "stderr": one.stderr,
        "low": low,
        "high": high,
        "repaired": pytest.approx(0.2),
        "z_repaired": one.z,
    }


def test_mean_of_numbers_is_paired_too():
    up, down = (np.array([1.0, 2.0, 3.0]) * sign for sign in (1, -1))
    mean = mean_number([number(0.2, up, [0.1, 0.2]), number(0.4, down, [0.3])])
    assert mean.value == pytest.approx(0.3)
    np.testing.assert_allclose(mean.replicates, 0)
    np.testing.assert_allclose(mean.repaired, [0.2])


def planted(seed=0, repairings=5):
    rng = np.random.default_rng(seed)
    repaired = 0.02 * rng.normal(size=(repairings, 3, 3))
    return matrix(VALUES, cells=noisy(VALUES, seed=seed), repaired=repaired)


def test_numbers_of_a_pair_are_statistics_of_its_cells():
    one = planted()
    numbers = pair_numbers(one, WEIGHTS)
    assert tuple(numbers) == ("similarity", *STATISTICS)
    parts = [
        alignment(one, x) for x in (one.values, one.estimate.replicates(WEIGHTS), one.repaired)
    ]
    for name in STATISTICS:
        assert numbers[name].value == parts[0][name]
        np.testing.assert_array_equal(numbers[name].replicates, parts[1][name])
        np.testing.assert_array_equal(numbers[name].repaired, parts[2][name])
        assert numbers[name].num_blocks == 21


def test_similarity_is_the_best_match_less_what_its_cells_are_by_chance():
    """Where matches are clear; the best of other cells by chance is not taken off."""
    one = planted()
    numbers = pair_numbers(one, WEIGHTS)
    best, similarity = numbers["mean_best_match"], numbers["similarity"]
    matches = np.diag(one.repaired.mean(axis=0)).mean()
    assert best.null > 0.01  # the best of some numbers is above 0 by chance
    assert similarity.value == pytest.approx(best.value - matches)
    assert similarity.null == pytest.approx(0, abs=1e-12)
    assert similarity.stderr == pytest.approx(best.stderr, rel=0.02)
    assert similarity.z == pytest.approx(
        similarity.value / np.diagonal(one.repaired, axis1=1, axis2=2).mean(axis=1).std(ddof=1)
    )


def test_what_has_no_chance_level_is_the_best_match_itself():
    numbers = pair_numbers(matrix(VALUES, cells=noisy(VALUES)), WEIGHTS)
    assert numbers["similarity"].value == pytest.approx(numbers["mean_best_match"].value)
    assert np.isnan(numbers["similarity"].null)


@pytest.mark.parametrize("repairings", [0, 1])
def test_a_chance_level_that_was_not_sampled_leaves_no_similarity(repairings):
    numbers = pair_numbers(planted(repairings=repairings), WEIGHTS)
    assert np.isnan(numbers["similarity"].value)
    assert np.isfinite(numbers["mean_best_match"].value)


def test_the_error_of_a_sampled_chance_level_counts():
    rng = np.random.default_rng(0)
    one = number(0.5, np.full(1000, 0.5), repaired=0.1 + 0.04 * rng.normal(size=16))
    less = one.less_repaired
    assert less.value == pytest.approx(0.5 - one.null)
    assert less.null == pytest.approx(0, abs=1e-12)
    assert less.stderr == pytest.approx(one.repaired.std(ddof=1) / 4, rel=0.1)
    assert np.isnan(number(0.5, repaired=[0.1]).less_repaired.value)


def test_similarity_weighs_both_networks_the_same():
    values = np.array([[0.9, 0.1], [0.1, 0.5], [0.3, 0.2]])
    one = matrix(values, cells=noisy(values, spread=0.001))
    first, second = matched_numbers(one, WEIGHTS)
    assert {name: round(n.value, 9) for name, n in first.items()} == {
        "l0": 0.9, "l1": 0.5, "l2": 0.3,
    }  # fmt: skip
    assert {name: round(n.value, 9) for name, n in second.items()} == {"l0": 0.9, "l1": 0.5}
    expected = ((0.9 + 0.5 + 0.3) / 3 + (0.9 + 0.5) / 2) / 2
    assert pair_numbers(one, WEIGHTS)["similarity"].value == pytest.approx(expected)


def test_undefined_cells_give_undefined_numbers():
    nothing = np.full((3, 3), np.nan)
    one = matrix(nothing, cells=Estimate(nothing, np.stack([nothing] * 21)))
    for found in pair_numbers(one, WEIGHTS).values():
        assert np.isnan([found.value, *found.interval, found.p]).all()


def ceiling_of(values):
    """Of layers without an error."""
    return ceiling_number(Estimate(np.array(values), np.stack([values] * 21)), WEIGHTS)


def test_share_of_the_ceiling():
    own = number(0.4, np.full(400, 0.4))
    numbers = share_numbers(own, [ceiling_of([0.7, 0.9]), ceiling_of([0.8, 0.8, 0.8])])
    assert numbers["ceiling"].value == pytest.approx(0.8)
    assert numbers["share_of_ceiling"].value == pytest.approx(0.5)
    np.testing.assert_allclose(numbers["share_of_ceiling"].replicates, 0.5)


def test_both_networks_weigh_the_same_in_the_ceiling():
    """Though one has more layers; errors are those of the same blocks."""
    ceilings = [noisy([0.6] * 4), noisy([0.9], seed=1)]
    own = number(0.5, np.full(400, 0.5))
    numbers = share_numbers(own, [ceiling_number(each, WEIGHTS) for each in ceilings])
    assert numbers["ceiling"].value == pytest.approx(0.75)
    parts = [ceiling.replicates(WEIGHTS).mean(axis=1) for ceiling in ceilings]
    reference = (parts[0] + parts[1]) / 2
    np.testing.assert_allclose(numbers["ceiling"].replicates, reference)
    np.testing.assert_allclose(numbers["share_of_ceiling"].replicates, 0.5 / reference)


def test_a_share_of_nothing_is_undefined():
    ceilings = [ceiling_of([-0.1]), ceiling_of([0.05])]
    share = share_numbers(number(0.4, np.full(400, 0.4)), ceilings)["share_of_ceiling"]
    assert np.isnan(share.value)
    assert np.isnan(share.replicates).all()


def test_random_twins_are_a_null_of_their_own():
    replicates = np.random.default_rng(3).normal(size=400)
    own, twin = number(0.7, 0.7 + replicates), number(0.2, 0.2 + 0.5 * replicates)
    found = null_difference(own, twin)
    assert found["random"] == 0.2
    assert found["z_random"] == pytest.approx(0.5 / (0.5 * replicates.std(ddof=1)))
    assert np.isnan(list(null_difference(own, None).values())).all()
    assert np.isnan(null_difference(own, own)["z_random"])


def test_rows_of_many_numbers_are_those_of_each(monkeypatch):
    monkeypatch.setattr(derived, "AT_ONCE", 2)
    rng = np.random.default_rng(4)
    one = matrix(VALUES, cells=noisy(VALUES), repaired=0.1 * rng.normal(size=(4, 3, 3)))
    numbers = [*pair_numbers(one, WEIGHTS).values(), ceiling_of([0.7, 0.9])]
    found = rows_of(numbers)
    reference = [each.row() for each in numbers]
    for name in reference[0]:
        np.testing.assert_array_equal(found[name], [row[name] for row in reference])
