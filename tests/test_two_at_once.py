"""Two programs at one place at the same moment: one works, the other waits; nothing is mixed."""

import random
import time
from functools import partial

import pytest

from faults import Child, contents, no_child_is_left  # noqa: F401
from test_kills import COMPARED, PATIENCE, TRAINED, comparing, finish, visiting

SEEDS = {
    "train by stream": 3,
    "train in one pass, with a cache": 2,
    "mine, with a cache": 2,
    "compare probed runs": 2,
    "compare mined runs": 1,
}


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    made = {
        name: visiting(*TRAINED[name])
        if name in TRAINED
        else comparing(COMPARED[name], home / name)
        for name in SEEDS
    }
    return {name: (work, finish(work, home / f"{name}-alone")) for name, work in made.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), [(n, s) for n, many in SEEDS.items() for s in range(many)]
)
def test_two_at_the_same_moment(works, tmp_path, name, seed, tried):
    work, left = works[name]
    drawn, go, folder = random.Random(seed), tmp_path / "go", tmp_path / "folder"
    folder.mkdir()

    def started(pause):
        while not go.exists():
            time.sleep(0.001)
        time.sleep(pause)
        work(folder)

    pauses = (0, drawn.uniform(0, 0.05) * (seed > 0))
    pair = [Child(partial(started, pauses[i]), tmp_path / f"{i}.log") for i in range(2)]
    go.touch()
    assert [child.wait(PATIENCE) for child in pair] == [0, 0], pair[0].said + pair[1].said
    assert contents(folder) == left
    if name in TRAINED:
        assert sum("finished before, skipped" in child.said for child in pair) == 1
    program = name.partition(",")[0].split()[0]
    tried(
        "kills",
        f"{program}: two at one place at the same moment",
        "one made it, the other skipped it"
        if name in TRAINED
        else "both ended with the result of one",
    )
