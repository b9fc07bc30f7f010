"""Sweeps as a user runs them: every job in a process of its own, and a table of what became."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import ROOT, SMALL

pytestmark = pytest.mark.slow

NETWORK = """
import os, pathlib, signal
from torch import nn

def build():
    print("LOCAL_RANK" in os.environ, "GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not pathlib.Path("mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
"""
MINE = """
defaults: [custom, _self_]
target: my_network.build
image_size: 64
label: mine
layers: ["1", "3"]
"""
STUDY = """
# @package _global_
hydra: {mode: MULTIRUN, sweeper: {params: {backbone: "small,mine,timm,no_such"}}}
"""
SMALL_NETWORK = """
defaults: [timm, _self_]
name: test_resnet.r160_in1k
weights: random
image_size: 64
label: small
"""
QUICK = [*SMALL[1:], "logger=none", "+trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder: two networks, one of which is killed, and a study of four."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in {
        "my_network.py": NETWORK,
        "conf/backbone/mine.yaml": MINE,
        "conf/backbone/small.yaml": SMALL_NETWORK,
        "conf/experiment/study.yaml": STUDY.lstrip(),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def train(home, *arguments, **environ):
    command = [sys.executable, ROOT / "train.py", "--config-dir", "conf", *arguments, *QUICK]
    path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command,
        cwd=home,
        env=os.environ | {"COLUMNS": "250", "PYTHONPATH": path} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def last_sweep(home):
    return max(home.glob("outputs/train/*"), key=lambda folder: folder.name)


def statuses(home):
    jobs = json.loads((last_sweep(home) / "jobs.json").read_text())
    found = [json.loads((Path(job["folder"]) / "outcome.json").read_text()) for job in jobs[:-1]]
    return [outcome["status"] for outcome in found]


@pytest.fixture(scope="module")
def swept(home):
    """The study: one job is done, one killed, one fails, and one cannot be composed."""
    return train(home, "experiment=study", LOCAL_RANK="1", WORLD_SIZE="2")


def rows(said):
    lines = [line.split("│")[1:-1] for line in said.splitlines() if line.startswith("│")]
    return {cells[1].strip(): [c.strip() for c in cells] for cells in lines}


def test_a_sweep_goes_on_whatever_becomes_of_its_jobs(home, swept):
    assert swept.returncode == 1
    assert statuses(home) == ["done", "failed", "failed"], swept.stderr[-3000:]
    assert "1 done, 0 skipped, 3 failed" in swept.stdout
    assert "run the same command again: it retries what failed" in swept.stdout
    assert "Traceback" not in swept.stdout + swept.stderr


def test_the_table_says_why(swept):
    table = rows(swept.stdout[swept.stdout.index("Sweep outputs") :])
    assert table["small"][2] == "done"
    assert table["small"][3].startswith("runs/faces-")
    assert table["mine"][2:] == [
        "failed",
        "killed by SIGKILL (out of memory, or by hand); run the same command again to go on",
    ]
    assert table["timm"][3] == "backbone.name is not set; add backbone.name=… to the command"
    assert table["no_such"][0] == "-"
    assert table["no_such"][3].startswith("there is no backbone=no_such; there are: ")


def test_an_earlier_job_leaves_no_rank_behind(swept):
    assert "False GPU" in swept.stdout
    assert "True GPU" not in swept.stdout


def test_the_estimate_holds_and_what_kills_it_is_unknown(home, swept):
    said = swept.stdout[: swept.stdout.index("Launching")]
    table = rows(said)
    (run,) = home.glob("runs/faces-*/probes/small-random-*")
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert float(table["small"][4]) == pytest.approx(size / 1e6, rel=0.2)
    assert table["small"][2] == "48"  # 16, 4 twice, 24
    assert table["mine"][2:] == ["-", "-", "-"]
    assert "(1 of 3 jobs): 48 images" in said
    assert "GB are free at runs" in said


def test_the_same_command_retries_what_failed_also_beside_each_other(home, swept):
    assert swept.returncode == 1
    (home / "mended").touch()
    names = home / "names.txt"
    names.write_text("# networks\nsmall\n\nmine  # mended\ntimm\nno_such\n")
    asked = ("-m", "backbone=@names.txt", "hydra/launcher=joblib", "estimate=false")
    result = train(home, *asked)
    assert statuses(home) == ["skipped", "done", "failed"], result.stderr[-3000:]
    assert "1 done, 1 skipped, 2 failed" in result.stdout
    assert result.returncode == 1
    assert "finished before" in (last_sweep(home) / "0/output.log").read_text()
    assert "finished before" not in result.stdout


def test_submitit_on_this_machine(home, swept):
    assert swept.returncode == 1
    (home / "mended").touch()
    asked = ("-m", "backbone=small,mine", "seed=1", "hydra/launcher=submitit_local")
    result = train(home, *asked, "estimate=false")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "2 done, 0 skipped, 0 failed" in result.stdout
    assert "False GPU" in (last_sweep(home) / "1/output.log").read_text()


def test_slurm_is_asked_for_a_task_for_each_device(home):
    tools = home / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text('#!/bin/sh\ncp "$1" sbatch.sh\necho no partition >&2\nexit 1\n')
    (tools / "srun").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    asked = ["-m", "backbone=small,mine", "hydra/launcher=submitit_slurm", "estimate=false"]
    asked += ["trainer.devices=2", "hydra.launcher.partition=gpu", "hydra.launcher.account=us"]
    result = train(home, *asked, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    script = (home / "sbatch.sh").read_text()
    for flag in ("array=0-1%2", "ntasks-per-node=2", "gpus-per-node=2", "nodes=1", "account=us"):
        assert f"#SBATCH --{flag}\n" in script
    for flag in ("partition=gpu", "signal=USR2@120", "time=240", "mem=32GB", "cpus-per-task=4"):
        assert f"#SBATCH --{flag}\n" in script
    assert "\nexport SLURM_KILL_BAD_EXIT=1\n" in script
    # and a launcher that gives up loses nothing
    assert result.returncode == 1
    assert "the launcher gave up (FailedJobError: no partition)" in result.stdout
    assert "0 done, 0 skipped, 2 failed" in result.stdout


def test_jobs_of_several_processes_are_skipped_fail_and_end(home):
    """Both processes of a job agree on what becomes of it; the next job starts its own two."""
    two = ("trainer=ddp", "trainer.devices=2", "backbone=small", "backbone.label=two")
    alone = train(home, *two[2:], "estimate=false")
    assert alone.returncode == 0, alone.stderr[-3000:]
    layers = "backbone.layers=stages,[nowhere],blocks"
    result = train(home, "-m", *two, layers, "estimate=false")
    jobs = sorted(last_sweep(home).glob("*/outcome.json"))
    found = [json.loads(path.read_text()) for path in jobs]
    assert [job["status"] for job in found] == ["skipped", "failed", "done"], result.stderr[-3000:]
    assert "no layer 'nowhere'" in found[1]["reason"]
    assert "1 done, 1 skipped, 1 failed" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert len(list(home.glob("runs/faces-*/probes/two-*"))) == 2
    assert not list(home.glob("runs/faces-*/probes/.*"))
