import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from cavalcade.similarity import CONCEPT_MEASURES, FEATURE_MEASURES
from test_cli import ROOT, SMALL
from wandb_log import OfflineRun


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The offline W&B runs of a sweep over two seeds and of a comparison."""
    folder = tmp_path_factory.mktemp("tracked")
    for command in (["train.py", "-m", "seed=0,1", *SMALL], ["compare.py"]):
        result = subprocess.run(
            [sys.executable, ROOT / command[0], *command[1:]],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("WANDB")},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    runs = [OfflineRun(p) for p in sorted(folder.glob("wandb/offline-run-*"))]
    return folder, runs


def test_each_job_has_a_finished_run_of_its_own(tracked):
    _, runs = tracked
    assert len(runs) == 3
    assert [run.exit_code for run in runs] == [0, 0, 0]
    assert {run.project for run in runs} == {"cavalcade"}
    assert sorted(run.config["seed"] for run in runs if "seed" in run.config) == [0, 1]


def test_a_train_run_holds_config_losses_scores_and_a_picture(tracked):
    folder, runs = tracked
    run = next(run for run in runs if "seed" in run.config)
    assert run.config["backbone"]["name"] == "tf_efficientnet_lite0"
    assert run.logged("train/loss") > 0
    assert run.logged("val/loss") > 0
    table = read_table(run, "scores")
    stored = [pd.read_csv(p) for p in folder.glob("runs/*/probes/*/scores.csv")]
    assert any(len(table) == len(s) and (table["concept"] == s["concept"]).all() for s in stored)
    assert picture_exists(run, "scores_by_layer")
    assert 0 <= run.summary["best/test_jaccard"] <= 1


def test_a_compare_run_holds_each_matrix_as_picture_and_table(tracked):
    _, runs = tracked
    run = next(run for run in runs if "seed" not in run.config)
    assert len(run.config["runs"]) == 2
    pairs = read_table(run, "pairs")
    measures = {*CONCEPT_MEASURES, *FEATURE_MEASURES} - {"pwcca"}
    assert set(pairs["measure"]) == measures
    assert {"similarity", "depth_gap"} <= set(pairs["statistic"])
    pictures = [key for row in run.history for key in row if key.startswith("heatmaps/")]
    assert len(pictures) == 3
    pictures += ["networks", "agreement", "flow"]
    assert all(picture_exists(run, key) for key in pictures)
    matrices = [key for row in run.history for key in row if key.startswith("matrices/")]
    assert len(matrices) == 3
    # two seeds of the probes of one network
    assert run.summary["sentence"].startswith("Fewer than two trained networks")
    matrix = read_table(run, matrices[0])
    assert matrix.columns[0] == "layer"
    assert matrix["layer"].tolist() == list(matrix.columns[1:])


def read_table(run, key):
    value = run.logged(key)
    assert value["_type"] == "table-file"
    content = json.loads((run.folder / "files" / value["path"]).read_text())
    return pd.DataFrame(content["data"], columns=content["columns"])


def picture_exists(run, key):
    value = run.logged(key)
    assert value["_type"] == "images/separated"
    return all((run.folder / "files" / name).is_file() for name in value["filenames"])
