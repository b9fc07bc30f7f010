"""Child processes end with their parent, and what ended them is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cavalcade import children
from cavalcade.children import is_alive, run_child, sentence_of_exit

SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
WRAPPER = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
run_child = runpy.run_path(sys.argv[1])["run_child"]
run_child([sys.executable, "-c", sys.argv[2], sys.argv[3]], cwd=".", env={})
"""


def python(*arguments, **options):
    return run_child([sys.executable, *arguments], cwd=".", env=dict(os.environ), **options)


def test_a_child_returns_its_exit_code_and_writes_to_its_log(tmp_path):
    log = tmp_path / "output.log"
    assert python("-c", "import sys; print('said'); sys.exit(3)", log=log) == 3
    assert log.read_text() == "said\n"
    assert python("-c", "import os; os.kill(os.getpid(), 9)") == -signal.SIGKILL


def test_what_a_child_leaves_behind_is_ended(tmp_path):
    start = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1], "
        "sys.argv[2]]); import time, os\n"
        "while not os.path.exists(sys.argv[2]) or not open(sys.argv[2]).read(): time.sleep(0.01)"
    )
    assert python("-c", start, SLEEPER, str(tmp_path / "pid")) == 0
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_the_child(tmp_path, number):
    pid_file = tmp_path / "pid"
    arguments = [children.__file__, SLEEPER, str(pid_file)]
    parent = subprocess.Popen(
        [sys.executable, "-c", WRAPPER, *arguments], stderr=subprocess.DEVNULL
    )
    child = written_pid(pid_file)
    parent.send_signal(number)
    assert parent.wait(timeout=20) != 0
    assert ended(child)


def test_a_signal_while_a_child_starts_ends_it_too(tmp_path, monkeypatch):
    started, real = [], subprocess.Popen

    def interrupted(*arguments, **options):
        child = real(*arguments, **options)
        started.append(child.pid)
        os.kill(os.getpid(), signal.SIGTERM)  # before anybody knows of the child
        for _ in range(1000):  # in which Python looks at signals
            pass
        return child

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(SystemExit):
        python("-c", SLEEPER, str(tmp_path / "pid"))
    assert ended(started[0])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_job_that_is_not_needed_any_more_ends(tmp_path):
    with pytest.raises(SystemExit, match="the sweep has ended"):
        python("-c", SLEEPER, str(tmp_path / "pid"), needed=lambda: not (tmp_path / "pid").exists())
    assert ended(written_pid(tmp_path / "pid"))


def written_pid(path):
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def ended(pid):
    """Whether a process is gone, or a zombie that nobody has waited for, within two seconds."""
    for _ in range(100):
        if not is_alive(pid) or ") Z" in Path(f"/proc/{pid}/stat").read_text():
            return True
        time.sleep(0.02)
    return False


def test_a_child_whose_parent_is_gone_does_not_start(monkeypatch):
    monkeypatch.setenv(children.PARENT, "1 15")
    monkeypatch.setattr(
        children, "ctypes", SimpleNamespace(CDLL=lambda _: SimpleNamespace(prctl=lambda *_: 0))
    )
    before = signal.getsignal(signal.SIGUSR2)
    try:
        with pytest.raises(SystemExit, match="has ended"):
            children.end_with_parent()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert children.PARENT not in os.environ


def test_exits_in_words():
    assert sentence_of_exit(1, Path("a.log")).endswith("before it could say why; see a.log")
    assert sentence_of_exit(-15, Path("a.log")) == (
        "killed by SIGTERM; run the same command again to go on"
    )


def test_signals_that_are_ignored_stay_so_while_processes_meet():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job in the background
    try:
        with children.signals_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with children.signals_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
