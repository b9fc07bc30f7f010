"""A process that loads images is killed, or fails: no hang, one sentence, and it goes on."""

import os
import re
import sys
from functools import partial
from multiprocessing.resource_sharer import DupFd

import pytest
import torch
from torch.utils.data import DataLoader

from cavalcade.cli import user_error
from cavalcade.data.batches import NetworkView
from cavalcade.errors import InputError
from cavalcade.visiting.failures import failures_said
from faults import Child, Kill, contents, no_child_is_left  # noqa: F401
from test_cli import SMALL, python
from test_processes import TESTS
from tiny import tiny_backbone, tiny_data, tiny_visit
from worlds import METHODS, undisturbed, world  # noqa: F401

LOST = (
    "a process that loads images was killed (out of memory, or by hand), so make memory free, or "
    "lower num_workers (now {}; 0 starts none) or batch_size, and run the same command again to "
    "go on"
)
TRAIN_IMAGES = 12
WHAT, SAID = "a data worker is killed / fails", "said; went on; ended the same"


def refuse():
    raise InputError("an image cannot be read; mend it")


def visiting(folder, method, num_workers):
    """A visit whose error, if a user can cause it, goes to a file as the programs print it."""
    backbone = tiny_backbone()
    data = tiny_data(backbone, num_workers=num_workers)
    try:
        tiny_visit(folder / "runs", backbone, data=data, method=METHODS[method])
    except Exception as error:
        (folder / "sentence").write_text(user_error(error) or "none of a user")
        sys.exit(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "num_workers", "nth"),
    [
        ("probes", 2, 2),
        ("probes", 1, TRAIN_IMAGES + 2),  # in the fit
        ("probes", 1, 2 * TRAIN_IMAGES + 2),  # in its second epoch
        ("one_pass", 2, 3),
        ("nmf", 2, 1),
    ],
)
@pytest.mark.parametrize("fault", ["killed", "an error"])
def test_a_lost_worker_is_a_sentence_and_the_visit_goes_on(
    undisturbed,  # noqa: F811
    tmp_path,
    method,
    num_workers,
    nth,
    fault,
    tried,
):
    act = {} if fault == "killed" else {"act": refuse}
    work = partial(visiting, tmp_path, method, num_workers)
    child = Child(work, tmp_path / "log", Kill(NetworkView, "__getitem__", nth, **act))
    assert child.wait() == 1, child.said
    expected = LOST.format(num_workers) if fault == "killed" else "an image cannot be read; mend it"
    assert (tmp_path / "sentence").read_text() == expected
    again = Child(work, tmp_path / "log")
    assert again.wait() == 0, again.said
    assert contents(tmp_path / "runs") == undisturbed[method]
    tried("kills", WHAT, SAID)


@pytest.mark.slow
def test_the_program_says_it(tmp_path, tried):
    """As the kernel does it that is out of memory."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "pid-1").touch()  # which the one that is killed waits for
    command = ("train.py", *SMALL[:-2], "num_workers=1", "trainer.accelerator=cpu", "logger=none")
    command += ("data._target_=faulty_faces.FaultyFaces",)
    result = python(tmp_path, *command, FAULT="0 kill 75", PYTHONPATH=path)
    assert result.returncode == 1, result.stderr[-3000:]
    said = result.stdout + result.stderr
    assert said.count(LOST.format(1)) == 1, said[-3000:]
    assert "Traceback" not in said
    result = python(tmp_path, *command, FAULT="0 kill 1000000", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr[-3000:]
    tried("kills", "train.py: a data worker is killed", "said; went on")


def test_what_torch_says_of_a_lost_worker_is_a_sentence():
    for words, way_out in (
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "so make memory free, or lower",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "so make memory free, or lower"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory.",
            "had no shared memory left, so enlarge /dev/shm, or lower num_workers \\(now 3;",
        ),
    ):
        with pytest.raises(InputError, match=way_out), failures_said("net", 3):
            raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="other"), failures_said("net", 3):
        raise RuntimeError("other")


def test_a_machine_without_memory_is_no_device_without_memory():
    with pytest.raises(InputError, match=r"this machine has no memory"), failures_said("net", 0):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def gone(*_):
    raise ConnectionResetError


class FarAway:
    """Data whose own connection breaks."""

    __getitem__ = gone

    def __len__(self):
        return 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError,
        pytest.param(FileNotFoundError, marks=pytest.mark.slow),
        pytest.param(EOFError, marks=pytest.mark.slow),
    ],
)
def test_a_worker_gone_while_its_batch_is_fetched_is_the_same_sentence(monkeypatch, error):
    """Before torch can notice: the batch comes through a socket of the worker."""

    def detach(_):
        raise error

    monkeypatch.setattr(DupFd, "detach", detach)
    with pytest.raises(InputError, match=re.escape(LOST.format(1))), failures_said("net", 1):
        next(iter(DataLoader(torch.zeros(4), num_workers=1)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_connection_of_the_data_is_no_lost_worker(num_workers):
    with pytest.raises(ConnectionResetError), failures_said("net", num_workers):
        next(iter(DataLoader(FarAway(), num_workers=num_workers)))


def test_a_sentence_says_which_process_it_comes_from():
    lost = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    lost.rank_of_origin, lost.other = 1, 2
    with pytest.raises(InputError) as caught, failures_said("net", 3):
        raise lost
    assert vars(caught.value) == {"rank_of_origin": 1}
