"""Errors of layers that are compared by matching concepts, in the data sets of test_coverage."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from cavalcade.similarity import (
    assigned_mean,
    best_match_mean,
    layer_cells,
    less_chance,
    repaired_orders,
    similarity_of_pairs,
)
from test_coverage import BLOCKS, LAYERS, REPAIRINGS, simulated

pytestmark = pytest.mark.slow

ONE = [slice(0, LAYERS)]
STATISTICS = {"best match": best_match_mean, "assignment": assigned_mean}
DATA_SETS = 400


def compared(rng, repairings=REPAIRINGS, **how):
    """The masks of each network taken as the concepts of one layer: as such, and less chance."""
    firings, _, blocks = simulated(rng, 2, **how)
    orders = torch.from_numpy(repaired_orders(blocks.numpy(), repairings))
    (cells,) = similarity_of_pairs(firings, [(0, 1)], None, blocks, orders)
    found = {}
    for name, statistic in STATISTICS.items():
        estimate, repaired = layer_cells(cells, "adjusted", statistic, (ONE, ONE))
        less, _ = less_chance(estimate, repaired)
        error = float(estimate.stderr[0, 0])
        found[name] = float(estimate.value[0, 0]), float(less.value[0, 0]), error
    return found


@cache
def simulations(related):
    """For each statistic value, value less chance, and error, in many data sets."""
    rng = np.random.default_rng(1)
    found = [compared(rng, related=related) for _ in range(DATA_SETS)]
    return {name: np.array([each[name] for each in found]).T for name in STATISTICS}


@cache
def truth():
    """What the statistics would be with endless data."""
    found = compared(np.random.default_rng(0), repairings=0, related=True, blocks=1500)
    return {name: value for name, (value, _, _) in found.items()}


@pytest.mark.parametrize("name", STATISTICS)
def test_intervals_of_what_matches_hold_the_truth(name):
    value, less, error = simulations(True)[name]
    reach = stats.t.ppf(0.975, BLOCKS - 1) * error
    assert 0.92 <= (abs(value - truth()[name]) < reach).mean() <= 0.98
    # what chance can give is taken off clear matches too, which errs on the low side
    assert truth()[name] - 0.02 < less.mean() < truth()[name]


@pytest.mark.parametrize("name", STATISTICS)
def test_unrelated_layers_are_at_chance(name):
    value, less, error = simulations(False)[name]
    assert value.mean() > 3 * less.std() / DATA_SETS**0.5  # a maximum is large by chance
    assert abs(less.mean()) < 3 * less.std() / DATA_SETS**0.5
    assert (less > stats.t.ppf(0.95, BLOCKS - 1) * error).mean() <= 0.06
