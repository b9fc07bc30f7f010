import numpy as np
import pytest
from scipy import stats

from cavalcade.similarity import KEYS, Estimate, block_weights
from cavalcade.similarity.agreement import MOST, RESAMPLES, agreement, disagreements
from cavalcade.similarity.ranks import spearman
from test_layer_matrix import matrix, noisy

WEIGHTS = block_weights(21, resamples=300)
PAIRS = (("vgg", "resnet"), ("vgg", "vit"), ("resnet", "vit"))


def measured(function=lambda x: x, seed=0, name="adjusted", spread=0.02, shape=(4, 3)):
    """A measure of three pairs: some function of the same random similarities."""
    rng = np.random.default_rng(seed)
    found = []
    for k, names in enumerate(PAIRS):
        values = function(rng.random(shape))
        cells = noisy(values, spread=spread, seed=k)
        found.append(matrix(values, cells=cells, names=names, measure=name))
    return found


def row_of(reference, others):
    return agreement(reference, {"cka": others}, WEIGHTS).iloc[0]


def every_cell(matrices):
    return np.concatenate([one.values.ravel() for one in matrices])


def test_columns():
    table = agreement(measured(), {"cka": measured(seed=1), "cca": measured(seed=2)}, WEIGHTS)
    assert list(table.columns) == [
        "measure", "cells", "value", "stderr", "low", "high", "within_pairs",
    ]  # fmt: skip
    assert table["measure"].tolist() == ["cka", "cca"]
    assert (table["cells"] == 36).all()


@pytest.mark.parametrize(("function", "result"), [(np.exp, 1.0), (np.negative, -1.0)])
def test_monotone_is_perfect(function, result):
    row = row_of(measured(spread=0), measured(function, spread=0))
    assert row["value"] == pytest.approx(result)
    assert row["within_pairs"] == pytest.approx(result)
    assert (row["low"], row["high"]) == (pytest.approx(result), pytest.approx(result))


def test_value_is_that_of_scipy_over_all_cells():
    x, y = measured(), measured(seed=1)
    row = row_of(x, y)
    reference = stats.spearmanr(every_cell(x), every_cell(y)).statistic
    assert row["value"] == pytest.approx(reference)
    within = [
        stats.spearmanr(a.values.ravel(), b.values.ravel()).statistic
        for a, b in zip(x, y, strict=True)
    ]
    assert row["within_pairs"] == pytest.approx(np.mean(within))


def test_networks_that_differ_can_hide_layers_that_do_not():
    """Between pairs the measures agree, within each they are opposites."""
    level = {"vgg": 0, "resnet": 10}
    x, y = measured(spread=0), measured(np.negative, spread=0)
    for part in (x, y):
        for one in part:
            one.values[:] += 5 * (level.get(one.pair.network_a, 0) + (one.pair.network_b == "vit"))
    row = row_of(x, y)
    assert row["within_pairs"] == pytest.approx(-1)
    assert row["value"] > 0.5


def test_errors_come_from_resamples_of_the_same_blocks():
    x, y = measured(), measured(lambda v: v**2, spread=0.3)
    row = row_of(x, y)
    replicates = [
        np.concatenate(
            [m.estimate.replicates(WEIGHTS[:RESAMPLES]).reshape(RESAMPLES, -1) for m in part],
            axis=1,
        )
        for part in (x, y)
    ]
    reference = [stats.spearmanr(a, b).statistic for a, b in zip(*replicates, strict=True)]
    assert row["stderr"] == pytest.approx(np.std(reference, ddof=1))
    assert row["stderr"] > 0.01
    assert row["low"] < np.median(reference) < row["high"]


def test_undefined_cells_of_either_measure_stay_out():
    x, y = measured(), measured(seed=1)
    x[0].values[0, 0] = y[1].values[2, 2] = np.nan
    row = row_of(x, y)
    both = np.isfinite(every_cell(x)) & np.isfinite(every_cell(y))
    assert row["cells"] == both.sum() == 34
    reference = stats.spearmanr(every_cell(x)[both], every_cell(y)[both]).statistic
    assert row["value"] == pytest.approx(reference)
    assert np.isfinite(row["stderr"])


def test_a_measure_that_is_nowhere_defined_has_no_agreement():
    nothing = measured(lambda v: np.full(v.shape, np.nan))
    row = row_of(measured(), nothing)
    assert row["cells"] == 0
    assert np.isnan(row[["value", "within_pairs"]].astype(float)).all()
    assert disagreements(measured(), {"cka": nothing}).empty


def test_disagreements_are_ordered_from_meaning_to_geometry():
    x, y = measured(), measured(seed=1)
    table = disagreements(x, {"cka": y})
    assert len(table) == 2 * MOST
    assert table["difference"].is_monotonic_decreasing
    ranks = [(stats.rankdata(every_cell(part)) - 1) / 35 for part in (x, y)]
    difference = np.sort(ranks[0] - ranks[1])[::-1]
    np.testing.assert_allclose(table["difference"][:MOST], difference[:MOST])
    np.testing.assert_allclose(table["difference"][MOST:], difference[-MOST:])
    np.testing.assert_allclose(table["adjusted_rank"] - table["rank"], table["difference"])


def test_disagreements_name_their_cells():
    x, y = measured(), measured(seed=1)
    table = disagreements(x, {"cka": y, "cca": measured(np.negative)})
    assert list(table.columns) == [
        *KEYS, "measure", "adjusted", "value", "adjusted_rank", "rank", "difference",
    ]  # fmt: skip
    assert table["measure"].tolist() == ["cka"] * 20 + ["cca"] * 20
    of = {(one.pair.network_a, one.pair.network_b): k for k, one in enumerate(x)}
    for row in table[table["measure"] == "cka"].itertuples():
        k = of[row.network_a, row.network_b]
        assert row.adjusted == x[k].frame().loc[row.layer_a, row.layer_b]
        assert row.value == y[k].frame().loc[row.layer_a, row.layer_b]


def test_few_cells_are_shown_once():
    x, y = (measured(seed=seed, shape=(2, 2)) for seed in (0, 1))
    table = disagreements(x, {"cka": y})
    assert len(table) == 12
    assert not table.duplicated(KEYS).any()
    assert table["difference"].is_monotonic_decreasing


def test_a_planted_disagreement_comes_first():
    x, y = measured(spread=0), measured(np.exp, spread=0)
    x[1].values[3, 2], y[1].values[3, 2] = 2.0, 0.5  # means the same in other geometry
    x[2].values[0, 1], y[2].values[0, 1] = -1.0, 9.0  # geometry flatters
    table = disagreements(x, {"cka": y})
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["network_a"], first["network_b"], first["layer_a"], first["layer_b"]) == (
        "vgg", "vit", "l3", "l2",
    )  # fmt: skip
    assert (last["network_a"], last["network_b"], last["layer_a"], last["layer_b"]) == (
        "resnet", "vit", "l0", "l1",
    )  # fmt: skip
    assert (first["difference"], last["difference"]) == (1.0, -1.0)


@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_agrees_with_scipy_with_ties(levels):
    x, y = np.random.default_rng(0).integers(0, levels, size=(2, 20, 15)).astype(float)
    reference = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spearman(x, y), reference, atol=1e-12)
    stacked = spearman(x.reshape(4, 5, 15), y.reshape(4, 5, 15))
    np.testing.assert_allclose(stacked, np.reshape(reference, (4, 5)), atol=1e-12)


def test_spearman_of_a_constant_is_undefined():
    x = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    found = spearman(x, np.array([[3.0, 2.0, 1.0]] * 2))
    assert found[0] == pytest.approx(-1)
    assert np.isnan(found[1])
    assert np.isnan(spearman(x[0], x[1]))


def test_two_cells_have_no_rank_correlation():
    assert np.isnan(spearman(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]))).all()


def test_estimates_that_blocks_do_not_change_have_no_error():
    x = measured(spread=0)
    assert isinstance(x[0].estimate, Estimate)
    assert row_of(x, measured(seed=1, spread=0))["stderr"] == pytest.approx(0, abs=1e-12)
