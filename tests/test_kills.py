"""A hundred kills at drawn moments of train, mine and compare; each ends as if never killed.

Half of them come before a drawn operation on a file, which says in which phase, and half after
a drawn time.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest

from cavalcade.comparing.pair_store import A_DAY, PARTIAL
from faults import Child, no_child_is_left  # noqa: F401
from hardening import SAME
from worlds import COMPARED, KILLED, TRAINED, finish, first_word, program_of

NAMES = (*COMPARED, *TRAINED)
KILLS = 100
FILE_EVENTS = (  # of which Python tells before it does them
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"),
    *("os.utime", "os.link", "os.listdir", "os.scandir", "shutil.rmtree"),
)
PHASES = {  # of a path below the folder of a test, the first that fits
    "locks": lambda path: path.name.endswith(".lock"),
    "activations": lambda path: path.parts[0] == "cache",
    "pairs": lambda path: ".pairs" in path.parts,
    "comparison": lambda path: path.parts[0] == "comparisons",
    "truth": lambda path: "truth" in path.parts or ".truth.partial" in path.parts,
    "checkpoints": lambda path: "checkpoints" in path.parts,
    "run": lambda path: path.parts[0] == "runs",
}


@dataclass
class Watcher:
    """Hears of every operation on a file below a folder, by its phase.

    Attributes:
        folder: whose files are meant.
        heard: what to do of each.
    """

    folder: Path
    heard: Callable[[str], None]

    def __call__(self, event, arguments):
        if event in FILE_EVENTS and isinstance(arguments[0], str | Path):
            path = Path(arguments[0])
            if self.folder in path.parents:
                below = path.relative_to(self.folder)
                self.heard(next(name for name, fits in PHASES.items() if fits(below)))


@dataclass
class Program:
    """What is done in a folder, and how it goes when nothing disturbs it.

    Attributes:
        work: given the folder.
        left: contents of the folder in the end.
        seconds: that it takes.
        counts: operations on files in each phase.
    """

    work: Callable[[Path], None]
    left: dict[str, str]
    seconds: float
    counts: dict[str, int]

    @classmethod
    def of(cls, work, home):
        counted, events = home / "events", []

        def watched(folder):
            sys.addaudithook(Watcher(folder, events.append))
            work(folder)
            counted.write_text("\n".join(events))

        start = time.monotonic()
        left = finish(watched, home / "folder")
        seconds = time.monotonic() - start
        heard = counted.read_text().split()
        return cls(work, left, seconds, {phase: heard.count(phase) for phase in PHASES})


def killed_before(work, folder, phase, nth):
    """Killed before the nth operation on a file of a phase."""
    left = iter([*[None] * (nth - 1), "now"])

    def heard(found):
        if found == phase and next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    def doomed():
        sys.addaudithook(Watcher(folder, heard))
        work(folder)

    folder.mkdir()
    child = Child(doomed, folder.with_name("log"))
    assert child.wait() == KILLED, child.said


def killed_after(work, home, seconds):
    """Killed after a time, or after half of it if it was over by then, and so on."""
    while True:
        folder = home / f"{seconds:.6f}"
        folder.mkdir()
        child = Child(partial(work, folder), home / "log")
        time.sleep(seconds)
        if child.signal().wait() == KILLED:
            return folder
        seconds /= 2


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program by its name; how it goes undisturbed is seen when it is first asked for."""

    @cache
    def of(name):
        home = tmp_path_factory.mktemp("undisturbed")
        return Program.of(program_of(name, home), home)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_at_a_drawn_moment(program, tmp_path, seed, tried):
    drawn = random.Random(seed)
    turn, name = divmod(seed // 2, len(NAMES))
    whole = program(NAMES[name])
    if seed % 2:
        folder = killed_after(whole.work, tmp_path, drawn.uniform(0, whole.seconds))
        what = "at a drawn moment"
    else:
        phases = [phase for phase, count in whole.counts.items() if count]
        assert len(phases) <= KILLS // 2 // len(NAMES)  # all are met
        phase, folder = phases[turn % len(phases)], tmp_path / "folder"
        killed_before(whole.work, folder, phase, drawn.randint(1, whole.counts[phase]))
        what = "at a drawn file operation"
    ends_the_same(whole, folder)
    tried("kills", f"{first_word(NAMES[name])}: killed {what}", SAME)


def ends_the_same(program, folder):
    """But for what is half written into a store of pairs: another may be at it, for a day."""
    partial = [path.relative_to(folder) for path in folder.rglob(f".pairs/{PARTIAL}")]
    later = folder.with_name("later")
    shutil.copytree(folder, later)
    left = finish(program.work, folder)
    halves = {name: left.pop(name) for name in map(Path.as_posix, partial) if name in left}
    assert left == program.left
    if halves:
        for path in partial:
            os.utime(later / path, (time.time() - 2 * A_DAY,) * 2)
        assert finish(program.work, later) == program.left
