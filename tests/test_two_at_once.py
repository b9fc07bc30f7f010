"""Two programs at one place at the same moment: nothing is mixed, and nothing is made twice.

The first stops within its work until the second has come to it: so they do meet.
"""

from functools import partial

import pytest

from cavalcade import folders
from cavalcade.comparing.pair_store import PairsOnDisk
from cavalcade.concepts.encoding import Encoding
from cavalcade.concepts.fitting import ProbeFit
from faults import Child, Kill, contents, no_child_is_left  # noqa: F401
from worlds import TRAINED, first_word, pause, programs

WAITS = "waiting for it"
MET = [  # where the first stops
    ("train by stream", ProbeFit, "training_step", 2),
    ("train by stream", folders, "_put", 2),
    ("train by stream, with a cache", ProbeFit, "training_step", 2),
    ("train in one pass, with a cache", Encoding, "test_step", 1),
    ("mine", folders, "_put", 2),
    ("mine, with a cache", Encoding, "test_step", 1),
    ("compare probed runs", PairsOnDisk, "write", 2),
    ("compare probed runs", folders, "_put", 1),
    ("compare mined runs", PairsOnDisk, "write", 1),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return programs(tmp_path_factory)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "owner", "where", "nth"), MET)
def test_two_at_the_same_moment(work, tmp_path, name, owner, where, nth, tried):
    does, left = work(name)
    folder, there, go, too = (tmp_path / each for each in ("folder", "there", "go", "too"))
    folder.mkdir()
    pair = [
        Child(partial(does, folder), tmp_path / "0", Kill(owner, where, nth, act=pause(there, go)))
    ]
    pair[0].wait_for(there)
    pair.append(
        Child(partial(does, folder), tmp_path / "1", Kill(PairsOnDisk, "read", act=too.touch))
    )
    if owner is PairsOnDisk:  # at which they do not wait for each other
        pair[1].wait_for(too)
    else:
        pair[1].wait_to_say(WAITS)
    go.touch()
    assert [child.wait() for child in pair] == [0, 0], pair[0].said + pair[1].said
    assert contents(folder) == left
    if name in TRAINED:
        assert ["finished before, skipped" in child.said for child in pair] == [False, True]
        happened = "one made it, the other waited and skipped it"
    else:
        happened = "both ended with the result of one"
    tried("kills", f"{first_word(name)}: two meet at one place", happened)
