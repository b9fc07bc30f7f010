import itertools

import numpy as np
import pytest
from scipy import stats

from cavalcade.similarity import Estimate, block_weights
from cavalcade.similarity.estimates import combined, interval, p_value


def mean_of(blocks):
    """The mean over blocks, and over all but each."""
    size = len(blocks)
    return Estimate(blocks.mean(axis=0), (blocks.sum(axis=0) - blocks) / (size - 1))


def every_resample(num_blocks):
    """Each of the equally likely draws of a block bootstrap, as weights."""
    draws = itertools.product(range(num_blocks), repeat=num_blocks)
    return np.array([np.bincount(draw, minlength=num_blocks) for draw in draws])


def ratio_of(x, y):
    return combined(np.divide, Estimate.of_counts(x), Estimate.of_counts(y))


@pytest.mark.parametrize("shape", [(7, 1), (21, 3), (4, 2, 5)])
def test_error_of_a_mean_is_that_of_the_textbook(shape):
    blocks = np.random.default_rng(0).normal(size=shape)
    reference = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    np.testing.assert_allclose(mean_of(blocks).stderr, reference, rtol=1e-12)


def test_error_of_a_ratio_is_the_jackknife_spelt_out():
    rng = np.random.default_rng(1)
    x, y = rng.integers(5, 50, size=(2, 9, 4))
    errors = []
    for cell in range(4):
        without = [
            np.delete(x[:, cell], g).sum() / np.delete(y[:, cell], g).sum() for g in range(9)
        ]
        errors.append(np.sqrt(8 / 9 * sum((w - np.mean(without)) ** 2 for w in without)))
    np.testing.assert_allclose(ratio_of(x, y).stderr, errors, rtol=1e-12)
    np.testing.assert_allclose(ratio_of(x, y).value, x.sum(axis=0) / y.sum(axis=0), rtol=1e-12)


def test_one_block_has_no_error():
    estimate = Estimate.of_counts(np.array([[3, 4]]))
    np.testing.assert_array_equal(estimate.value, [3, 4])
    assert np.isnan(estimate.stderr).all()
    assert estimate.stderr.shape == (2,)


def test_counts_without_each_block():
    counts = np.array([[1, 10], [2, 20], [4, 40]])
    estimate = Estimate.of_counts(counts)
    np.testing.assert_array_equal(estimate.value, [7, 70])
    np.testing.assert_array_equal(estimate.without, [[6, 60], [5, 50], [3, 30]])


def test_combined_is_the_function_of_each():
    x = Estimate(np.array([2.0]), np.array([[1.0], [3.0]]))
    y = Estimate(np.array([5.0]), np.array([[4.0], [8.0]]))
    product = combined(np.multiply, x, y)
    np.testing.assert_array_equal(product.value, [10])
    np.testing.assert_array_equal(product.without, [[4], [24]])


@pytest.mark.parametrize("num_blocks", [2, 3, 5])
def test_variance_over_all_resamples_is_that_of_the_jackknife(num_blocks):
    rng = np.random.default_rng(2)
    x, y = rng.integers(5, 50, size=(2, num_blocks, 3))
    estimate = ratio_of(x, y)
    replicates = estimate.replicates(every_resample(num_blocks))
    # every one of the B^B draws: nothing is left to chance
    np.testing.assert_allclose(replicates.std(axis=0), estimate.stderr, rtol=1e-10)
    np.testing.assert_allclose(replicates.mean(axis=0), estimate.value, rtol=1e-10)


def test_replicates_of_a_mean_are_resampled_means():
    """To first order is all there is for a mean: B / (B - 1) wider for its small sample."""
    blocks = np.random.default_rng(3).normal(size=(6, 2))
    weights = block_weights(6, resamples=50)
    resampled = weights @ blocks / 6
    spread = np.sqrt(6 / 5)
    reference = blocks.mean(axis=0) + spread * (resampled - blocks.mean(axis=0))
    np.testing.assert_allclose(mean_of(blocks).replicates(weights), reference, rtol=1e-10)


def test_replicates_keep_the_shape_and_what_is_undefined():
    estimate = Estimate(np.array([[1.0, np.nan]]), np.array([[[1.0, np.nan]], [[2.0, np.nan]]]))
    replicates = estimate.replicates(block_weights(2, resamples=7))
    assert replicates.shape == (7, 1, 2)
    assert np.isnan(replicates[..., 1]).all()
    assert np.isfinite(replicates[..., 0]).all()


def test_weights_are_draws_of_as_many_blocks():
    weights = block_weights(21, resamples=4000)
    assert (weights.sum(axis=1) == 21).all()
    assert weights.min() == 0
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.1)
    np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 21, atol=0.15)
    # equal for all pairs, so that differences are paired
    np.testing.assert_array_equal(weights, block_weights(21, resamples=4000))
    assert (weights != block_weights(21, resamples=4000, seed=1)).any()


@pytest.mark.parametrize("level", [0.95, 0.9])
@pytest.mark.parametrize("num_blocks", [4, 21])
def test_interval_is_the_expanded_percentile(num_blocks, level):
    replicates = np.random.default_rng(4).gamma(2.0, size=(1000, 3))
    low, high = interval(replicates, num_blocks, level)
    for cell in range(3):
        z = stats.t.ppf((1 + level) / 2, num_blocks - 1)  # as many normal deviations out
        share = stats.norm.sf(z)
        assert low[cell] == pytest.approx(np.quantile(replicates[:, cell], share))
        assert high[cell] == pytest.approx(np.quantile(replicates[:, cell], 1 - share))


def test_interval_of_a_normal_number_is_that_of_student():
    """Perfect normal quantiles as replicates: the ends are t standard errors away."""
    replicates = 10 + 2 * stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    low, high = interval(replicates, 21)
    reach = 2 * stats.t.ppf(0.975, 20)
    np.testing.assert_allclose([low, high], [10 - reach, 10 + reach], rtol=1e-3)


def test_interval_follows_a_skewed_number():
    replicates = np.exp(stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000))
    low, high = interval(replicates, 21)
    assert high - 1 > 3 * (1 - low) > 0


def test_one_block_has_no_interval():
    low, high = interval(np.ones((10, 2)), 1)
    assert low.shape == high.shape == (2,)
    assert np.isnan([low, high]).all()


def test_p_is_that_of_a_t_test():
    blocks = np.random.default_rng(5).normal(0.4, size=(12, 3))
    mean = mean_of(blocks)
    reference = stats.ttest_1samp(blocks, 0).pvalue
    np.testing.assert_allclose(p_value(mean.value, mean.stderr, 12), reference, rtol=1e-9)
    np.testing.assert_allclose(p_value(-mean.value, mean.stderr, 12), reference, rtol=1e-9)


def test_p_without_an_error_is_undefined():
    value, stderr = np.array([1.0, 0.0, 1.0, np.nan]), np.array([0.0, 0.0, np.nan, 1.0])
    assert np.isnan(p_value(value, stderr, 5)).all()
    assert np.isnan(p_value(value, np.full(4, np.nan), 1)).all()
