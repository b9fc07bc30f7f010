"""The parts of a sweep: outcomes, tables, values from files, GPUs, totals."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cavalcade import cli, processes
from cavalcade.errors import InputError
from cavalcade.sweeping import estimate as estimating
from cavalcade.sweeping.apart import JOBLIB, SWEEP_GPUS, _gpus, child_command, child_environment
from cavalcade.sweeping.estimate import Estimate, print_estimate, totals
from cavalcade.sweeping.gpus import gpus_of_job, visible_gpus
from cavalcade.sweeping.jobs import SweepJob, load_jobs, outcome_table, print_outcomes, save_jobs
from cavalcade.sweeping.outcome import Outcome, leaves_outcome
from cavalcade.value_files import check_no_files, with_values
from cavalcade.visiting.cost import Cost
from cavalcade.visiting.visited import Visited
from hydra_plugins.cavalcade_sweeper import _check_devices, _check_installed


@pytest.fixture
def hydra_folder(tmp_path, monkeypatch):
    config = SimpleNamespace(
        runtime=SimpleNamespace(output_dir=str(tmp_path)), overrides=SimpleNamespace(task=[])
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: config)
    monkeypatch.setattr(cli, "_failures", [])
    return tmp_path


def test_outcomes_of_jobs_that_go_well(hydra_folder):
    for visited, status in (
        (Visited(Path("runs/a"), skipped=False), "done"),
        (Visited(Path("runs/a"), skipped=True), "skipped"),
        (None, "done"),
    ):
        leaves_outcome(lambda _, found=visited: found)(OmegaConf.create())
        assert Outcome.load(hydra_folder).status == status
    assert not cli._failures


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("data.root is wrong; mend it"), "data.root is wrong; mend it"),
        (RuntimeError("a bug\nin two lines"), "RuntimeError: a bug"),
    ],
)
def test_an_error_becomes_an_outcome_and_exit_code_1(hydra_folder, caplog, error, reason):
    fails(error)
    found = Outcome.load(hydra_folder)
    assert (found.status, found.reason) == ("failed", reason)
    assert len(cli._failures) == 1
    assert ("Traceback" in caplog.text) == isinstance(error, RuntimeError)


def test_an_interrupted_job_says_so(hydra_folder):
    def job(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leaves_outcome(job)(OmegaConf.create())
    assert Outcome.load(hydra_folder).reason.startswith("interrupted; run the same command")


def test_a_file_of_values_without_a_sweep_is_a_failure(hydra_folder):
    HydraConfig.get().overrides.task.append("seed=@seeds.txt")
    leaves_outcome(lambda _: None)(OmegaConf.create())
    assert Outcome.load(hydra_folder).reason.startswith("seed=@seeds.txt names values to sweep")


def test_other_ranks_write_no_outcome(hydra_folder, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    leaves_outcome(lambda _: None)(OmegaConf.create())
    assert Outcome.load(hydra_folder) is None


def test_of_several_processes_the_first_that_fails_says_why(hydra_folder, monkeypatch, caplog):
    monkeypatch.setattr(processes, "count", lambda: 2)
    for reason in ("of the first", "of the second"):
        with monkeypatch.context() as patched:
            patched.setenv("LOCAL_RANK", "1")  # else what is there is of an earlier job
            fails(InputError(reason))
    assert Outcome.load(hydra_folder).reason == "of the first"
    assert "of the first" in caplog.text
    assert "of the second" not in caplog.text
    assert len(cli._failures) == 2


@pytest.mark.parametrize(("origin", "said"), [(0, True), (1, False)])
@pytest.mark.parametrize("there", [True, False])
def test_an_error_that_all_raise_is_said_where_it_was_made(
    hydra_folder, caplog, origin, said, there
):
    if there:  # the other one was faster to write
        Outcome.failed("of all").save(hydra_folder)
    error = InputError("of all")
    error.__dict__[processes.ORIGIN] = origin
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Outcome, "forget", lambda _: None)
        fails(error)
    assert ("of all" in caplog.text) == said
    assert Outcome.load(hydra_folder).reason == "of all"


@pytest.mark.usefixtures("hydra_folder")
def test_an_outcome_that_cannot_be_written_hides_no_error(monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    fails(InputError("data.root is wrong"))
    assert "data.root is wrong" in caplog.text


def test_a_job_by_itself_speaks_whatever_lies_in_its_folder(hydra_folder, monkeypatch, caplog):
    Outcome("done").save(hydra_folder)
    monkeypatch.setattr(Outcome, "forget", lambda _: None)  # of another that runs beside it
    fails(InputError("data.root is wrong"))
    assert "data.root is wrong" in caplog.text


def fails(error):
    def job(_):
        raise error

    leaves_outcome(job)(OmegaConf.create())


@pytest.mark.parametrize(
    ("error", "together", "told"),
    [
        (RuntimeError("[pair.cc:534] Connection closed by peer"), True, True),
        (RuntimeError("[pair.cc:534] Connection closed by peer"), False, False),
        (ConnectionResetError("Connection reset by peer"), True, False),
        (RuntimeError("a bug"), True, False),
    ],
)
def test_that_another_process_is_gone_is_told_of_several_alone(monkeypatch, error, together, told):
    monkeypatch.setattr(processes, "_meet", lambda: together)
    assert bool(processes.sentence_of_loss(error)) == told


def test_the_table_comes_from_files(tmp_path, capsys):
    for number, status in enumerate(["done", "skipped"]):
        (tmp_path / str(number)).mkdir()
        Outcome(status, run=f"runs/{number}").save(tmp_path / str(number))
    (tmp_path / "2").mkdir()
    (tmp_path / "2/output.log").touch()
    jobs = [
        *(SweepJob([f"seed={n}", "data=faces"], str(tmp_path / str(n))) for n in range(4)),
        SweepJob(["seed=x", "data=faces"], None, "no seed"),
    ]
    save_jobs(jobs, tmp_path)
    table = outcome_table(load_jobs(tmp_path))
    assert list(table.columns[:2]) == ["job", "seed"]  # and no data, which is the same
    assert list(table["job"]) == ["0", "1", "2", "3", "-"]
    assert list(table["status"]) == ["done", "skipped", "failed", "failed", "failed"]
    reasons = list(table.iloc[:, -1])
    assert reasons[2].startswith("left no outcome; see ")
    assert reasons[2].endswith("2/output.log")
    assert reasons[3:] == ["not started", "no seed"]
    assert len(print_outcomes(tmp_path)) == 3
    assert "1 done, 1 skipped, 3 failed" in capsys.readouterr().out


NAMES = [
    "vit_small_patch14_dinov2.lvd142m",
    "a,b",
    "it's",
    "a b",
    "3",
    "x=y",
    "choice(a,b)",
    "a\\'",
]


def test_values_from_a_file_arrive_as_they_are_written(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# names\n\n" + "".join(f"{name}  \n" for name in NAMES) + "  # end\n")
    asked = ["data=faces", f"backbone.name=@{path}", f"+package@x=@{path}"]
    kept, swept, other = with_values(asked)
    assert kept == "data=faces"
    parsed = OverridesParser.create().parse_override(swept)
    assert parsed.is_discrete_sweep()
    each = [
        OverridesParser.create().parse_override(f"key={text}").value()
        for text in parsed.sweep_string_iterator()
    ]
    texts = [value if isinstance(value, str | int) else value.text for value in each]
    assert texts == [3 if name == "3" else name for name in NAMES]
    assert other.startswith("+package@x=vit_small")


def test_a_file_without_values_or_without_a_sweep(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no value; write one on each line"):
        with_values([f"seed=@{empty}"])
    with pytest.raises(InputError, match=r"backbone.name=@no.txt cannot be read \(.*\); give a"):
        with_values(["backbone.name=@no.txt"])
    with pytest.raises(InputError, match="names values to sweep over; add -m"):
        check_no_files(["seed=0", f"seed=@{empty}"])
    # of a group Hydra itself says that there is no such option
    error = HydraException("In 'train': Could not find 'backbone/@names.txt'\n\nAvailable: a")
    assert cli.sentence(error) == "@names.txt names values to sweep over; add -m to the command"


def test_ranks_of_an_earlier_job_are_cleared_those_of_torchrun_stay():
    leaked = {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1", "PL_GLOBAL_SEED": "7"}
    assert child_environment(leaked | {"A": "b"}) == {"A": "b"}
    slurm = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "3"}
    assert child_environment(leaked | slurm) == slurm | {"MASTER_PORT": "1"}
    torchrun = leaked | {"TORCHELASTIC_RUN_ID": "none"}
    assert child_environment(torchrun).keys() == torchrun.keys() - {"PL_GLOBAL_SEED"}


def test_gpus_are_taken_in_turn():
    assert visible_gpus({}, 0) == []
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "4, 6"}, 2) == ["4", "6"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0) == []
    assert [gpus_of_job(n, ["4", "6"], single=True) for n in range(3)] == [["4"], ["6"], ["4"]]
    assert gpus_of_job(1, ["4", "6"], single=False) == ["4", "6"]
    assert gpus_of_job(1, [], single=True) == []


def test_only_jobs_beside_each_other_share_out_gpus(monkeypatch):
    monkeypatch.setenv(SWEEP_GPUS, "0,1,2")
    hydra = OmegaConf.create({"launcher": {"_target_": JOBLIB}, "job": {"num": 4}})
    single = OmegaConf.create({"trainer": {"devices": 1}})
    assert _gpus(hydra, single) == {"CUDA_VISIBLE_DEVICES": "1"}
    several = OmegaConf.create({"trainer": {"devices": 2}})
    assert _gpus(hydra, several) == {"CUDA_VISIBLE_DEVICES": "0,1,2"}
    hydra.launcher._target_ = "another"
    assert _gpus(hydra, single) == {}


def test_the_command_of_a_job_is_a_single_run():
    sources = [
        {"path": "hydra.conf", "schema": "pkg", "provider": "hydra"},
        {"path": "cavalcade.conf", "schema": "pkg", "provider": "main"},
        {"path": "/y", "schema": "file", "provider": "command-line"},
    ]
    hydra = OmegaConf.create(
        {
            "runtime": {"output_dir": "/out/it's 0", "config_sources": sources},
            "job": {"config_name": "train"},
            "overrides": {
                "hydra": ["hydra.mode=MULTIRUN", "hydra.verbose=true", "hydra/launcher=joblib"],
                "task": ["seed=1"],
            },
        }
    )
    _, *arguments = child_command(hydra)
    assert arguments == [
        *("-m", "cavalcade.programs.train", "--config-dir", "/y", "--config-name", "train"),
        *("hydra.verbose=true", "seed=1", "hydra.mode=RUN"),
        *("hydra.run.dir='/out/it\\'s 0'", "hydra.output_subdir=null"),
    ]


def test_a_missing_launcher_says_what_to_install():
    with pytest.raises(InputError, match=r"needs the package hydra-ray-launcher.*pip install"):
        _check_installed("hydra_plugins.hydra_ray_launcher.launcher.RayLauncher")


@pytest.mark.parametrize("devices", ["auto", -1, 0, [0, 1]])
def test_slurm_needs_a_number_of_devices(devices):
    with pytest.raises(InputError, match=r"trainer.devices is .*; give a number"):
        _check_devices(OmegaConf.create({"trainer": {"devices": devices}}))
    _check_devices(OmegaConf.create({"trainer": {"devices": 4}}))


def test_of_many_jobs_the_dearest_are_shown_and_a_full_disk_is_said(capsys, monkeypatch):
    monkeypatch.setattr(estimating, "free_bytes", lambda _: 1e9)
    costs = [None, *(Cost(100, float(n), 1e8) for n in range(1, 30))]
    jobs = [SweepJob([f"seed={n}"], f"out/{n}") for n in range(30)]
    print_estimate(Estimate(costs, [0.5, 1.5], 9.0), jobs, Path("runs"), 4)
    said = " ".join(capsys.readouterr().out.split())
    assert "The dearest 5 of 30 jobs" in said
    assert "│ 29 │ 29 │ 100 │" in said
    assert "│ 24 │ 24 │" not in said
    assert "the sweep needs 2.9 GB there, more than is free" in said


def test_totals_are_shared_among_jobs_at_once():
    costs = [Cost(10, 30.0, 1e6), Cost(10, 30.0, 1e6)]
    said = totals(Estimate(costs, [1.0], 9.0), 16)
    assert "about 30 s, 2 jobs at once; 2.0 MB" in said
    assert "measured in 9 s, 1.0 s for each of 1 network (" in said


def test_a_cache_is_said_to_spare_forwards():
    found = Estimate([Cost(10, 30.0, 1e6)], [1.0], 9.0)
    assert "10 images through networks, forwards" in totals(found, 1)
    said = totals(replace(found, cached=True), 1)
    assert "10 images through networks (fewer where the cache holds them), forwards" in said


@pytest.mark.parametrize("cache", [None, "activations"])
def test_an_estimate_knows_whether_there_is_a_cache(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(estimating, "run_child", lambda *_, **__: None)
    found = estimating.estimate([OmegaConf.create({"cache": cache})], tmp_path)
    assert found.cached == (cache is not None)
