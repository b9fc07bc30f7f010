"""Two processes find what one finds."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cavalcade.visiting.trainers import Trainers
from faults import contents
from run_folders import SAME, assert_same_up_to_rounding
from several_processes import METHODS, visits
from test_children import ended
from test_cli import SMALL, python
from tiny import quiet_trainer

TESTS = Path(__file__).parent
# nothing is summed over images but what is whole or float64, and kept rows are in their order
IN_ORDER = ("probes", "drawn", "nmf", "pca", "rare probes")

TWO = "two processes against one"


def in_two_processes(folder: Path) -> None:
    """Run `several_processes.py` as a cluster would start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, TESTS / "several_processes.py", str(folder)],
            env=env | {"LOCAL_RANK": str(rank), "NODE_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0][-3000:] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The runs of one process, and where those of two lie."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    in_two_processes(two)
    return one, visits(one, Trainers(quiet_trainer)), two


@pytest.mark.parametrize(
    "visit",
    [*METHODS, *(f"{data} {name}" for data in ("halved", "rare") for name in ("probes", "stream"))],
)
def test_two_processes_write_the_run_of_one(both, tried, visit):
    one, runs, two = both
    other = two / runs[visit].relative_to(one)
    if visit in IN_ORDER:
        assert contents(other) == contents(runs[visit])
        tried("numbers", TWO, "equal bytes, but for the checkpoint")
    else:
        assert_same_up_to_rounding(runs[visit], other)
        tried("numbers", TWO, SAME)


def test_two_processes_leave_nothing_else(both):
    one, _, two = both
    assert files(one) == files(two)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
def test_trainer_ddp_is_one_override(tmp_path, tried):
    """The program starts its other process itself; sizes that two do not divide."""
    settings = [*SMALL, "data.num_images={train: 15, val: 3, test: 25}", "logger=none"]
    for name, extra in (("one", []), ("two", ["trainer=ddp", "trainer.devices=2"])):
        (tmp_path / name).mkdir()
        result = python(tmp_path / name, "train.py", *settings, "batch_size=4", *extra)
        assert result.returncode == 0, result.stderr[-3000:]
        assert (result.stdout + result.stderr).count("finished: runs/") == 1
    one, two = (next((tmp_path / name).glob("runs/*/probes/*")) for name in ("one", "two"))
    assert_same_up_to_rounding(one, two)
    tried("numbers", TWO, SAME)
    again = python(tmp_path / "two", "train.py", *settings, "batch_size=4", *extra)
    assert (again.stdout + again.stderr).count("finished before, skipped") == 1


READING, PASSES = 5, 60  # the image at which a process fails: of 44 while data are read, or later


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (f"1 raise {PASSES}", "cannot be read in process 1"),
        (f"1 raise {READING}", "cannot be read in process 1"),
        (f"0 raise {PASSES}", "cannot be read in process 0"),
        (f"1 kill {PASSES}", "another process of this visit ended: what it printed"),
    ],
)
def test_why_one_process_failed_is_said_once(tmp_path, fault, sentence):
    result = in_two(tmp_path, fault)
    assert result.returncode == 1, result.stderr[-3000:]
    assert (result.stdout + result.stderr).count(sentence) == 1
    assert "Traceback" not in result.stderr
    (outcome,) = tmp_path.glob("outputs/train/*/outcome.json")
    assert sentence in outcome.read_text()
    assert all(map(ended, pids(tmp_path)))


@pytest.mark.slow
def test_no_process_outlives_the_first(tmp_path):
    assert in_two(tmp_path, f"0 kill-beside-a-sleeper {READING}").returncode == -9
    assert all(map(ended, pids(tmp_path)))


def in_two(folder, fault):
    """One visit in two processes, one of which fails."""
    return python(
        folder,
        *("train.py", *SMALL, "data._target_=faulty_faces.FaultyFaces", "logger=none"),
        *("trainer=ddp", "trainer.devices=2"),
        FAULT=fault,
        PYTHONPATH=os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    )


def pids(folder):
    found = [int(path.read_text()) for path in folder.glob("pid-*")]
    assert len(found) == 2
    return found
