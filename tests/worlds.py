"""What is visited and compared where processes are killed, disks full, and places shared."""

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

from cavalcade import Analysis, compare, load_run
from cavalcade.comparing.comparable import distinct_names
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import ActivationCache, Factorisation, Probes
from cavalcade.names import names_of_runs
from faults import Child, contents
from tiny import streamed, tiny_backbone, tiny_data, tiny_visit

KILLED = -9
THUMBNAILS = 192
STEPS = 3  # of an epoch of the twelve training images

METHODS = {
    "probes": streamed(epochs=3),
    "one_pass": Probes(rows=600),
    "nmf": Factorisation(num_concepts=3, rows=200, restarts=2),
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


class World:
    """The network and the data, made once; each child visits with a copy of them."""

    def __init__(self):
        self.backbone = tiny_backbone()
        self.data = tiny_data(self.backbone)

    def visit(self, folder, method="probes", **options):
        method = METHODS[method] if isinstance(method, str) else method
        return tiny_visit(folder / "runs", self.backbone, data=self.data, method=method, **options)

    def child(self, folder, *kills, **options):
        folder.mkdir(exist_ok=True)
        number = len(list(folder.glob("*.log")))
        return Child(partial(self.visit, folder, **options), folder / f"{number}.log", *kills)

    def finish(self, folder, **options):
        child = self.child(folder, **options)
        assert child.wait() == 0, child.said
        return contents(folder / "runs")


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return {method: world.finish(folder / method, method=method) for method in METHODS}


def finish(work, folder):
    folder.mkdir(exist_ok=True)
    child = Child(partial(work, folder), folder.with_name("log"))
    assert child.wait() == 0, child.said
    return contents(folder)


def visiting(method, cached):
    """To visit in a folder."""
    backbone = tiny_backbone()
    data = tiny_data(backbone)

    def work(folder):
        cache = ActivationCache(folder / "cache") if cached else None
        tiny_visit(folder / "runs", backbone, data=data, method=METHODS[method], cache=cache)

    return work


def comparing(method, home, cache="comparisons/.pairs"):
    """To compare, in a folder, two runs that are made in another; pairs are kept in the first.

    Args:
        method: of the runs.
        home: of the runs.
        cache: below the folder, or a place of its own; None keeps no pairs.
    """
    places = []
    for name, seed in (("one", 0), ("other", 1)):
        backbone = tiny_backbone(label=name, seed=seed)
        places.append(tiny_visit(home, backbone, method=method))

    def work(folder):
        runs = [load_run(place) for place in places]
        home = folder / "comparisons"
        pairs = folder / cache if cache else None
        names = names_of_runs(runs, distinct_names(runs), None)
        compared = compare(runs, "adjusted", ["cka"], repairings=3, cache=pairs)
        analysis = Analysis(compared)
        write_comparison(analysis, runs, home / "both", tables_of(analysis, names), pictures=1)

    return work


def program_of(name: str, home: Path) -> Callable[[Path], None]:
    """What a program of `TRAINED` or `COMPARED` does in a folder."""
    if name in TRAINED:
        return visiting(*TRAINED[name])
    return comparing(COMPARED[name], home / "runs")


def programs(tmp_path_factory):
    """What a program does in a folder, and what it leaves there if nothing happens, by its name."""

    @cache
    def of(name):
        home = tmp_path_factory.mktemp("home")
        does = program_of(name, home)
        return does, finish(does, home / "alone")

    return of


def first_word(name: str) -> str:
    """The program that a user calls."""
    return name.partition(",")[0].split()[0]


def pause(path, go):
    """What a child does at a point: it says that it is there, and waits to be let on."""

    def act():
        path.touch()
        while not go.exists():
            time.sleep(0.005)

    return act
