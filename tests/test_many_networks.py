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


@pytest.fixture
def drawn(monkeypatch):
    """The figures, in place of files."""
    figures = []
    for module in (curves, networks):
        monkeypatch.setattr(module, "save", lambda figure, _: figures.append(figure))
    return figures


def draw_matrix(count, path):
    names = tuple(f"network{k}" for k in range(count))
    pairs = {
        (a, b): number(0.5 + 0.3 * np.sin(k))
        for k, (a, b) in enumerate(itertools.combinations(names, 2))
    }
    matrix = NetworkMatrix(names, pairs)
    networks.draw_networks(matrix, matrix.tree(), {}, path, measure="adjusted")


@pytest.mark.parametrize(
    ("count", "numbers", "named"), [(24, 24 * 23, 24), (25, 0, 25), (151, 0, 0)]
)
def test_a_matrix_of_networks_says_what_there_is_room_for(drawn, tmp_path, count, numbers, named):
    draw_matrix(count, tmp_path)
    (figure,) = drawn
    assert max(figure.get_size_inches()) < 60
    tree, matrix, _ = figure.axes
    assert len(matrix.texts) == numbers
    assert len(matrix.get_yticklabels()) == named
    assert len(tree.texts) == (count - 1 if numbers else 0)


@pytest.mark.parametrize(("count", "shown"), [(24, 24), (26, 24)])
def test_flow_has_a_panel_for_each_of_the_first_networks(drawn, tmp_path, count, shown):
    found = {f"network{k}": (np.array([0.1, 0.2]), np.array([0.0, 0.1])) for k in range(count)}
    distances = {name: {"distance": number(0.2), "half_distance": number(0.4)} for name in found}
    curves.draw_flow(found, distances, tmp_path, measure="adjusted")
    (figure,) = drawn
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes if axis.axison]
    assert titles == list(found)[:shown]
    assert ("24 of 26 networks" in figure.get_suptitle()) == (count > shown)


def test_agreement_draws_every_so_many_cells(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "MOST_POINTS", 100)
    cells = pd.DataFrame({"x": np.arange(250.0), "y": np.arange(250.0), "kind": "trained"})
    for some in (cells, cells[:100]):
        networks.draw_agreement([("cka", some, 0.5)], tmp_path, measure="adjusted")
    points = [figure.axes[0].collections[0].get_offsets()[:, 0].tolist() for figure in drawn]
    assert points == [list(range(0, 250, 3)), list(range(100))]
