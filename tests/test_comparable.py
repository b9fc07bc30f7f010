"""Which runs are compared, and which cannot be."""

import os
import shutil
from functools import partial

import pytest

from cavalcade import InputError, compare, load_run
from cavalcade.comparing.comparable import (
    check_comparable,
    find_runs,
    latest_runs,
    random_twins,
    say_differences,
)
from cavalcade.concepts import Probes
from cavalcade.visiting.trainers import Trainers
from hardening import REFUSED
from tiny import PlantedSquares, quiet_trainer, streamed, tiny_backbone, tiny_data, tiny_visit


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


def unlink_meta(run):
    (run / "meta.json").unlink()


def leave_meta_unfinished(run):
    (run / "meta.json").rename(run / "meta.json.part")


def cut_meta_short(run):
    os.truncate(run / "meta.json", (run / "meta.json").stat().st_size // 2)


def hide(name):
    return lambda run: run.rename(run.with_name(f".{run.name}.{name}"))


@pytest.mark.parametrize("harm", [hide(name) for name in ("partial", "again", "old")])
def test_what_is_not_finished_is_no_run(root, runs, tmp_path, harm, tried):
    """However whole it looks, and though it was changed last."""
    other = shutil.copytree(root, tmp_path / "runs")
    home = other / runs[0].path.parent.relative_to(root)
    harm(home / runs[0].path.name)
    for path in home.iterdir():
        if path.name.startswith(f".{runs[0].path.name}"):
            os.utime(path, (2e9, 2e9))
    for found in (latest_runs(other), find_runs([home]), find_runs([other])):
        assert [run.label for run in found] == ["shuffled", "stranger"]
    tried("kills", "compare: a run that is not finished lies among others", "not taken for one")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (unlink_meta, "is no run folder: it holds no meta.json"),
        (leave_meta_unfinished, "is no run folder: it holds no meta.json"),
        (cut_meta_short, "meta.json cannot be read"),
    ],
)
def test_a_run_without_its_meta_json_is_not_passed_over(root, runs, tmp_path, harm, why, tried):
    """It was renamed to its place when it was whole, so that it was damaged there."""
    other = shutil.copytree(root, tmp_path / "runs")
    home = other / runs[0].path.parent.relative_to(root)
    path = home / runs[0].path.name
    harm(path)
    os.utime(path, (2e9, 2e9))
    for find in (lambda: latest_runs(other), lambda: find_runs([home]), lambda: find_runs([other])):
        with pytest.raises(InputError, match=rf"^{path}.*{why}"):
            find()
    tried("folders", "a run among others whose meta.json is damaged or gone", REFUSED)


@pytest.mark.parametrize("file", ["masks.safetensors", "scores.csv", "config.yaml"])
@pytest.mark.parametrize("how", ["cut short", "of the same length", "gone"])
def test_a_finished_run_that_is_damaged_is_named(runs, tmp_path, file, how, tried):
    other = shutil.copytree(runs[0].path, tmp_path / "run")
    path = other / file
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut short":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path} is missing or damaged; move the folder"):
        find_runs([other])
    tried("disk", "compare: a file of a finished run is damaged", "refused, with the file named")


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


def made(root, *, method=None, trainer=quiet_trainer, compiled=False, seed=0, images=24, **options):
    backbone = tiny_backbone(label="other")
    backbone.compiled = compiled  # as far as its name goes
    counts = {"train": images, "val": 8, "test": 40}
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16), counts=counts), **options)
    data.seed = seed
    return load_run(
        tiny_visit(root, backbone, data=data, method=method, trainers=Trainers(trainer))
    )


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("train images or their labels", {"images": 20}),
        ("seed", {"seed": 5}),
        ("concepts.l2", {"method": Probes(l2=0.5)}),
        ("trainer.precision", {"trainer": partial(quiet_trainer, precision="bf16-mixed")}),
        ("compile", {"compiled": True}),
    ],
)
def test_what_runs_differ_in_beside_networks_is_said(runs, what, options, tmp_path, caplog):
    other = made(tmp_path, **options)
    caplog.clear()
    say_differences(runs)
    assert not caplog.records
    say_differences([*runs[:2], other])
    (said,) = caplog.messages
    assert said.startswith(f"the runs differ in {what} (")
    assert ": original, shuffled; " in said
    assert ": other), so" in said
    assert "so that more than networks is compared" in said


def test_all_differences_are_one_sentence(runs, tmp_path, caplog):
    other = made(tmp_path, seed=5, compiled=True)
    caplog.clear()
    compare([runs[0], other], repairings=2)
    (said,) = (message for message in caplog.messages if "differ" in message)
    assert said == (
        "the runs differ in compile (False: original; True: other), and in seed (0: original; "
        "5: other), so that more than networks is compared; name runs of one setting with runs="
    )


def test_sizes_of_batches_matter_by_stream_alone(tmp_path, caplog):
    for method, expected in ((Probes(), 0), (streamed(), 1)):
        pair = [
            made(tmp_path / f"{method.fit}{size}", method=method, batch_size=size)
            for size in (2, 4)
        ]
        caplog.clear()
        say_differences(pair)
        assert sum("batch_size (2: other-" in said for said in caplog.messages) == expected


def test_random_networks_differ_in_their_seeds_alone(tmp_path, caplog):
    for seed in (3, 4):
        backbone = tiny_backbone(seed=seed, label=f"random{seed}", random=True)
        data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
        data.seed = seed
        tiny_visit(tmp_path, backbone, data=data)
    caplog.clear()
    say_differences(latest_runs(tmp_path))
    assert not caplog.messages
