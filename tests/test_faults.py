"""A visit that is killed at any moment goes on when it is called again, and ends the same."""

# ruff: noqa: F811  (fixtures of others)

import shutil
from pathlib import Path

import pytest

from cavalcade import folders, runs, truth
from cavalcade.concepts import Factorisation, checkpoints, probing
from cavalcade.concepts.encoding import Encoding
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.probe_sample import ProbeSample
from cavalcade.concepts.row_sample import RowSample
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration
from cavalcade.truth import Truth
from cavalcade.visiting import mined_visit, probed_visit
from cavalcade.visiting.visit import _keep_truth
from faults import Child, Kill, contents, no_child_is_left  # noqa: F401
from hardening import SAME
from worlds import KILLED, STEPS, THUMBNAILS, undisturbed, world  # noqa: F401

WORDS = {"probes": "train by stream", "one_pass": "train in one pass", "nmf": "mine"}
ANY = [
    Kill(truth, "save_file", when="torn"),
    Kill(truth, "write_meta"),
    Kill(Truth, "save", when="after"),
    Kill(runs, "save_file", 1, "torn"),
    Kill(runs, "save_file", 3, "torn"),
    Kill(runs, "write_meta"),
    Kill(folders, "_checksum", 9),
    Kill(folders, "_put", 2),
    Kill(folders, "_put", 2, "after"),
]
POINTS = {
    "probes": [
        *ANY,
        Kill(Survey, "test_step", 2),
        *(Kill(ProbeFit, "training_step", nth) for nth in (1, 2, STEPS + 1, 2 * STEPS + 2)),
        Kill(ProbeFit, "validation_step", 2),
        Kill(ProbeFit, "on_validation_epoch_end", 2, "after"),
        *(Kill(checkpoints, "_write", nth, when) for nth in (1, 2) for when in ("torn", "after")),
        Kill(checkpoints, "_write", 3, "torn"),
        *(Kill(checkpoints, "sync", nth) for nth in (1, 4)),
        *(Kill(Path, "replace", nth, "after") for nth in (2, 3, 4)),
        Kill(Calibration, "test_step", 2),
        Kill(Encoding, "test_step", 2),
        Kill(probed_visit, "_draw_scores", when="after"),
        Kill(probed_visit, "write_halves", when="after"),
    ],
    "one_pass": [
        Kill(ProbeSample, "test_step", 2),
        Kill(probing, "fit_in_one_pass", when="after"),
        Kill(Encoding, "test_step", 2),
        Kill(runs, "save_file", 1, "torn"),
    ],
    "nmf": [
        *ANY,
        Kill(RowSample, "test_step", 2),
        Kill(Factorisation, "_mine", 2),
        Kill(Encoding, "test_step", 2),
        Kill(mined_visit, "draw_galleries", when="after"),
    ],
}
REPEATED = [("nmf", kill) for kill in ANY[:-1]] + [("one_pass", POINTS["one_pass"][2])]
RENAMES = [Kill(Path, "rename", nth, when) for nth in (1, 2) for when in ("before", "after")]


def both():
    """Every other point of probes by stream, and of others their own, are for every day."""
    points = [(method, kill) for method, kills in POINTS.items() for kill in kills]
    daily = [*POINTS["probes"][::2], *POINTS["one_pass"][:2], *POINTS["nmf"][len(ANY) - 1 :]]
    return [
        pytest.param(
            *(method, kill),
            id=f"{method}-{kill}",
            marks=() if kill in daily and (method, kill) not in REPEATED else pytest.mark.slow,
        )
        for method, kill in points
    ]


@pytest.mark.parametrize(("method", "kill"), both())
def test_a_killed_visit_goes_on_and_ends_the_same(
    world, undisturbed, tmp_path, method, kill, tried
):
    assert world.child(tmp_path, kill, method=method).wait() == KILLED
    assert world.finish(tmp_path, method=method) == undisturbed[method]
    tried("kills", f"{WORDS[method]}: killed at a chosen step, or in the middle of a write", SAME)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    world.finish(folder)
    return folder


FORCED = [
    Kill(ProbeFit, "training_step", STEPS + 2),
    Kill(runs, "write_meta"),
    Kill(folders, "_put"),
    *RENAMES,
]


@pytest.mark.parametrize(
    ("kill", "force"),
    [
        *((kill, True) for kill in FORCED[:1] + RENAMES[:3]),
        (RENAMES[1], False),
        *(pytest.param(kill, True, marks=pytest.mark.slow) for kill in (*FORCED[1:3], RENAMES[3])),
        *(pytest.param(kill, False, marks=pytest.mark.slow) for kill in (FORCED[0], FORCED[2])),
    ],
    ids=str,
)
def test_a_forced_visit_that_is_killed_ends_the_same(
    world, undisturbed, finished, tmp_path, kill, force, tried
):
    (tmp_path / "runs").symlink_to(finished / "runs")  # every test leaves it as it was
    assert world.child(tmp_path, kill, force=True).wait() == KILLED
    assert world.finish(tmp_path, force=force) == undisturbed["probes"]
    tried("kills", "train force=true: killed at a chosen step", SAME)


def test_a_forced_visit_that_is_given_up_is_said(world, undisturbed, finished, tmp_path):
    (tmp_path / "runs").symlink_to(finished / "runs")
    kill = Kill(ProbeFit, "training_step", STEPS + 2)
    assert world.child(tmp_path, kill, force=True).wait() == KILLED
    child = world.child(tmp_path)
    assert child.wait() == 0, child.said
    assert "what an interrupted force=true had begun is removed" in child.said
    assert "finished before, skipped" in child.said
    assert contents(tmp_path / "runs") == undisturbed["probes"]


def test_a_forced_visit_goes_on_where_it_was_killed(world, finished, tmp_path):
    (tmp_path / "runs").symlink_to(finished / "runs")
    kill = Kill(ProbeFit, "training_step", STEPS + 2)
    assert world.child(tmp_path, kill, force=True).wait() == KILLED
    again = Kill(Survey, "test_step")
    assert world.child(tmp_path, again, force=True).wait() == 0
    assert world.child(tmp_path, again, force=True).wait() == KILLED  # from the start
    world.finish(tmp_path)


@pytest.mark.parametrize("kill", RENAMES, ids=str)
def test_truth_that_is_replaced_ends_the_same(world, tmp_path, kill, tried):
    def keep(place, thumbnails, *kills):
        world.data.data.thumbnails = thumbnails
        code = Child(lambda: _keep_truth(place, world.data), tmp_path / "log", *kills).wait()
        world.data.data.thumbnails = THUMBNAILS
        return code

    assert keep(tmp_path / "a/truth", 16) == 0
    assert keep(tmp_path / "b/truth", THUMBNAILS) == 0
    assert keep(tmp_path / "b/truth", 16, kill) == KILLED
    assert keep(tmp_path / "b/truth", 16) == 0
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    tried("kills", "train: killed while it replaces the truth", SAME)


@pytest.fixture(scope="module")
def without_galleries(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    world.data.data.thumbnails = None
    world.finish(folder, method="nmf")
    world.data.data.thumbnails = THUMBNAILS
    return folder


REDRAWN = [  # the first two renames are those of the truth
    Kill(mined_visit, "write_meta"),
    *(Kill(Path, "rename", nth, "after") for nth in (3, 4)),
]


@pytest.mark.parametrize("kill", REDRAWN, ids=str)
def test_galleries_that_are_drawn_again_end_the_same(
    world, undisturbed, without_galleries, tmp_path, kill, tried
):
    shutil.copytree(without_galleries / "runs", tmp_path / "runs")
    assert world.child(tmp_path, kill, method="nmf").wait() == KILLED
    assert world.finish(tmp_path, method="nmf") == undisturbed["nmf"]
    tried("kills", "mine: killed while it draws galleries again", SAME)


def test_several_kills_of_one_visit(world, undisturbed, tmp_path, tried):
    for kill in (
        Kill(Survey, "test_step", 3),
        Kill(ProbeFit, "training_step", STEPS + 1),
        Kill(ProbeFit, "training_step", STEPS + 1),
        Kill(checkpoints, "_write", when="torn"),
        Kill(Calibration, "test_step"),
        Kill(folders, "_put"),
    ):
        assert world.child(tmp_path, kill).wait() == KILLED
    assert world.finish(tmp_path) == undisturbed["probes"]
    tried("kills", "train by stream: killed six times", SAME)
