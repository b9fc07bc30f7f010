"""Pictures of more networks than can be read one by one."""

import itertools

import numpy as np
import pandas as pd
import pytest

from cavalcade.report import curves, networks
from cavalcade.similarity.derived import Number
from cavalcade.similarity.networks import NetworkMatrix


def number(value):
    replicates = value + 0.01 * np.random.default_rng(0).normal(size=20)
    return Number(value, replicates, 20, np.empty(0))


def draw_matrix(count):
    names = tuple(f"network{k}" for k in range(count))
    pairs = {
        (a, b): number(0.5 + 0.3 * np.sin(k))
        for k, (a, b) in enumerate(itertools.combinations(names, 2))
    }
    matrix = NetworkMatrix(names, pairs)
    return networks.draw_networks(matrix, matrix.tree(), {}, measure="adjusted")


@pytest.mark.parametrize(
    ("count", "numbers", "named"), [(13, 13 * 12, 13), (20, 20 * 19, 20), (40, 0, 40), (151, 0, 50)]
)
def test_a_matrix_of_networks_says_what_there_is_room_for(count, numbers, named):
    figure = draw_matrix(count)
    matrix, _, tree = figure.axes
    assert len(matrix.texts) == numbers
    assert ("\n±" in "".join(text.get_text() for text in matrix.texts)) == (count == 13)
    assert ("standard error" in figure.get_suptitle()) == (count == 13)
    assert named <= len(matrix.get_yticklabels()) <= count
    assert bool(tree.texts) == (count <= networks.MOST_WITH_SUPPORT)


def test_each_leaf_lies_beside_its_row():
    figure = draw_matrix(12)
    matrix, _, tree = figure.axes
    assert tree.get_ylim() == matrix.get_ylim()
    assert tree.get_position().y0 == matrix.get_position().y0
    assert tree.get_position().y1 == matrix.get_position().y1
    leaves = [y for line in tree.lines for x, y in zip(*line.get_data(), strict=True) if x == 0]
    assert sorted(leaves) == list(range(12))


@pytest.mark.parametrize(("count", "shown"), [(24, 24), (26, 24)])
def test_flow_has_a_panel_for_each_of_the_first_networks(count, shown):
    found = {f"network{k}": (np.array([0.1, 0.2]), np.array([0.0, 0.1])) for k in range(count)}
    distances = {name: {"distance": number(0.2), "half_distance": number(0.4)} for name in found}
    figure = curves.draw_flow(found, distances, measure="adjusted")
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes]
    assert titles == list(found)[:shown]
    assert ("24 of 26 networks" in figure.get_suptitle()) == (count > shown)


def test_flow_names_its_lines_though_the_first_network_has_none():
    found = {name: (np.array([0.1, 0.2]), np.array([0.0, 0.1])) for name in "ab"}
    distances = {
        "a": {"distance": number(np.nan), "half_distance": number(np.nan)},
        "b": {"distance": number(0.2), "half_distance": number(0.4)},
    }
    (legend,) = curves.draw_flow(found, distances, measure="adjusted").legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told == ["another meaning", "half of the agreement is lost"]


def test_agreement_draws_every_so_many_cells(monkeypatch):
    monkeypatch.setattr(networks, "MOST_POINTS", 100)
    cells = pd.DataFrame({"x": np.arange(250.0), "y": np.arange(250.0), "kind": "trained"})
    for some, step in ((cells, 3), (cells[:100], 1)):
        figure = networks.draw_agreement([("cka", some, 0.5)], measure="adjusted")
        points = figure.axes[0].collections[0].get_offsets()[:, 0].tolist()
        assert points == list(range(0, len(some), step))
        assert ("one pair in 3" in figure.get_suptitle()) == (step == 3)
