"""Child processes that end when we do, and a word for those that were killed."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

PARENT = "CAVALCADE_PARENT"  # that a child ends with, and the signal that ends it
STOPPING = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0))  # seconds after each, before SIGKILL
PR_SET_PDEATHSIG = 1  # of Linux' prctl.h
AGAIN = "run the same command again to go on"


def run_child(
    command: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    log: Path | None = None,
    needed: Callable[[], bool] = lambda: True,
) -> int:
    """Run a command in a process group of its own, and end all of it when we are to end.

    Args:
        command: the program and its arguments.
        cwd: where it starts.
        env: its environment.
        log: what it prints is appended there; it goes to the terminal if None.
        needed: asked every second; False ends the child, and us.

    Returns:
        Its exit code; that of a signal is negative.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_raises())
        output = stack.enter_context(log.open("ab")) if log else None
        child = None
        try:
            with _signals_later():
                child = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env={**env, PARENT: _bond(signal.SIGTERM)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT if output else None,
                    start_new_session=True,
                )
            return _wait(child, needed)
        except BaseException:
            if child is not None:
                _stop(child)
            raise
        finally:
            if child is not None:
                _signal_group(child, signal.SIGKILL)  # what it may have left behind


def _wait(child: "subprocess.Popen[bytes]", needed: Callable[[], bool]) -> int:
    while needed():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=1.0)
    sys.exit("the sweep has ended, and this job with it")


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Ask a child to end, so that it can clean up; the second time less politely."""
    for number, seconds in STOPPING:
        _signal_group(child, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=seconds)
            return
    _signal_group(child, signal.SIGKILL)
    child.wait()


def _signal_group(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit, unless somebody else, as submitit, handles it."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """SIGINT and SIGTERM wait for the end of the block.

    Who was interrupted while a child starts would not know of it.
    """
    came: list[int] = []
    try:
        with _handled_by(lambda number, _: came.append(number)):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def signals_at_once() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM end the process, though it waits where Python is deaf.

    One that is ignored, as a shell has its background jobs do, stays so.
    """
    with _handled_by(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], Any] | signal.Handlers,
) -> Iterator[None]:
    """Have SIGINT and SIGTERM handled by another one, where a function of Python handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: found for number, found in handlers.items() if callable(found)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


@contextlib.contextmanager
def bound_to_us(number: signal.Signals) -> Iterator[None]:
    """Programs of ours that are started within the block get this signal when we end."""
    os.environ[PARENT] = _bond(number)
    try:
        yield
    finally:
        os.environ.pop(PARENT, None)


def _bond(number: signal.Signals) -> str:
    return f"{os.getpid()} {int(number)}"


def end_with_parent() -> None:
    """In a program that is bound to its parent: end when that does; on Linux even if it was killed.

    Slurm announces a time limit by SIGUSR2 to every process; the parent decides what it means.
    """
    bond = os.environ.pop(PARENT, None)  # not for the children that this process starts
    if bond is None:
        return
    parent, number = map(int, bond.split())
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sentence_of_exit(code: int, log: Path) -> str:
    """Why a process without an outcome ended, as far as its exit code tells.

    >>> sentence_of_exit(-9, Path("output.log"))
    'killed by SIGKILL (out of memory, or by hand); run the same command again to go on'
    """
    if code >= 0:
        return f"ended with exit code {code} before it could say why; see {log}"
    name = signal.Signals(-code).name
    cause = " (out of memory, or by hand)" if name == "SIGKILL" else ""
    return f"killed by {name}{cause}; {AGAIN}"
