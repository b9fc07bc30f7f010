import numpy as np
import pytest

from cavalcade.backbones import Layer
from cavalcade.comparing.concept_counts import defined_concepts
from cavalcade.similarity import KEYS, Estimate, LayerMatrix, Pair, fixed_concepts, mean_over

VALUES = [[0.9, 0.1], [0.4, 0.5], [0.2, 0.8]]


def layers(*depths, branch=()):
    return tuple(
        Layer(f"l{i}", depth, i not in branch, 8, 4.0, (7, 7)) for i, depth in enumerate(depths)
    )


def estimate(values, without=None):
    """An estimate; without blocks, of two that change nothing."""
    values = np.asarray(values, dtype=float)
    return Estimate(values, np.stack([values] * 2) if without is None else np.asarray(without))


def noisy(values, blocks=21, spread=0.02, seed=0):
    """An estimate that each block pulls its own way; standard errors of about `spread`."""
    values = np.asarray(values, dtype=float)
    pulls = np.random.default_rng(seed).normal(size=(blocks, *values.shape))
    return Estimate(values, values + spread * (pulls - pulls.mean(axis=0)) / np.sqrt(blocks))


def matrix(values, a=None, b=None, cells=None, repaired=None, names=("A", "B"), measure="jaccard"):
    shape = np.shape(values)
    a = a or layers(*np.linspace(0, 1, shape[0]))
    b = b or layers(*np.linspace(0.1, 0.9, shape[1]))
    without_chance = repaired is None  # what has no chance level needs no re-paired images
    repaired = np.empty((0, *shape)) if repaired is None else np.asarray(repaired)
    cells = cells or estimate(values)
    return LayerMatrix(
        Pair(names[0], a, names[1], b), measure, cells, repaired, ("sky", "road"), without_chance
    )


def test_frame_carries_its_names():
    frame = matrix(VALUES).frame()
    assert list(frame.index) == ["l0", "l1", "l2"]
    assert list(frame.columns) == ["l0", "l1"]
    assert (frame.index.name, frame.columns.name) == ("A", "B")
    assert frame.loc["l2", "l1"] == 0.8


def test_tidy_has_a_row_for_each_cell():
    values = np.array(VALUES)
    tidy = matrix(VALUES, cells=Estimate(values, np.stack([values - 0.1, values + 0.3]))).tidy()
    row = tidy[(tidy["layer_a"] == "l1") & (tidy["layer_b"] == "l1")].iloc[0]
    assert (row["depth_a"], row["depth_b"], row["value"], row["n_concepts"]) == (0.5, 0.9, 0.5, 2)
    assert (row["network_a"], row["network_b"], row["measure"]) == ("A", "B", "jaccard")
    assert row["stderr"] == pytest.approx(0.2)  # two blocks, 0.2 off their mean each
    assert len(tidy) == 6
    assert list(tidy.columns[: len(KEYS)]) == KEYS


def test_cells_are_named_row_by_row():
    cells = matrix(VALUES).pair.cells()
    assert list(cells.columns) == KEYS
    names = list(zip(cells["layer_a"], cells["layer_b"], strict=True))
    assert names[:3] == [("l0", "l0"), ("l0", "l1"), ("l1", "l0")]
    assert cells["depth_b"].tolist() == [0.1, 0.9] * 3


def test_a_network_with_itself():
    assert matrix(VALUES, names=("A", "A")).pair.of_one
    assert matrix(VALUES, names=("A", "A")).pair.title == "A with itself"
    assert not matrix(VALUES).pair.of_one
    assert matrix(VALUES).pair.title == "A and B"


def test_transposed_changes_everything_over():
    cells, repaired = noisy(VALUES), np.arange(12.0).reshape(2, 3, 2)
    one = matrix(VALUES, cells=cells, repaired=repaired)
    other = one.transposed()
    assert (other.pair.network_a, other.pair.network_b) == ("B", "A")
    assert other.pair.layers_a == one.pair.layers_b
    assert other.concepts == one.concepts
    np.testing.assert_array_equal(other.values, one.values.T)
    np.testing.assert_array_equal(other.estimate.stderr, one.estimate.stderr.T)
    np.testing.assert_array_equal(other.repaired[1], repaired[1].T)
    assert other.frame().equals(one.frame().T)


CELLS = [[[0.2, 0.4]], [[0.6, 0.8]], [[1.0, 1.0]]]
NAMES = ("sky", "road", "pole")


def test_one_set_of_concepts_for_all_cells():
    cells = [estimate(cell) for cell in CELLS]
    cells[2].value[0, 1] = np.nan  # undefined at one layer: out everywhere
    kept, names = fixed_concepts([defined(cells)], NAMES)
    assert (kept, names) == ([0, 1], ("sky", "road"))
    mean = mean_over(cells, kept)
    np.testing.assert_allclose(mean.value, [[0.4, 0.6]])
    np.testing.assert_allclose(mean.without, [[[0.4, 0.6]]] * 2)


def defined(cells):
    """The concepts of which all cells are finite, with their errors, as they are stored."""
    value, without = (np.stack([getattr(x, part) for x in cells]) for part in ("value", "without"))
    return defined_concepts(
        {"value": value[None], "without": without[None], "repaired": value[None, :, None]}
    )


def test_a_concept_undefined_in_any_matrix_is_left_out_of_all():
    here, there = [estimate(cell) for cell in CELLS], [estimate(cell) for cell in CELLS]
    there[0].value[0, 0] = np.nan
    assert fixed_concepts([defined(here), defined(there)], NAMES) == ([1, 2], ("road", "pole"))


def test_a_concept_without_errors_is_left_out():
    """Undefined without one of the blocks, it has no error, and nor would the mean."""
    cells = [estimate(cell) for cell in CELLS]
    cells[1].without[1, 0, 0] = np.nan
    assert fixed_concepts([defined(cells)], NAMES) == ([0, 2], ("sky", "pole"))


def test_errors_of_a_mean_know_that_concepts_err_together():
    together = mean_over([noisy([[0.2]]), noisy([[0.6]])], [0, 1])
    np.testing.assert_allclose(together.stderr, noisy([[0.2]]).stderr)
    apart = mean_over([noisy([[0.2]]), noisy([[0.6]], seed=1)], [0, 1])
    assert apart.stderr < 0.9 * together.stderr


def test_no_concept_left_is_nan_not_zero():
    cells = [estimate(np.full((1, 3), np.nan))] * 2
    kept, names = fixed_concepts([defined(cells)], ("sky", "road"))
    assert (kept, names) == ([], ())
    mean = mean_over(cells, kept)
    assert mean.value.shape == (1, 3)
    assert np.isnan(mean.value).all()
    assert np.isnan(mean.without).all()
    assert np.isnan(mean.stderr).all()
    # nor where the cells themselves are defined
    assert np.isnan(mean_over([estimate([[0.5]])], []).value).all()
