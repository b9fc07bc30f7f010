"""Twenty jobs one after the other leave nothing: in one process, and as a sweep of the program."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from functools import reduce
from operator import and_
from pathlib import Path

import numpy as np
import pytest

import library_loop
from library_loop import FAILING, JOBS, WARM_UP, has_worker
from test_cli import ROOT, SMALL
from wandb_log import OfflineRun
from watched import children, hidden, open_files, processes, resident

pytestmark = pytest.mark.slow

MOST_OF_SWEEP = 1000  # kilobytes a job; measured: 510, the configs that Hydra keeps to the end
MOST = 500  # kilobytes a job; measured: up to 100, and steps of Python's arenas of 1 MiB
FEW = 5  # jobs at the beginning, and at the end
SAME = "as after the first ones"  # which warm up: caches, threads, modules
OFFLINE = "wandb/offline-run-*"
KINDS = {
    "visit": "20 visits in one process",
    "compare": "20 comparisons in one process",
    "fail": "20 failing visits in one process, each called again",
}
SWEEP = "a sweep of 20 jobs, a fifth of which fail and a fifth are killed"
COUNTED = (
    *("open files", "threads", "child processes, zombies too"),
    *("hooks of the network", "hooks on all networks", "locks and parts of folders"),
    *("signal handlers", "handlers of logs", "filters of warnings", "figures"),
    *("runs of W&B that go on", "variables of the environment", "what is called at exit"),
    *("working folder",),
)
UNTOUCHED = ("signal handlers", "working folder")  # by the first job already
NOTHING = ("hooks of the network", "figures", "runs of W&B that go on", "objects")
KILLED_WORKER = "pymp-"  # a folder of a process that loads images; who is killed leaves it

NETWORK = """
import os, signal
import torch
from torch import nn

def build(number):
    torch.manual_seed(number)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
    left = [LATER]

    def count(*_):
        left[0] -= 1
        if left[0] < 0 and number % 5 == 3:
            raise ZeroDivisionError("in the middle of a pass")
        if left[0] < 0 and number % 5 == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    model[0].register_forward_hook(count)
    return model
""".replace("LATER", "9")
MINE = """
defaults: [custom, _self_]
target: my_network.build
arguments: {number: 0}
image_size: 64
label: mine
layers: ["1", "3"]
"""
EMPTY = ("wandb-media", "wandb-artifacts")  # folders of a process that are gone when it ends
MARK = "CAVALCADE_ENDURANCE"  # of the sweep and all that it starts


def slope(kilobytes):
    """By how much a job adds: least squares over all jobs."""
    return np.polyfit(np.arange(len(kilobytes)), kilobytes, 1)[0]


@pytest.fixture(scope="module")
def looped(tmp_path_factory):
    """What was in a process after each of its jobs, by their kind; and its temporary folder."""
    folder, temporary = tmp_path_factory.mktemp("looped"), tmp_path_factory.mktemp("temporary")
    said = subprocess.run(
        [sys.executable, library_loop.__file__, str(folder)],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    found = defaultdict(list)
    for sample in map(json.loads, said.stdout.splitlines()):
        if sample["job"] >= 0:  # after those that warm up
            found[sample["kind"]].append(sample)
    return found, temporary, folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_is_as_it_was(looped, tried, kind):
    """Networks, data, runs, comparisons and analyses are gone; all that is counted stays."""
    found, _, folder = looped
    samples = found[kind]
    assert len(samples) == JOBS
    for what in COUNTED:
        before = found["before" if what in UNTOUCHED else kind][0]
        for sample in samples:
            assert sample[what] == before[what], f"{what}, after job {sample['job']}"
    for sample in samples:
        assert {what: sample[what] for what in NOTHING if sample[what]} == {}
        assert not [each for each in sample["child processes, zombies too"] if each[0] == "Z"]
    kilobytes = [sample["memory"] for sample in samples]
    assert slope(kilobytes) < MOST, kilobytes
    check_temporary_files(kind, samples)
    assert None not in [OfflineRun(path).exit_code for path in folder.glob(OFFLINE)]
    counted = "open files, threads, children, hooks, handlers, environment, temporary files"
    counted += " (but of killed workers)" if kind == "fail" else ""
    grew = f"memory grows by less than {MOST} kB a job"
    tried("endurance", KINDS[kind], f"{counted} {SAME}; networks, data and results gone; {grew}")


def check_temporary_files(kind, samples):
    """None but at most one of each worker that was killed."""
    files = [set(sample["temporary files"]) for sample in samples]
    own = [{name for name in each if not name.startswith(KILLED_WORKER)} for each in files]
    assert all(each == own[0] for each in own)
    failed = range(FAILING, FAILING + WARM_UP["fail"] + JOBS) if kind == "fail" else ()
    assert len(files[-1] - own[-1]) <= sum(map(has_worker, failed))


def test_a_process_has_its_runs_ended_and_its_temporary_folder_cleared(looped):
    _, temporary, folder = looped
    left = [p.name for p in temporary.iterdir() if not p.name.startswith((KILLED_WORKER, "torch"))]
    assert left == []
    codes = [OfflineRun(path).exit_code for path in folder.glob(OFFLINE)]
    assert None not in codes
    assert set(codes) == {0, 1}


class Sweep:
    """A sweep of the program, looked at while it runs.

    Attributes:
        samples: for each number of jobs that have ended: memory, open files and children.
    """

    def __init__(self, home: Path, temporary: Path) -> None:
        self.home, self.mark = home, f"{MARK}={home}"
        numbers = ",".join(map(str, range(JOBS)))
        with (home / "said.log").open("w") as said:
            self.program = subprocess.Popen(
                [
                    *(sys.executable, ROOT / "train.py", "--config-dir", "conf", "-m"),
                    *("backbone=mine", f"backbone.arguments.number={numbers}", "estimate=false"),
                    *SMALL[1:],
                    "+trainer.enable_progress_bar=false",
                ],
                cwd=home,
                env={k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
                | {"TMPDIR": str(temporary), MARK: str(home), "COLUMNS": "250"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.samples = defaultdict(list)

    def watch(self) -> None:
        pid = self.program.pid
        while self.program.poll() is None:
            try:
                found = children(pid)
                own = [each for each in found if each[0] != "Z"]
                zombies = len(found) - len(own)
                sample = (resident(pid), open_files(pid), len(own), zombies)
            except OSError:  # it has ended
                continue
            self.samples[self.ended()].append(sample)
            time.sleep(0.25)

    def ended(self) -> int:
        return len(list(self.home.glob("outputs/train/*/*/outcome.json")))

    def left(self, seconds: float = 30.0) -> list[str]:
        """Processes of the sweep that are there, soon after its end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._there():
            time.sleep(0.1)
        return self._there()

    def _there(self) -> list[str]:
        return [name for pid, _, _, name in processes() if self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        try:
            return self.mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Twenty jobs, four of which break in a pass, once tracked, and four are killed there."""
    home, temporary = tmp_path_factory.mktemp("user"), tmp_path_factory.mktemp("temporary")
    (home / "my_network.py").write_text(NETWORK)
    (home / "conf/backbone").mkdir(parents=True)
    (home / "conf/backbone/mine.yaml").write_text(MINE)
    sweep = Sweep(home, temporary)
    try:
        sweep.watch()
    finally:
        sweep.program.kill()
        sweep.program.wait()
    yield sweep, temporary
    shutil.rmtree(temporary, ignore_errors=True)


def test_a_sweep_ends_as_it_should(swept):
    sweep, _ = swept
    said = (sweep.home / "said.log").read_text()
    assert sweep.program.returncode == 1
    assert "12 done, 0 skipped, 8 failed" in said, said[-3000:]
    outcomes = [
        json.loads(p.read_text()) for p in sweep.home.glob("outputs/train/*/*/outcome.json")
    ]
    reasons = Counter(each["reason"].partition(" ")[0] for each in outcomes)
    assert reasons == {"": 12, "ZeroDivisionError:": 4, "killed": 4}


def test_the_process_of_a_sweep_stays_as_it_is(swept, tried):
    sweep, _ = swept
    between = [sweep.samples[number] for number in range(1, JOBS)]
    assert all(between), "not seen between two jobs"
    kilobytes = [min(memory for memory, *_ in samples) for samples in between]
    assert slope(kilobytes) < MOST_OF_SWEEP, kilobytes
    files = [min((files for _, files, *_ in samples), key=len) for samples in between]
    logs = [[path for path in each if path.endswith("/train.log")] for each in files]
    assert max(map(len, logs)) <= 1, logs  # of the job
    others = [Counter(each) - Counter(log) for each, log in zip(files, logs, strict=True)]
    # what is left open stays so; a sample may see a file of the configuration that is just read
    assert reduce(and_, others[-FEW:]) == reduce(and_, others[:FEW])
    assert max(own for samples in between for _, _, own, _ in samples) == 1  # the job itself
    assert [min(zombies for *_, zombies in samples) for samples in between] == [0] * len(between)
    grew = f"memory grows by less than {MOST_OF_SWEEP} kB a job"
    what = f"{SWEEP}: its process, looked at between jobs"
    tried("endurance", what, f"open files {SAME}, no child but the job; {grew}")


def test_no_process_of_a_sweep_is_left(swept, tried):
    sweep, _ = swept
    assert sweep.left() == []
    tried("endurance", f"{SWEEP}: processes", "none left")


def test_each_run_of_a_sweep_is_ended_unless_its_job_was_killed(swept, tried):
    sweep, _ = swept
    sweep.left()
    codes = Counter(OfflineRun(p).exit_code for p in sweep.home.glob(OFFLINE))
    assert codes.total() == JOBS
    assert (codes[0], codes[1]) == (12, 4)
    assert codes[None] == JOBS - 16
    tried("endurance", f"{SWEEP}: runs of W&B", "ended as their jobs did, but of killed ones")


def test_a_sweep_leaves_no_file_but_its_own(swept, tried):
    sweep, temporary = swept
    sweep.left()
    codes = {p: OfflineRun(p).exit_code for p in sweep.home.glob(OFFLINE)}
    killed = {path.name.rpartition("-")[2] for path, code in codes.items() if code is None}
    assert len(killed) == JOBS // 5
    left = hidden(sweep.home / "runs")  # by which the next call goes on
    places = [f".mine-{digest}{end}" for digest in killed for end in (".lock", ".partial")]
    assert sorted(Path(path).name for path in left) == sorted(places)
    files = [path for path in temporary.rglob("*") if not path.name.startswith("torch")]
    assert all(path.name.endswith(EMPTY) and not [*path.iterdir()] for path in files)
    assert len(files) <= len(EMPTY) * len(killed)
    said = "none left, but of killed jobs what the next call goes on from, and empty folders of W&B"
    tried("endurance", f"{SWEEP}: locks, parts of folders, temporary files", said)
