import numpy as np
import pytest

from cavalcade.backbones import Layer
from cavalcade.similarity import LayerMatrix, Pair, mean_over_concepts


def layers(*depths, branch=()):
    return tuple(
        Layer(f"l{i}", depth, i not in branch, 8, 4.0, (7, 7)) for i, depth in enumerate(depths)
    )


def matrix(values, a=None, b=None):
    a = a or layers(0.0, 0.5, 1.0)
    b = b or layers(0.1, 0.9)
    return LayerMatrix(Pair("A", a, "B", b), "jaccard", np.array(values), ("sky", "road"))


VALUES = [[0.9, 0.1], [0.4, 0.5], [0.2, 0.8]]


def test_frame_carries_its_names():
    frame = matrix(VALUES).frame()
    assert list(frame.index) == ["l0", "l1", "l2"]
    assert list(frame.columns) == ["l0", "l1"]
    assert (frame.index.name, frame.columns.name) == ("A", "B")
    assert frame.loc["l2", "l1"] == 0.8


def test_tidy_has_a_row_for_each_cell():
    tidy = matrix(VALUES).tidy()
    row = tidy[(tidy["layer_a"] == "l1") & (tidy["layer_b"] == "l1")].iloc[0]
    assert (row["depth_a"], row["depth_b"], row["value"], row["n_concepts"]) == (0.5, 0.9, 0.5, 2)
    assert len(tidy) == 6


def test_best_matches_of_both_directions():
    matches = matrix(VALUES).best_matches()
    assert matches["match"].tolist() == ["l0", "l1", "l1", "l0", "l2"]
    assert matches["gap"].tolist() == pytest.approx([0.1, 0.4, 0.1, 0.1, 0.1])
    alignment = matrix(VALUES).alignment()
    assert alignment["mean_best_match"] == pytest.approx(((0.9 + 0.5 + 0.8) / 3 + 0.85) / 2)
    assert alignment["depth_gap"] == pytest.approx((0.2 + 0.1) / 2)


def test_branches_and_undefined_cells_stay_out():
    values = np.array(VALUES)
    values[1] = np.nan
    matches = matrix(values, b=layers(0.1, 0.9, branch=(1,))).best_matches()
    assert matches["layer"].tolist() == ["l0", "l2", "l0"]
    assert matches["match"].tolist() == ["l0", "l0", "l0"]


def test_one_set_of_concepts_for_all_cells():
    cells = np.array([[[0.2, 0.4]], [[0.6, 0.8]], [[1.0, 1.0]]])
    defined = cells.copy()
    defined[2, 0, 1] = np.nan
    values, kept = mean_over_concepts(cells, defined, ("sky", "road", "pole"))
    np.testing.assert_allclose(values, [[0.4, 0.6]])
    assert kept == ("sky", "road")


def test_no_concept_left_is_nan_not_zero():
    cells = np.full((2, 1, 3), np.nan)
    values, kept = mean_over_concepts(cells, cells, ("sky", "road"))
    assert np.isnan(values).all()
    assert kept == ()
