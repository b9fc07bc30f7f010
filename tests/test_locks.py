"""Two processes at one place: one waits for the other, and goes on where it was killed."""

import errno
import fcntl
import os
import time

import filelock
import pytest

from cavalcade import InputError, locks
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.survey import Survey
from cavalcade.locks import hold, is_held, locked, nobody_holds
from cavalcade.truth import Truth
from faults import Child, Kill, contents, no_child_is_left  # noqa: F401
from hardening import SAME
from worlds import KILLED, STEPS, pause, undisturbed, world  # noqa: F401


def test_the_second_waits_and_finds_the_run_finished(world, undisturbed, tmp_path):  # noqa: F811
    there, go = tmp_path / "there", tmp_path / "go"
    first = world.child(tmp_path, Kill(Survey, "test_step", act=pause(there, go)))
    first.wait_for(there)
    second = world.child(tmp_path)
    second.wait_to_say("waiting for it")
    go.touch()
    assert (first.wait(), second.wait()) == (0, 0), first.said + second.said
    assert f"another process ({first.pid} on " in second.said
    assert "finished before, skipped" in second.said
    assert contents(tmp_path / "runs") == undisturbed["probes"]


def test_the_second_goes_on_where_the_first_was_killed(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    tmp_path,
    tried,
):
    there = tmp_path / "there"
    stop = pause(there, tmp_path / "never")
    first = world.child(tmp_path, Kill(ProbeFit, "training_step", STEPS + 1, act=stop))
    first.wait_for(there)
    second = world.child(tmp_path, Kill(Survey, "test_step"))  # which it has no need of
    second.wait_to_say("waiting for it")
    assert first.signal().wait() == KILLED
    assert second.wait() == 0, second.said
    assert contents(tmp_path / "runs") == undisturbed["probes"]
    tried("kills", "train: a second waits, the first is killed", SAME)


def test_jobs_of_a_sweep_make_the_truth_once(world, undisturbed, tmp_path):  # noqa: F811
    made = tmp_path / "made"
    once = Kill(Truth, "save", act=lambda: made.open("a").write("x"))
    jobs = [world.child(tmp_path, once), world.child(tmp_path, once, method="nmf")]
    assert [job.wait() for job in jobs] == [0, 0], jobs[0].said + jobs[1].said
    assert made.read_text() == "x"
    assert contents(tmp_path / "runs") == undisturbed["probes"] | undisturbed["nmf"]


def test_a_hundred_turns_at_one_counter(tmp_path, tried):
    """What is read and written under the lock is never lost, though its file comes and goes."""
    place = tmp_path / "counter"
    total = tmp_path / "total"
    total.write_text("0")

    def count():
        for _ in range(25):
            with locked(place):
                number = int(total.read_text())
                time.sleep(0)
                total.write_text(str(number + 1))

    children = [Child(count, tmp_path / f"{i}.log") for i in range(4)]
    assert [child.wait() for child in children] == [0] * 4, [child.said for child in children]
    assert total.read_text() == "100"
    tried("kills", "100 turns of four processes at one lock", "none lost")
    assert not list(tmp_path.glob(".*"))


def test_the_file_of_a_holder_that_was_killed_is_no_hindrance(tmp_path):
    (tmp_path / ".place.lock").write_text("1 on moon")
    with locked(tmp_path / "place"):
        assert (tmp_path / ".place.lock").read_text().startswith(f"{os.getpid()} on ")
    assert not list(tmp_path.iterdir())


def test_an_error_frees_the_lock(tmp_path):
    with pytest.raises(InputError), locked(tmp_path / "place"):
        raise InputError("stop")
    with locked(tmp_path / "place"):
        pass


def test_who_does_not_wait_is_told(tmp_path):
    place = tmp_path / "place"
    with locked(place, wait=False) as first, locked(place, wait=False) as second:
        assert (first, second) == (True, False)
    with locked(place, wait=False) as later:
        assert later


def test_any_number_hold_a_file(tmp_path):
    path = tmp_path / "file"
    assert not is_held(path)
    path.touch()
    one, other = set(), set()
    hold(path, one)
    hold(path, other)
    del one
    assert is_held(path)
    del other
    assert not is_held(path)


def test_a_file_that_goes_before_it_is_held_is_not_held(tmp_path, monkeypatch):
    path, holder = tmp_path / "file", set()
    path.touch()
    flock = locks._flock

    def replaced(number, *, exclusive):
        path.unlink()
        path.touch()  # another one
        flock(number, exclusive=exclusive)

    monkeypatch.setattr(locks, "_flock", replaced)
    with pytest.raises(FileNotFoundError):
        hold(path, holder)


def test_a_file_that_nobody_holds_can_be_kept_from_others(tmp_path):
    path = tmp_path / "file"
    with nobody_holds(path) as alone:
        assert alone  # there is none
    path.touch()
    with nobody_holds(path) as alone:
        assert alone
        assert is_held(path)  # as others see it
    assert not is_held(path)


def test_what_is_forked_while_a_file_is_held_holds_it_too(tmp_path):
    path = tmp_path / "file"
    path.touch()
    holder = set()
    hold(path, holder)
    child = Child(pause(tmp_path / "there", tmp_path / "never"), tmp_path / "log")
    child.wait_for(tmp_path / "there")
    del holder
    assert is_held(path)
    child.signal().wait()
    assert not is_held(path)


def refusing(number):
    def acquire(*_, **__):
        raise OSError(number, os.strerror(number))

    return acquire


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(filelock.FileLock, "acquire", refusing(errno.ENOSYS))
    with locked(tmp_path / "place"):
        pass
    assert "place cannot be locked" in caplog.text
    assert "let no other program make it too" in caplog.text
    caplog.clear()
    with locked(tmp_path / "place", wait=False) as alone:
        assert not alone
    assert not caplog.text


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(filelock.FileLock, "acquire", refusing(errno.EACCES))
    with (
        pytest.raises(InputError, match=r"cannot write to .*give another place"),
        locked(tmp_path / "place"),
    ):
        pass


def test_a_file_that_another_asks_about_is_not_held(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    number = os.open(path, os.O_RDWR)
    fcntl.flock(number, fcntl.LOCK_EX)
    monkeypatch.setattr(locks.time, "sleep", lambda _: fcntl.flock(number, fcntl.LOCK_UN))
    assert not is_held(path)
    os.close(number)
