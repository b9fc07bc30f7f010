import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import false_discovery_control

from cavalcade.errors import InputError
from cavalcade.similarity import block_weights, nearer
from cavalcade.similarity.derived import Number, cell_number
from cavalcade.similarity.nearer import nearer_layers, nearer_networks, nearer_of
from cavalcade.similarity.networks import NetworkMatrix
from test_layer_matrix import layers, matrix, noisy
from test_networks import NAMES, PLANTED, network_matrix

WEIGHTS = block_weights(21, resamples=400)


def test_the_nearer_of_two_is_named():
    one = network_matrix(PLANTED, spread=0.02)
    table = nearer_networks(one)
    assert len(table) == 4 * 3
    for row in table.itertuples():
        near, far = one[row.network, row.nearer].value, one[row.network, row.farther].value
        assert near >= far
        assert row.difference == pytest.approx(near - far)
    row = table.set_index(["network", "nearer", "farther"]).loc["swin", "vit", "resnet"]
    assert row["p"] < 1e-6
    assert 0.35 < row["low"] < 0.45 < row["high"] < 0.55


def test_one_network_twice_is_as_near_as_itself():
    number = network_matrix(PLANTED, spread=0.02)["vit", "swin"]
    found = nearer_of("swin", number, "swin", number)
    assert (found["nearer"], found["farther"], found["difference"]) == ("swin", "swin", 0)


def test_every_network_is_asked_about_every_two_others():
    table = nearer_networks(network_matrix(PLANTED, spread=0.02))
    asked = {(row.network, frozenset((row.nearer, row.farther))) for row in table.itertuples()}
    expected = {
        (name, frozenset(two))
        for name in NAMES
        for two in itertools.combinations(set(NAMES) - {name}, 2)
    }
    assert asked == expected


def test_differences_are_paired():
    """A scene that makes all networks alike says nothing on which is nearer."""
    shared = 0.2 * np.random.default_rng(0).normal(size=400)
    pairs = {key: Number(value, value + shared, 21, np.empty(0)) for key, value in PLANTED.items()}
    one = network_matrix(PLANTED, spread=0.005)
    apart = {key: one[key].replicates - one[key].value for key in PLANTED}
    paired = NetworkMatrix(
        NAMES,
        {k: Number(n.value, n.replicates + apart[k], 21, n.repaired) for k, n in pairs.items()},
    )
    table = nearer_networks(paired)
    assert (table["stderr"] < 0.02).all()
    assert (table.loc[table["difference"] > 0.04, "p"] < 0.001).all()


def test_equally_near_is_not_significant():
    equal = dict.fromkeys(PLANTED, 0.5)
    table = nearer_networks(network_matrix(equal, spread=0.05))
    assert (table["p"] > 0.9).all()
    slightly = {key: 0.5 + 0.01 * k for k, key in enumerate(PLANTED)}
    assert (nearer_networks(network_matrix(slightly, spread=0.05))["p"] > 0.3).all()


def test_q_is_p_adjusted_for_their_number():
    rng = np.random.default_rng(1)
    values = {key: 0.5 + 0.05 * rng.normal() for key in PLANTED}
    table = nearer_networks(network_matrix(values, spread=0.03))
    assert (table["q"] >= table["p"]).all()
    assert (table["q"] > table["p"]).any()
    np.testing.assert_allclose(table["q"], false_discovery_control(table["p"]))


def test_undefined_differences_are_not_counted_among_the_tests():
    table = nearer_networks(network_matrix({**PLANTED, ("vgg", "vit"): np.nan}, spread=0.05))
    defined = table["p"].notna()
    assert (~defined).sum() == 4  # two for vgg, two for vit
    assert table.loc[~defined, "q"].isna().all()
    adjusted = false_discovery_control(table.loc[defined, "p"])
    np.testing.assert_allclose(table.loc[defined, "q"], adjusted)


def test_two_networks_have_none_nearer():
    table = nearer_networks(network_matrix({("vgg", "vit"): 0.5}))
    assert table.empty
    assert list(table.columns) == [
        "network", "nearer", "farther", "difference", "stderr", "low", "high", "p", "q",
    ]  # fmt: skip


def clear(off, names, seed, depths=(0.0, 0.5, 1.0)):
    """Layers match at the same depth, all of them by `1 - off`."""
    values = np.where(np.eye(3, dtype=bool), 1 - off, 0.1)
    a, b = layers(*depths), layers(*depths, branch=(2,) if names[1] == "vit" else ())
    return matrix(values, a, b, cells=noisy(values, seed=seed), names=names)


def test_the_network_with_the_nearer_match_is_named_for_each_layer():
    found = [clear(0.2, ("vgg", "resnet"), 0), clear(0.5, ("vgg", "vit"), 1),
             clear(0.4, ("resnet", "vit"), 2)]  # fmt: skip
    table = nearer_layers(found, WEIGHTS)
    assert list(table.columns[:3]) == ["network", "layer", "depth"]
    # three networks of three layers, one of which is a branch
    assert len(table) == 3 * 3 - 1
    own = table[(table["network"] == "vgg") & (table["depth"] < 1)]
    assert own["layer"].tolist() == ["l0", "l1"]
    assert (own["nearer"] == "resnet").all()
    assert (own["farther"] == "vit").all()
    np.testing.assert_allclose(own["difference"], 0.3, atol=1e-9)
    assert (own["low"] > 0.2).all()
    assert (own["q"] < 0.001).all()


def test_of_many_others_the_nearest_are_tested(monkeypatch):
    monkeypatch.setattr(nearer, "NEAREST", 2)
    one = network_matrix(PLANTED, spread=0.02)
    table = nearer_networks(one)
    assert table["network"].tolist() == list(one.networks)
    for row in table.itertuples():
        similar = sorted(number.value for number in one.of(row.network).values())
        tested = [one[row.network, other].value for other in (row.nearer, row.farther)]
        assert tested == similar[:-3:-1]


def test_of_many_others_the_nearest_of_each_layer_are_tested(monkeypatch):
    """Those of one layer are not those of another, and their tests are those among all."""
    off = {("a", "b"): (0.1, 0.3), ("a", "c"): (0.2, 0.2), ("a", "d"): (0.3, 0.1),
           ("b", "c"): (0.4, 0.4), ("b", "d"): (0.5, 0.5), ("c", "d"): (0.6, 0.6)}  # fmt: skip
    found = []
    for seed, (names, less) in enumerate(off.items()):
        values = np.where(np.eye(2, dtype=bool), 1 - np.array(less)[:, None], 0.1)
        cells = noisy(values, seed=seed)
        found.append(matrix(values, layers(0.0, 1.0), layers(0.0, 1.0), cells=cells, names=names))
    keys = ["network", "layer", "nearer", "farther"]
    full = nearer_layers(found, WEIGHTS).drop(columns="q").set_index(keys)
    monkeypatch.setattr(nearer, "NEAREST", 2)
    few = nearer_layers(found, WEIGHTS).drop(columns="q").set_index(keys)
    assert len(full) == 4 * 2 * 3
    assert len(few) == 4 * 2
    assert list(few.index[:2]) == [("a", "l0", "b", "c"), ("a", "l1", "d", "c")]
    pd.testing.assert_frame_equal(few, full.loc[few.index])


def test_a_cell_is_a_number_of_its_own():
    values = np.array([[0.9, 0.1], [0.4, 0.5], [0.2, 0.8]])
    one = matrix(values, cells=noisy(values), repaired=np.zeros((2, 3, 2)))
    number = cell_number(one, "l2", "l1", WEIGHTS)
    assert number.value == 0.8
    assert number.stderr == pytest.approx(one.estimate.stderr[2, 1], rel=0.2)
    assert number.null == 0
    assert number.p == pytest.approx(2 * stats.t.sf(0.8 / number.stderr, 20))
    with pytest.raises(InputError, match="layer of B is 'l7'; give one of l0, l1"):
        cell_number(one, "l0", "l7", WEIGHTS)
