import numpy as np
import pytest
from scipy import stats

from cavalcade.similarity import Estimate, Flow, attainable, block_weights, ceilings
from cavalcade.similarity.flow import trunk_ceilings
from test_layer_matrix import layers, matrix, noisy

BLOCKS = 21
WEIGHTS = block_weights(BLOCKS, resamples=200)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def decaying(critical=0.15, slope=0.4, own=0.8, depths=DEPTHS, branch=(), seed=0):
    """Halves of one network: alike by `own`, less by `slope` times the distance of depth.

    A loss is significant from `critical` on for the first layer, which has four later ones; less
    is enough where fewer are tried.
    """
    gap = np.abs(np.subtract.outer(depths, depths))
    values = own - slope * gap
    pulls = np.random.default_rng(seed).normal(size=BLOCKS)
    pulls -= pulls.mean()
    stderr = critical / stats.t.ppf(1 - 0.05 / 4, BLOCKS - 1)
    pulls *= stderr / np.sqrt((BLOCKS - 1) / BLOCKS * (pulls**2).sum())
    without = values + pulls[:, None, None] * (gap > 0)
    named = layers(*depths, branch=branch)
    cells = Estimate(values, without)
    return Flow(matrix(values, named, named, cells=cells, names=("vgg", "vgg")))


def test_a_loss_is_what_two_layers_lack_to_their_own_ceilings():
    values = np.array([[0.9, 0.5], [0.3, 0.7]])
    losses = Flow(matrix(values, cells=noisy(values), names=("vgg", "vgg"))).losses()
    loss = np.sqrt(0.9 * 0.7) - 0.4  # as in Spearman's correction: unreliable is not different
    np.testing.assert_allclose(losses.value, [[0.0, loss], [loss, 0.0]])
    assert losses.stderr[0, 1] > 0
    np.testing.assert_allclose(np.diagonal(losses.stderr), 0, atol=1e-12)
    np.testing.assert_allclose(losses.without, losses.without.swapaxes(1, 2))


@pytest.mark.parametrize(("critical", "steps"), [(0.05, 1), (0.15, 2), (0.25, 3), (0.35, 4)])
def test_the_next_layer_that_means_something_else(critical, steps):
    flow = decaying(critical)  # a loss of 0.1 for each step
    table = flow.table()
    found = 5 - steps
    names = [f"l{k}" for k in range(5)]
    assert list(table.columns) == [
        "network", "layer", "depth", "differs_from", "distance", "loss", "stderr",
        "halved_at", "half_distance",
    ]  # fmt: skip
    assert table["layer"].tolist() == names
    assert (table["network"] == "vgg").all()
    assert table["differs_from"].tolist() == names[steps:] + [""] * steps
    np.testing.assert_allclose(table["distance"][:found], steps * 0.25)
    np.testing.assert_allclose(table["loss"][:found], steps * 0.1)
    stderr = critical / stats.t.ppf(1 - 0.05 / 4, BLOCKS - 1)
    np.testing.assert_allclose(table["stderr"][:found], stderr)
    assert table.loc[found:, ["distance", "loss", "stderr"]].isna().all(axis=None)
    assert flow.distances(WEIGHTS)["distance"].value == pytest.approx(steps * 0.25)


def test_the_first_that_differs_though_later_ones_do_not():
    flow = decaying(critical=0.15)
    flow.halves.values[0, 1] = flow.halves.values[1, 0] = 0.3
    assert flow.table()["differs_from"].tolist()[:2] == ["l1", "l3"]
    # also where an earlier layer of the other half differs, only later ones are looked at
    assert flow.distances(WEIGHTS)["distance"].value == pytest.approx((0.25 + 0.5 + 0.5) / 3)


def test_no_difference_is_undefined_and_has_no_name():
    flow = decaying(critical=0.5)
    table = flow.table()
    assert (table["differs_from"] == "").all()
    assert table[["distance", "loss", "stderr"]].isna().all(axis=None)
    distance = flow.distances(WEIGHTS)["distance"]
    assert np.isnan(distance.value)


def test_layers_that_are_more_alike_than_themselves_do_not_differ():
    assert (decaying(critical=0.05, slope=-0.4).table()["differs_from"] == "").all()


def test_the_distance_has_an_interval_over_the_same_blocks():
    """A loss of one step is at the edge: in some resamples two are needed."""
    distance = decaying(critical=0.09).distances(WEIGHTS)["distance"]
    low, high = distance.interval
    assert (distance.value, distance.num_blocks) == (pytest.approx(0.25), BLOCKS)
    assert len(distance.replicates) == len(WEIGHTS)
    assert low == pytest.approx(0.25)  # never less than one step
    assert high >= 0.5
    assert decaying(critical=1e-9).distances(WEIGHTS)["distance"].stderr == pytest.approx(
        0, abs=1e-12
    )


def test_each_resample_is_the_distance_of_its_own_losses():
    flow = decaying(critical=0.17)
    losses = flow.losses()
    depths = np.array(DEPTHS)
    for cells, found in zip(
        losses.replicates(WEIGHTS), flow.distances(WEIGHTS)["distance"].replicates, strict=True
    ):
        distances = []
        for k in range(5):
            tests = max(4 - k, 1)
            point = stats.t.ppf([1 - 0.05 / tests, 1 - 0.05 / 4], BLOCKS - 1)
            later = [m for m in range(k + 1, 5) if cells[k, m] > 0.17 * point[0] / point[1]]
            distances += [depths[later[0]] - depths[k]] if later else []
        np.testing.assert_allclose(found, np.mean(distances) if distances else 1.0)


def test_branches_stay_out():
    flow = decaying(critical=0.05, branch=(1, 3))
    table = flow.table()
    assert table["layer"].tolist() == ["l0", "l2", "l4"]
    assert table["differs_from"].tolist() == ["l2", "l4", ""]
    np.testing.assert_allclose(table["distance"][:2], 0.5)
    assert flow.distances(WEIGHTS)["distance"].value == pytest.approx(0.5)
    distances, losses = flow.curve()
    np.testing.assert_allclose(distances, [0.5, 1.0, 0.5])
    np.testing.assert_allclose(losses, [0.2, 0.4, 0.2])
    assert trunk_ceilings(flow.halves).value.tolist() == [0.8] * 3


def test_the_curve_has_all_pairs_of_different_layers():
    distances, losses = decaying().curve()
    assert len(distances) == 10
    np.testing.assert_allclose(losses, 0.4 * distances)


def test_ceilings_are_the_same_layer_on_both_halves():
    values = np.arange(9.0).reshape(3, 3)
    halves = matrix(values, cells=noisy(values))
    np.testing.assert_array_equal(ceilings(halves).value, [0, 4, 8])
    np.testing.assert_array_equal(ceilings(halves).without[:, 1], halves.estimate.without[:, 1, 1])


def test_attainable_is_the_geometric_mean_of_both_ceilings():
    a, b = noisy([0.4, 0.9]), noisy([0.9, 0.1, 0.4], seed=1)
    found = attainable(a, b)
    np.testing.assert_allclose(found.value, np.sqrt(np.outer(a.value, b.value)))
    for block in range(BLOCKS):
        reference = np.sqrt(np.outer(a.without[block], b.without[block]))
        np.testing.assert_allclose(found.without[block], reference)


@pytest.mark.parametrize("ceiling", [0.0, -0.2, np.nan])
def test_without_a_ceiling_nothing_is_attainable(ceiling):
    a = Estimate(np.array([0.5, ceiling]), np.array([[0.5, ceiling]] * 2))
    b = Estimate(np.array([-0.1, 0.5]), np.array([[-0.1, 0.5]] * 2))
    np.testing.assert_array_equal(np.isnan(attainable(a, b).value), [[True, False], [True, True]])


def halving(branch=()):
    """Agreement falls by a fifth of the full 0.8 from layer to layer: half is lost after three."""
    depths = np.array(DEPTHS)
    values = 0.8 - 0.64 * np.abs(depths[:, None] - depths)
    named = layers(*DEPTHS, branch=branch)
    return Flow(matrix(values, named, named, cells=noisy(values, BLOCKS, spread=0.01)))


def test_the_next_layer_at_which_half_is_lost():
    table = halving().table()
    assert table["halved_at"].tolist() == ["l3", "l4", "", "", ""]
    np.testing.assert_allclose(table["half_distance"], [0.75, 0.75, np.nan, np.nan, np.nan])
    number = halving().distances(WEIGHTS)["half_distance"]
    assert number.value == pytest.approx(0.75)
    low, high = number.interval
    assert low == high == pytest.approx(0.75)  # neither two steps nor four are near the half
    assert halving(branch=(3,)).table()["halved_at"].tolist() == ["l4", "l4", "", ""]


def test_where_half_is_never_lost_there_is_no_such_distance():
    flow = decaying(critical=0.05, slope=0.1)
    assert (flow.table()["halved_at"] == "").all()
    assert np.isnan(flow.distances(WEIGHTS)["half_distance"].value)
