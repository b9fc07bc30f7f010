"""What a W&B run holds: read back from the offline record that `wandb sync` uploads."""

import functools
import json
import logging
import os
import subprocess
import sys

import pandas as pd
import pytest
import wandb
import yaml
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from cavalcade.cli import check_config
from cavalcade.comparing import pictures
from cavalcade.comparing.pictures import pictures_to_track
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.errors import InputError
from cavalcade.report.tracking import TrackedJob, Tracker, log_table, safe_name, tracker_of
from cavalcade.runs import load_run
from cavalcade.similarity import CONCEPT_MEASURES, FEATURE_MEASURES, Pair
from cavalcade.sweeping.jobs import load_jobs, name_of
from cavalcade.visiting.probed_visit import track_probed
from test_cli import ROOT, SMALL
from test_config import TRAIN_KEYS, composed
from tiny import streamed, tiny_visit
from wandb_log import OfflineRun

SECRET = "https://me:hunter2@host/notes"
JOB = TrackedJob(
    "net-0123456789ab", "train", "net-0123456789ab", ("faces", "probes", "net", "trained")
)


def program(folder, *command):
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
    return result.stdout + result.stderr


def offline_runs(folder):
    return [OfflineRun(p) for p in sorted(folder.glob("wandb/offline-run-*"))]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The offline W&B runs of a sweep over two seeds and of a comparison."""
    folder = tmp_path_factory.mktemp("tracked")
    stream = ("concepts.fit=stream", "concepts.epochs=1")
    program(folder, "train.py", "-m", "seed=0,1", *SMALL, *stream, f"runs={folder}/runs")
    program(folder, "compare.py")
    return folder, offline_runs(folder)


@pytest.fixture
def no_agent(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)


def trained(runs):
    return next(run for run in runs if run.job_type == "train")


def compared(runs):
    return next(run for run in runs if run.job_type == "compare")


def test_each_job_has_a_finished_run_of_its_own(tracked):
    folder, runs = tracked
    assert len(runs) == 3
    assert [run.exit_code for run in runs] == [0, 0, 0]
    assert {run.project for run in runs} == {"cavalcade"}
    train = [run for run in runs if run.job_type == "train"]
    assert sorted(run.config["seed"] for run in train) == [0, 1]
    folders = {path.name for path in folder.glob("runs/*/probes/*")}
    assert {run.id for run in train} == {run.name for run in train} == folders
    (sweep,) = folder.glob("outputs/train/*/jobs.json")
    assert [run.group for run in train] == [name_of(load_jobs(sweep.parent))] * 2
    assert all(r.tags == {"faces", "probes", "efficientnet_lite0", "trained"} for r in train)
    assert compared(runs).group == ""
    assert compared(runs).tags == {"faces", "probes", "efficientnet_lite0"}


def test_a_train_run_holds_config_losses_scores_and_a_picture(tracked):
    folder, runs = tracked
    run = trained(runs)
    assert run.config["backbone"]["name"] == "tf_efficientnet_lite0"
    assert run.logged("train/loss") > 0
    assert run.logged("val/loss") > 0
    table = read_table(run, "scores")
    stored = [pd.read_csv(p) for p in folder.glob("runs/*/probes/*/scores.csv")]
    assert any(len(table) == len(s) and (table["concept"] == s["concept"]).all() for s in stored)
    assert picture_exists(run, "scores_by_layer")


def test_a_train_run_can_be_searched_and_sorted(tracked):
    folder, runs = tracked
    run = trained(runs)
    loaded = load_run(next(folder.glob(f"runs/*/probes/{run.id}")))
    assert run.config["network"] == {
        "label": "efficientnet_lite0",
        "architecture": loaded.architecture,
        "weights": loaded.weights,
        "random": False,
        "num_layers": 5,
    }
    assert run.config["data_folder"] == loaded.path.parents[1].name
    assert run.config["run"] == loaded.path.name
    assert run.config["digest"] == loaded.meta["digest"]
    scores = loaded.score_matrix()
    per_layer = scores.dropna(axis=1).mean(axis=1)
    assert run.summary["best/layer"] == per_layer.idxmax()
    assert run.summary["best/test_jaccard"] == pytest.approx(per_layer.max())
    assert run.summary["best/jaccard_per_concept"] == pytest.approx(scores.max().mean())
    assert (run.summary["num_layers"], run.summary["num_concepts"]) == (5, 7)


def test_no_path_of_the_machine_is_in_the_config(tracked):
    folder, runs = tracked
    assert trained(runs).config["runs"] == "…/runs"
    for run in runs:
        assert str(folder) not in json.dumps([run.config, run.summary])


def test_a_train_run_holds_its_folder_and_truth_as_an_artifact(tracked):
    folder, runs = tracked
    run = trained(runs)
    (place,) = folder.glob(f"runs/*/probes/{run.id}")
    artifact = run.artifacts[place.name]
    home = place.parents[1]
    expected = [p for part in (place, home / "truth") for p in part.rglob("*") if p.is_file()]
    # the files themselves, none of them copied
    assert artifact.files == {p.relative_to(home).as_posix(): p.resolve() for p in expected}
    assert artifact.type == "run"
    assert artifact.aliases == {"latest", home.name}
    assert artifact.metadata["data_folder"] == home.name
    assert artifact.metadata["digest"] == run.config["digest"]
    assert artifact.metadata["test"] == load_run(place).truth.fingerprint
    concepts = run.artifacts[f"{place.name}-concepts"]
    assert concepts.type == "concepts"
    assert set(concepts.files) == {"concepts.safetensors", "meta.json"}


def test_a_compare_run_holds_pictures_tables_and_inputs(tracked):
    folder, runs = tracked
    run = compared(runs)
    train = [r for r in runs if r.job_type == "train"]
    assert sorted(run.config["runs"]) == sorted(r.id for r in train)
    assert {each["digest"] for each in run.config["inputs"]} == {r.config["digest"] for r in train}
    pairs = read_table(run, "pairs")
    measures = {*CONCEPT_MEASURES, *FEATURE_MEASURES} - {"pwcca"}
    assert set(pairs["measure"]) == measures
    assert {"similarity", "depth_gap"} <= set(pairs["statistic"])
    shown = [key for row in run.history for key in row if key.startswith("matrices/")]
    assert len(shown) == 3
    shown += ["networks", "agreement", "flow"]
    assert all(picture_exists(run, key) for key in shown)
    # two seeds of the probes of one network
    assert run.summary["sentence"].startswith("Fewer than two trained networks")
    (place,) = folder.glob("comparisons/[!.]*")
    artifact = run.artifacts[f"comparison-{place.name}"]
    assert artifact.type == "comparison"
    own = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    assert "report/index.html" in own
    assert set(artifact.files) == own


def test_all_matrices_are_one_table(tracked):
    folder, runs = tracked
    table = read_table(compared(runs), "layer_similarity")
    assert list(table.columns) == [
        *("network_a", "layer_a", "depth_a", "network_b", "layer_b", "depth_b", "value", "stderr")
    ]
    stored = pd.read_csv(next(folder.glob("comparisons/*/layer_similarity.csv")))
    stored = stored[stored["measure"] == "adjusted"].reset_index()
    assert len(table) == len(stored) == 3 * 25
    assert (table["layer_b"] == stored["layer_b"]).all()
    assert table["value"].to_numpy() == pytest.approx(stored["value"].to_numpy(), abs=1e-5)


def test_pictures_of_later_pairs_stay_in_the_folder(tmp_path):
    pairs = [Pair(a, (), b, ()) for a, b in (("n0", "n0"), ("n0", "n1"), ("n1", "n1"))]
    for part in ("figures/matrices", "figures/depth", "galleries"):
        (tmp_path / part).mkdir(parents=True)
        for pair in pairs:
            for kind in ("png", "pdf"):
                (tmp_path / part / f"{pictures.picture_of(pair)}.{kind}").touch()
    (tmp_path / "figures" / "networks.png").touch()
    found = pictures_to_track(tmp_path, pairs, pairs[:2])
    first = {f"{p}/{n}" for p in ("matrices", "depth", "galleries") for n in ("n0__n0", "n0__n1")}
    assert {pictures.key_of(path, tmp_path) for path in found} == {"networks", *first}
    assert {path.suffix for path in found} == {".png"}


def test_no_two_pairs_share_a_picture():
    names = ["a", "a__b", "b", "b__a", "a_", "_a", "_", "__", "a" * 120 + "__", "a" * 120]
    pairs = [Pair(one, (), other, ()) for one in names for other in names]
    found = {pictures.picture_of(pair) for pair in pairs}
    assert len(found) == len(pairs)
    assert pictures.picture_of(Pair("n0", (), "n1", ())) == "n0__n1"


def tracker(folder, sweep=None, **settings):
    given = {"project": "p", "offline": True, "save_dir": str(folder)} | settings
    silent = wandb.Settings(silent=True)
    return Tracker(functools.partial(WandbLogger, settings=silent, **given), group=sweep)


@pytest.mark.usefixtures("no_agent")
def test_a_killed_job_that_is_run_again_goes_on_with_its_run(tmp_path, monkeypatch):
    step = ProbeFit.training_step

    def killed(self, batch):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch)

    for fails in (True, False):
        tracks = tracker(tmp_path)
        with monkeypatch.context() as patched:
            if fails:
                patched.setattr(ProbeFit, "training_step", killed)
                with pytest.raises(KeyboardInterrupt):
                    tiny_visit(tmp_path / "runs", method=streamed(), tracker=tracks)
            else:
                path = tiny_visit(tmp_path / "runs", method=streamed(), tracker=tracks)
        tracks.finish("failed" if fails else "success")
    tiny_visit(tmp_path / "runs", method=streamed(), tracker=tracks)
    assert tracks.logger is None
    wandb.teardown()  # its process writes the records
    first, second = offline_runs(tmp_path)
    assert first.id == second.id == path.name
    assert (first.exit_code, second.exit_code) == (1, 0)


def chosen(tracks, job=JOB):
    return tracks.make.keywords | tracks._chosen(job)


@pytest.mark.usefixtures("no_agent")
def test_the_users_own_settings_win(tmp_path):
    found = chosen(tracker(tmp_path, "sweep"))
    assert (found["id"], found["resume"], found["group"]) == (JOB.id, "allow", "sweep")
    own = {"id": "mine", "group": "g", "name": "n", "tags": ["pilot"]}
    found = chosen(tracker(tmp_path, "sweep", **own))
    assert {name: found[name] for name in ("id", "group", "name")} == {
        name: own[name] for name in ("id", "group", "name")
    }
    assert found["tags"] == ["pilot", *JOB.tags]


@pytest.mark.usefixtures("no_agent")
@pytest.mark.parametrize("variable", ["WANDB_SWEEP_ID", "WANDB_RUN_ID"])
def test_an_agent_chooses_the_id(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "abc")
    assert chosen(tracker(tmp_path)).get("id") is None


@pytest.mark.usefixtures("no_agent")
def test_a_command_with_a_password_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", f"data.root={SECRET}"])
    tracks = tracker(tmp_path)
    tracks.begin(JOB, {"data": {"root": SECRET}})
    tracks.finish()
    wandb.teardown()  # its process writes the record
    (run,) = offline_runs(tmp_path)
    assert run.config["data"]["root"] == "https://host/notes"
    assert run.command is None
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert b"hunter2" not in path.read_bytes(), path


def test_ids_are_what_wandb_allows():
    assert safe_name("efficientnet_lite0-0123456789ab", 64) == "efficientnet_lite0-0123456789ab"
    long = safe_name("my net: ü/" + "x" * 80 + "-0123456789ab", 64)
    assert len(long) == 64
    assert long.endswith("x-0123456789ab")
    assert wandb.Settings(run_id=long).run_id == long


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+logger.projct=x", "unknown config key logger.projct; closest: logger.project"),
        ("+logger.settings.silnet=x", "unknown config key logger.settings.silnet; closest: "),
    ],
)
def test_a_misspelt_key_is_an_error(override, message):
    config = composed("train", override)

    def checked():
        check_config(config, TRAIN_KEYS)
        tracker_of(instantiate(config.logger, _convert_="all", _partial_=True))

    with pytest.raises(InputError, match=message):
        checked()


def test_without_a_login_a_run_online_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    config = composed("train", "logger=wandb_online", f"logger.save_dir={tmp_path}").logger
    tracker = tracker_of(instantiate(config, _convert_="all", _partial_=True))
    with pytest.raises(InputError, match=r"W&B starts no run \(.*\); log in with wandb login, or"):
        tracker.begin(JOB, {})


def test_other_loggers_get_the_config_and_none_tracks_nothing(tmp_path):
    for node in (composed("train", "logger=none").logger, None):  # experiments may say null
        make = instantiate(node, _convert_="all", _partial_=True)
        assert tracker_of(make).begin(JOB, {}) is None
    tracks = Tracker(functools.partial(CSVLogger, str(tmp_path)), group="sweep")
    logger = tracks.begin(JOB, {"seed": 3})
    assert logger.experiment.hparams["seed"] == 3
    with pytest.raises(InputError, match="artifacts is 'no'; give true or false"):
        tracker_of(None, artifacts="no")


class Recorded(WandbLogger):
    """Keeps what it is told."""

    def __init__(self):
        self.tables = {}
        super().__init__(project="p", offline=True)

    def log_table(self, key, *, dataframe):
        self.tables[key] = dataframe

    def log_image(self, key, images):
        pass

    @property
    def experiment(self):
        return wandb.sdk.wandb_run.Run.__new__(wandb.sdk.wandb_run.Run)


def test_rows_beyond_the_limit_are_said(monkeypatch, caplog):
    monkeypatch.setattr(wandb.Table, "MAX_ARTIFACT_ROWS", 3)
    logger = Recorded()
    with caplog.at_level(logging.INFO):
        log_table(logger, "pairs", pd.DataFrame({"value": range(5)}))
    assert logger.tables["pairs"]["value"].tolist() == [0, 1, 2]
    assert "2 rows of pairs are left out there; pairs.csv has all" in caplog.text


def test_losses_of_layers_are_a_table(tmp_path, monkeypatch):
    run = load_run(tiny_visit(tmp_path))
    rows = {"epoch": [0, 1], "layer": ["2", "2"], "depth": [0.2, 0.2], "loss": [0.5, 0.25]}
    pd.DataFrame(rows).to_csv(run.path / "losses.csv", index=False)
    monkeypatch.setattr("cavalcade.report.tracking.log_summary", lambda *_: None)
    logger = Recorded()
    track_probed(run, logger)
    assert logger.tables["losses"].to_dict("list") == rows


def test_an_agent_of_wandb_gives_overrides_that_compose():
    sweep = yaml.safe_load((ROOT / "examples/wandb_sweep.yaml").read_text())
    values = {
        k: v.get("value", v.get("values", [None])[-1]) for k, v in sweep["parameters"].items()
    }
    args = {"args": {name: {"value": value} for name, value in values.items()}}
    options = create_sweep_command_args(args)
    given = {"program": [sweep["program"]], "interpreter": ["python"], "env": ["/usr/bin/env"]}
    command = []
    for part in create_sweep_command(sweep["command"]):
        command += (options | given)[part[2:-1]] if part.startswith("${") else [part]
    assert command[:3] == ["/usr/bin/env", "python", "train.py"]
    config = composed("train", *command[3:])
    check_config(config, TRAIN_KEYS)
    assert config.backbone.label == values["backbone"]
    assert config.backbone.layers == "blocks"
    assert not config.logger.offline
    assert sweep["metric"]["name"] == "best/test_jaccard"


def read_table(run, key):
    value = run.logged(key)
    assert value["_type"] == "table-file"
    content = json.loads((run.folder / "files" / value["path"]).read_text())
    return pd.DataFrame(content["data"], columns=content["columns"])


def picture_exists(run, key):
    value = run.logged(key)
    assert value["_type"] == "images/separated"
    return all((run.folder / "files" / name).is_file() for name in value["filenames"])
