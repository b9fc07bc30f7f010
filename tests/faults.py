"""Runs work in child processes that are killed at a chosen point, and compares what is left."""

import functools
import hashlib
import inspect
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import jaxtyping
import pytest
import torch

PROCESSOR = 120  # seconds of work that a child may do, on a busy machine as on an idle one
PATIENCE = 600.0  # seconds that it may take at all


@dataclass(frozen=True)
class Kill:
    """A point at which a process ends itself by SIGKILL, or does what is said instead.

    Attributes:
        owner: a class or module.
        name: its function that is watched.
        nth: which of its calls, counted from 1.
        when: `before` or `after` the call, or `torn`: after it, with half of the file that it
            wrote, which is the last of its arguments that is a path.
        act: instead of SIGKILL.
    """

    owner: Any
    name: str
    nth: int = 1
    when: str = "before"
    act: Callable[[], Any] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def set(self) -> None:
        original, calls = getattr(self.owner, self.name), count(1)

        @functools.wraps(inspect.unwrap(original))  # Lightning looks at the arguments of steps
        def watched(*args, **kwargs):
            mine = next(calls) == self.nth
            if mine and self.when == "before":
                self.act()
            result = original(*args, **kwargs)
            if mine and self.when == "torn":
                path = next(a for a in reversed(args) if isinstance(a, str | Path))
                os.truncate(path, Path(path).stat().st_size // 2)
            if mine and self.when != "before":
                self.act()
            return result

        setattr(self.owner, self.name, watched)

    def __str__(self) -> str:
        owner = self.owner.__name__.rpartition(".")[2]
        return f"{self.when}-{owner}.{self.name}-{self.nth}"


class Child:
    """A forked process that does some work; what it logs goes to a file.

    Tests that make some import `no_child_is_left`.
    """

    alive: ClassVar[dict[int, "Child"]] = {}

    def __init__(self, work: Callable[[], Any], log: Path, *kills: Kill) -> None:
        self.log = log
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            self.pid = os.fork()
        if self.pid == 0:
            os._exit(_exit_code(work, log, kills))
        self.alive[self.pid] = self

    def signal(self, number: int = signal.SIGKILL) -> "Child":
        os.kill(self.pid, number)
        return self

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code; negative for the signal that ended it, SIGXCPU for too much work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                del self.alive[pid]
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        self.end()
        raise TimeoutError(f"the child hangs; it said: {self.said}")

    def end(self) -> None:
        self.signal()
        os.waitpid(self.pid, 0)
        del self.alive[self.pid]

    def wait_for(self, path: Path) -> None:
        """Until a file is there."""
        self._until(path.exists, f"{path} never came")

    def wait_to_say(self, words: str) -> None:
        """Until these words are in its log."""
        self._until(lambda: words in self.said, f"it never said {words!r}")

    def _until(self, there: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < end, f"{otherwise}; the child said: {self.said}"
            time.sleep(0.005)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture(autouse=True)
def no_child_is_left():
    """A test that fails does not leave one that waits for ever."""
    yield
    for child in list(Child.alive.values()):
        child.end()


def _exit_code(work: Callable[[], Any], log: Path, kills: tuple[Kill, ...]) -> int:
    torch.set_num_threads(1)  # threads of the parent are not in this process
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR + 10))
    jaxtyping.config.update("jaxtyping_disable", True)  # shapes are checked where nothing is killed
    logging.getLogger("cavalcade").setLevel(logging.INFO)
    logging.getLogger().handlers = [logging.FileHandler(log)]
    for kill in kills:
        kill.set()
    try:
        work()
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:
        log.open("a").write(traceback.format_exc())
        return 1
    finally:
        sys.stdout.flush()
    return 0


def contents(folder: Path) -> dict[str, Any]:
    """All files below a folder, hidden ones too, as what must be equal in them.

    Of checkpoints the tensors and numbers of the fit.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _content(path) for path in files}


def _content(path: Path) -> Any:
    if path.suffix == ".ckpt":
        checkpoint = torch.load(path, weights_only=True)
        kept = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
        return repr([_plain(checkpoint[key]) for key in kept])
    if path.name == "meta.json":
        meta = json.loads(path.read_text())
        meta.get("files", {}).pop("checkpoints/last.ckpt", None)
        return json.dumps(meta)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, hashlib.sha256(value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
