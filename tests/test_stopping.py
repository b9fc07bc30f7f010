"""Signals end a visit, and Slurm's has it queued again; called again it ends the same."""

import os
import signal
import sys

import pytest

from cavalcade import cli
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration
from cavalcade.truth import Truth
from cavalcade.visiting import probed_visit
from cavalcade.visiting.signals import told_to_stop
from faults import Kill, no_child_is_left  # noqa: F401
from hardening import SAME
from tiny import streamed, tiny_visit
from worlds import KILLED, STEPS, undisturbed, world  # noqa: F401

PHASES = [  # of no pass, of passes that look, and within an epoch
    (Truth, "save", 1),
    (Survey, "test_step", 2),
    (ProbeFit, "training_step", STEPS + 2),
    (probed_visit, "write_halves", 1),
]
SCONTROL = """#!/bin/sh
echo "$@" >> {calls}
{then}
"""


def sent(number, phase):
    return Kill(*phase, act=lambda: os.kill(os.getpid(), number))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The variables of a job of one task, and a program that stands for Slurm's."""
    names = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1"}
    names |= dict.fromkeys(("PROCID", "LOCALID", "NODEID"), "0")
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def answer(then):
        program = tmp_path / "scontrol"
        program.write_text(SCONTROL.format(calls=tmp_path / "calls", then=then))
        program.chmod(0o755)
        return tmp_path / "calls"

    return answer


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase[1])
def test_a_job_that_slurm_ends_goes_on(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    tmp_path,
    slurm,
    phase,
    tried,
):
    calls = slurm("kill -9 $PPID")
    assert world.child(tmp_path, sent(signal.SIGUSR1, phase)).wait() == KILLED
    assert calls.read_text() == "requeue 77\n"
    assert world.finish(tmp_path) == undisturbed["probes"]
    assert not list(tmp_path.glob("*ckpt*"))
    tried("kills", "train: Slurm ends it and queues it again", SAME)


def test_a_job_that_slurm_leaves_alone_ends_the_same(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    tmp_path,
    slurm,
    monkeypatch,
):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    calls = slurm("exit 1")
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("of another program")
    child = world.child(tmp_path, sent(signal.SIGUSR1, PHASES[2]))
    assert child.wait() == 0, child.said
    assert calls.read_text() == "requeue 70_7\n"
    assert "Slurm job 70_7 cannot be queued again" in child.said
    assert world.finish(tmp_path) == undisturbed["probes"]


@pytest.mark.parametrize("phase", [PHASES[0], PHASES[2], (Calibration, "test_step", 2)], ids=str)
@pytest.mark.parametrize("under_slurm", [False, True])
def test_sigterm_ends_a_visit(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    tmp_path,
    request,
    phase,
    under_slurm,
    tried,
):
    if under_slurm:
        request.getfixturevalue("slurm")
    assert world.child(tmp_path, sent(signal.SIGTERM, phase)).wait() == 128 + signal.SIGTERM
    assert world.finish(tmp_path) == undisturbed["probes"]
    tried("kills", "train: told to stop by SIGTERM", SAME)


def test_signals_that_others_handle_are_left_alone(slurm, monkeypatch):
    slurm("")
    others = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        own = signal.getsignal(signal.SIGUSR1)
        with told_to_stop():
            assert signal.getsignal(signal.SIGUSR1) is own
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, others)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    with told_to_stop():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.parametrize("phase", [PHASES[0], PHASES[1], PHASES[2]], ids=lambda phase: phase[1])
def test_ctrl_c_raises_in_every_phase_and_works_again(tmp_path, monkeypatch, phase):
    owner, name, _ = phase

    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(owner, name, interrupted)
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                tiny_visit(tmp_path, method=streamed())
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_ends_the_program_on_purpose_still_does():
    with pytest.raises(SystemExit) as ended, told_to_stop():
        raise SystemExit(3)
    assert ended.value.code == 3


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(128 + signal.SIGTERM)], ids=repr)
def test_who_stops_a_program_hears_how_it_goes_on(monkeypatch, capsys, end):
    def main():
        raise end

    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 128 + (signal.SIGTERM if end.args else signal.SIGINT)
    assert capsys.readouterr().err == "interrupted; run the same command again to go on\n"
