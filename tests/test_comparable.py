"""Which runs are compared, and which cannot be."""

import os
import shutil

import pytest

from cavalcade import InputError, compare, load_run
from cavalcade.comparing.comparable import check_comparable, find_runs, latest_runs, random_twins
from tiny import PlantedSquares, tiny_backbone, tiny_data, tiny_visit


def squares_visit(root, seed=0, **options):
    backbone = tiny_backbone(seed=seed, **options)
    return tiny_visit(root, backbone, data=tiny_data(backbone, PlantedSquares(grid=(16, 16))))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed, label in enumerate(("original", "shuffled", "stranger")):
        squares_visit(root, seed, label=label)
    return root


@pytest.fixture(scope="module")
def runs(root):
    return latest_runs(root)


def test_runs_are_found_by_folder_and_glob(runs):
    folder = runs[0].path.parent
    assert [run.label for run in find_runs([folder / "s*"])] == ["shuffled", "stranger"]
    both = find_runs([runs[0].path, folder / "original*"])
    assert [run.label for run in both] == ["original"]


def test_nothing_found_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no run folder at '.*nowhere'"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"holds no finished run; run train.py first"):
        latest_runs(tmp_path)
    with pytest.raises(InputError, match="there is no run to compare"):
        compare([])


def test_latest_is_the_data_set_asked_for_last(root, runs, tmp_path):
    other = shutil.copytree(root, tmp_path / "runs")
    backbone = tiny_backbone(label="original")
    data = tiny_data(backbone, PlantedSquares(grid=(8, 8)))
    newer = tiny_visit(other, backbone, data=data)
    assert [run.path for run in latest_runs(other)] == [newer]
    for path in other.glob(f"{runs[0].path.parents[1].name}/probes/*"):
        os.utime(path, (2e9, 2e9))
        os.utime(path / "meta.json", (2e9, 2e9))
    assert len(latest_runs(other)) == 3
    shutil.copytree(newer.parents[1], other / ".fetched-by-one-that-was-killed")
    assert len(latest_runs(other)) == 3


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("grid", {"grid": (8, 8)}),
        ("test images", {"grid": (16, 16), "limit": {"test": 30}}),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, what, options, tmp_path):
    backbone = tiny_backbone(label="other")
    other = load_run(
        tiny_visit(tmp_path, backbone, data=tiny_data(backbone, PlantedSquares(**options)))
    )
    with pytest.raises(InputError, match=rf"original-\w+ and other-\w+ cannot .* their {what}"):
        check_comparable([*runs, other])


def test_one_run_twice_is_named(root, runs, tmp_path):
    copy = shutil.copytree(root, tmp_path / "runs")
    again = load_run(copy / runs[0].path.relative_to(root))
    with pytest.raises(InputError, match="are one run twice; leave one of them out"):
        compare([*runs, again])


def test_a_folder_stands_for_all_runs_in_it(root, runs):
    data = runs[0].path.parents[1]
    for folder in (root, data, data / "probes"):
        assert [run.label for run in find_runs([folder])] == ["original", "shuffled", "stranger"]


def test_a_null_of_equal_weights_is_refused(tmp_path):
    """Two random networks of one seed are one network: their likeness is no chance level."""
    squares_visit(tmp_path, 3, label="a-random", random=True)
    squares_visit(tmp_path, 3, label="b-random", random=True)
    with pytest.raises(InputError, match="have equal random weights: they are one network"):
        compare(latest_runs(tmp_path))


def test_other_seeds_and_trained_networks_are_not_refused(tmp_path):
    for seed, label, random in ((3, "a", True), (4, "b", True), (3, "c", False)):
        squares_visit(tmp_path, seed, label=label, random=random)
    runs = latest_runs(tmp_path)
    assert [run.random for run in runs] == [True, True, False]
    compare(runs, repairings=2)
    assert random_twins(runs[2], runs) == runs[:2]
    assert random_twins(runs[0], runs) == []
