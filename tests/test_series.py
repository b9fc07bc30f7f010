"""A series of checkpoints: how alike each is to the last, and to the one before."""

import copy

import numpy as np
import pytest
import torch

from cavalcade import Analysis, InputError, compare, load_run
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.series import check_series, series_table
from cavalcade.concepts import Probes
from tiny import PlantedSquares, tiny_backbone, tiny_data, tiny_model, tiny_visit


def on_the_way(share):
    """Weights between those of one seed and those of another, as training leads from one to one."""
    model, last = tiny_model(seed=3), tiny_model(seed=0)
    state = copy.deepcopy(model.state_dict())
    for name, value in last.state_dict().items():
        state[name] = torch.lerp(state[name].float(), value.float(), share).to(value.dtype)
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    places = []
    for step, share in enumerate((0.0, 0.5, 0.9, 1.0)):
        backbone = tiny_backbone(label=f"step-{step}", model=on_the_way(share))
        data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
        method = Probes(split_half=False)
        places.append(tiny_visit(root, backbone, data=data, method=method))
    return [load_run(place) for place in places]


@pytest.fixture(scope="module")
def analysis(runs):
    return Analysis(compare(runs, repairings=4))


def test_members_come_nearer_to_the_last(analysis):
    table = series_table(analysis)
    whole = table[(table["layer"] == "") & (table["to"] == "last")]
    assert whole["network"].tolist() == ["step-0", "step-1", "step-2"]
    assert whole["value"].is_monotonic_increasing
    assert (whole["low"] < whole["high"]).all()
    for row in whole.itertuples():
        assert row.value == pytest.approx(analysis.networks[row.network, "step-3"].value)


def test_each_layer_is_compared_with_itself(analysis):
    table = series_table(analysis)
    rows = table[(table["to"] == "previous") & (table["layer"] != "")]
    assert rows["step"].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    for row in rows.itertuples():
        cells = analysis.comparison.matrix(row.network, f"step-{row.step - 1}")
        assert row.value == pytest.approx(cells.loc[row.layer, row.layer])
    assert (rows["stderr"] > 0).all()


def test_the_order_is_that_of_the_runs(runs):
    backwards = Analysis(compare(runs[::-1], repairings=1))
    table = series_table(backwards)
    whole = table[(table["layer"] == "") & (table["to"] == "last")]
    assert whole["network"].tolist() == ["step-3", "step-2", "step-1"]
    assert (whole.set_index("network")["value"].diff().dropna() > 0).all()


def test_the_series_is_written_and_drawn(analysis, runs, tmp_path):
    write_comparison(analysis, runs, tmp_path / "c", tables_of(analysis, series=True))
    assert (tmp_path / "c" / "series.csv").is_file()
    for kind in ("png", "pdf"):
        assert (tmp_path / "c" / "figures" / f"series.{kind}").stat().st_size > 10_000
    assert "series" not in tables_of(analysis)


def test_one_run_or_other_layers_are_no_series(runs, tmp_path):
    with pytest.raises(InputError, match="a series needs two runs or more"):
        check_series(runs[:1])
    backbone = tiny_backbone(label="other", layers=["2", "4"])
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    method = Probes(split_half=False)
    other = load_run(tiny_visit(tmp_path, backbone, data=data, method=method))
    with pytest.raises(InputError, match=r"step-3-\w+ and other-\w+ differ in their layers"):
        check_series([runs[3], other])
    check_series(runs)


def test_values_of_equal_members_are_one(analysis):
    own = analysis.comparison.layer_matrix("step-1", "step-1", "adjusted")
    np.testing.assert_allclose(np.diagonal(own.values), 1)
