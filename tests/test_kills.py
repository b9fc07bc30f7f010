"""A hundred kills at drawn moments of train, mine and compare; each ends as if never killed.

Half of them come before a drawn operation on a file, which says in which phase, and half after
a drawn time.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from cavalcade import Analysis, compare, load_run
from cavalcade.comparing.comparable import distinct_names
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.pair_store import A_DAY, PARTIAL
from cavalcade.concepts import ActivationCache, Factorisation, Probes
from cavalcade.names import names_of_runs
from faults import Child, contents, no_child_is_left  # noqa: F401
from test_faults import KILLED, METHODS, SAME
from tiny import tiny_backbone, tiny_data, tiny_visit

KILLS = 100
PATIENCE = 300  # seconds that a child may take
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
TRAINED = {
    "train by stream": ("probes", False),
    "train by stream, with a cache": ("probes", True),
    "train in one pass": ("one_pass", False),
    "train in one pass, with a cache": ("one_pass", True),
    "mine": ("nmf", False),
    "mine, with a cache": ("nmf", True),
}
COMPARED = {
    "compare probed runs": Probes(rows=600),
    "compare mined runs": Factorisation(num_concepts=3, rows=200, restarts=0),
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


def finish(work, folder):
    folder.mkdir(exist_ok=True)
    child = Child(partial(work, folder), folder.with_name("log"))
    assert child.wait(PATIENCE) == 0, child.said
    return contents(folder)


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
    assert child.wait(PATIENCE) == KILLED, child.said


def killed_after(work, home, seconds):
    """Killed after a time, or after half of it if it was over by then, and so on."""
    while True:
        folder = home / f"{seconds:.6f}"
        folder.mkdir()
        child = Child(partial(work, folder), home / "log")
        time.sleep(seconds)
        if child.signal().wait(PATIENCE) == KILLED:
            return folder
        seconds /= 2


def visiting(method, cached):
    backbone = tiny_backbone()
    data = tiny_data(backbone)

    def work(folder):
        cache = ActivationCache(folder / "cache") if cached else None
        tiny_visit(folder / "runs", backbone, data=data, method=METHODS[method], cache=cache)

    return work


def comparing(method, home):
    places = []
    for name, seed in (("one", 0), ("other", 1)):
        backbone = tiny_backbone(label=name, seed=seed)
        places.append(tiny_visit(home, backbone, method=method))

    def work(folder):
        runs = [load_run(place) for place in places]
        home = folder / "comparisons"
        names = names_of_runs(runs, distinct_names(runs), None)
        compared = compare(runs, "adjusted", ["cka"], repairings=3, cache=home / ".pairs")
        analysis = Analysis(compared)
        write_comparison(analysis, runs, home / "both", tables_of(analysis, names), pictures=1)

    return work


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    works = {name: visiting(*how) for name, how in TRAINED.items()}
    for name, method in COMPARED.items():
        works[name] = comparing(method, tmp_path_factory.mktemp("compared") / "runs")
    return {
        name: Program.of(work, tmp_path_factory.mktemp("undisturbed"))
        for name, work in works.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_at_a_drawn_moment(programs, tmp_path, seed, tried):
    drawn = random.Random(seed)
    if seed % 2:
        name = sorted(programs)[seed // 2 % len(programs)]
        program = programs[name]
        folder = killed_after(program.work, tmp_path, drawn.uniform(0, program.seconds))
        what = "after a drawn time"
    else:
        moments = [
            (n, phase) for n, own in programs.items() for phase, c in own.counts.items() if c
        ]
        assert len(moments) <= KILLS / 2  # all are met
        name, phase = moments[seed // 2 % len(moments)]
        program, folder = programs[name], tmp_path / "folder"
        nth = drawn.randint(1, program.counts[phase])
        killed_before(program.work, folder, phase, nth)
        what = "before any operation on a file"
    a_day_goes_by(folder)
    assert finish(program.work, folder) == program.left
    tried("kills", f"{name}: killed {what}", SAME)


def a_day_goes_by(folder):
    """For others that may be writing, what is half written into a store of pairs stays so long."""
    for left in folder.rglob(PARTIAL):
        os.utime(left, (time.time() - 2 * A_DAY,) * 2)
