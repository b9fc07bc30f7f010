"""Disks that are full, or may only be read: one sentence, nothing half, and the same in the end."""

import errno
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from cavalcade import InputError
from cavalcade.comparing.comparable import latest_runs
from cavalcade.concepts import ActivationCache
from cavalcade.disks import refusals_said
from cavalcade.folders import kind_of, write_meta, written_whole
from faults import Child, no_child_is_left  # noqa: F401
from hardening import REFUSED_FOLDER
from tiny import tiny_visit
from worlds import COMPARED, METHODS, comparing, finish, first_word, programs, visiting

READ_ONLY = "a read-only {}"
ROOM = "8m"  # for all of any program
SIZES = {  # kilobytes, in which another phase finds no room
    "train by stream": (4, 40, 80, 160, 240),
    "train by stream, with a cache": (80, 240, 320, 480),
    "train in one pass": (80, 160),
    "mine": (16, 160),
    "mine, with a cache": (400,),
    "compare probed runs": (16, 80, 240, 320, 2000),
    "compare mined runs": (200,),
}
FULL = (
    r"(the disk of {0}\S* is full; make room there, or give another place, and run the same "
    r"command again to go on|activations cannot be written to {0}\S* .*No space left on device.*; "
    r"set cache=null, or another folder|cannot keep compared pairs in {0}\S* \(No space left on "
    r"device\); give another place with cache=, or keep none with cache=null)"
)


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    try:
        mount(place, "size=4k")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a small file system cannot be mounted: {error.stderr}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def mount(place, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def again(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return programs(tmp_path_factory)


def said(child):
    """The last line of one that failed."""
    assert child.wait() == 1, child.said
    (sentence,) = (line for line in child.said.splitlines()[-1:])
    assert sentence.startswith("cavalcade.errors.InputError: "), child.said
    return sentence.removeprefix("cavalcade.errors.InputError: ")


def nothing_is_whole(folder):
    """No run and no comparison is there, and no reader takes a half for one."""
    with pytest.raises(InputError, match="holds no finished run"):
        latest_runs(folder / "runs")
    assert kind_of(folder / "comparisons/both") is None
    assert not (folder / "comparisons/both").exists()
    assert not list(folder.rglob("*.lock"))
    assert not list(folder.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kilobytes"), [(name, size) for name, sizes in SIZES.items() for size in sizes]
)
def test_a_full_disk_is_a_sentence_and_with_room_it_ends_the_same(
    work, disk, tmp_path, name, kilobytes, tried
):
    does, left = work(name)
    again(disk, f"size={kilobytes}k")
    child = Child(partial(does, disk), tmp_path / "log")
    sentence = said(child)
    assert re.fullmatch(FULL.format(disk), sentence), sentence
    nothing_is_whole(disk)
    again(disk, f"size={ROOM}")
    assert finish(does, disk) == left
    tried(
        "disk",
        f"{first_word(name)}: the disk is full at some point",
        "one sentence; with room: ended the same",
    )


@pytest.mark.slow
def test_a_folder_of_runs_that_may_only_be_read_is_compared_and_not_written(disk, tmp_path, tried):
    again(disk, f"size={ROOM}")
    compares = comparing(COMPARED["compare probed runs"], disk / "runs")
    trains = visiting("one_pass", cached=False)
    expected = finish(compares, tmp_path / "before")
    again(disk, "ro")
    assert finish(compares, tmp_path / "after") == expected
    tried("disk", "compare: runs that may only be read", "compared, and ended the same")
    refused = Child(partial(trains, disk), tmp_path / "log")
    assert re.match(rf"cannot write to {disk}/runs.*Read-only.*give another place$", said(refused))
    tried("disk", READ_ONLY.format("runs="), REFUSED_FOLDER)


@pytest.mark.slow
def test_comparisons_that_may_only_be_read_are_said(disk, tmp_path, tried):
    """With pairs that are kept elsewhere, and with none kept."""
    again(disk, "ro")
    for cache in (tmp_path / "pairs", None):
        runs = tmp_path / f"runs-{bool(cache)}"
        compares = comparing(COMPARED["compare mined runs"], runs, cache)
        refused = Child(partial(compares, disk), tmp_path / "log")
        assert re.match(rf"cannot write to {disk}/comparisons.*Read-only.*give an", said(refused))
    assert list((tmp_path / "pairs").rglob("*.safetensors"))
    tried("disk", READ_ONLY.format("comparisons="), REFUSED_FOLDER, 2)


@pytest.mark.slow
def test_pairs_that_may_not_be_kept_are_said(disk, tmp_path, tried):
    compares = comparing(COMPARED["compare mined runs"], tmp_path / "runs", disk / "pairs")
    again(disk, "ro")
    refused = Child(partial(compares, tmp_path / "out"), tmp_path / "log")
    assert re.match(rf"cannot (write to|keep compared pairs in) {disk}", said(refused))
    tried("disk", READ_ONLY.format("cache= of compare"), REFUSED_FOLDER)


@pytest.mark.slow
def test_activations_are_computed_where_their_folder_may_only_be_read(disk, tmp_path, tried):
    again(disk, "ro")
    trains = visiting("one_pass", cached=False)
    expected = finish(trains, tmp_path / "whole")

    def cached(folder):
        tiny_visit(folder / "runs", method=METHODS["one_pass"], cache=ActivationCache(disk))

    assert finish(cached, tmp_path / "cached") == expected
    assert "which cannot be written to: those images are computed" in (tmp_path / "log").read_text()
    tried("disk", READ_ONLY.format("cache= of train"), "said; went on; ended the same")


def refusing(number, *names):
    def work():
        raise OSError(number, os.strerror(number), *names)

    return work


def while_closing():
    try:
        refusing(errno.ENOSPC)()
    finally:
        raise AttributeError("a picture that cannot be closed")


@pytest.mark.parametrize(
    "work",
    [refusing(errno.ENOSPC), refusing(errno.EDQUOT), while_closing],
    ids=["no space", "no quota", "while closing"],
)
def test_a_disk_that_is_full_is_said(tmp_path, monkeypatch, work):
    has_room(monkeypatch, free=0)
    with (
        pytest.raises(InputError, match=f"^the disk of {tmp_path} is full; make room there"),
        refusals_said(tmp_path),
    ):
        work()


def has_room(monkeypatch, free):
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr("cavalcade.disks.shutil.disk_usage", lambda _: usage)


def hiding_its_reason():
    try:
        refusing(errno.ENOSPC)()
    except OSError:
        raise AttributeError("a bug of another kind") from None


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (refusing(errno.ENOSPC), OSError),  # of shared memory, with room on the disk
        (refusing(errno.EACCES), PermissionError),  # of a semaphore
        (refusing(errno.EPERM), PermissionError),
        (refusing(errno.EROFS), OSError),
        (hiding_its_reason, AttributeError),
    ],
)
def test_what_names_no_file_of_the_folder_is_no_refusal_of_it(
    tmp_path, monkeypatch, work, kind, tried
):
    has_room(monkeypatch, free=0 if work is hiding_its_reason else 10**12)
    with pytest.raises(kind) as error, refusals_said(tmp_path):
        work()
    assert not isinstance(error.value, InputError)
    tried("disk", "a refusal of something else than the folder", "left as it was")


def test_the_disk_that_is_full_is_said(tmp_path):
    """A copy names what is copied, and then where to."""
    one, other = str(tmp_path / "a/one"), str(tmp_path / "b/other")
    for names, full in (((one,), "a"), ((one, None, other), "b")):
        with (
            pytest.raises(InputError, match=f"^the disk of {tmp_path}/{full} is full"),
            refusals_said(tmp_path / "c"),
        ):
            refusing(errno.ENOSPC, *names)()


def test_a_folder_may_be_named_from_where_one_is(tmp_path, monkeypatch):
    """Lightning names its files from the root."""
    monkeypatch.chdir(tmp_path)
    said = {errno.EROFS: "runs may only be read", errno.ENOSPC: "of runs is full"}
    for number, words in said.items():
        with pytest.raises(InputError, match=words), refusals_said(Path("runs")):
            refusing(number, str(tmp_path / "runs/checkpoints/last.part"))()


def test_other_errors_are_left_as_they_are(tmp_path):
    secret = refusing(errno.EACCES, str(tmp_path / "images/secret.jpg"))
    for work, kind in ((refusing(errno.EIO), OSError), (secret, PermissionError)):
        with pytest.raises(kind), refusals_said(tmp_path / "runs"):
            work()
    with (
        pytest.raises(InputError, match=f"{tmp_path} may only be read; give another place"),
        refusals_said(tmp_path),
    ):
        refusing(errno.EROFS, str(tmp_path / "file"))()


WRITERS = {
    "safetensors": lambda path: save_file({"a": torch.zeros(10_000)}, path),
    "numpy": lambda path: np.savez_compressed(path, a=np.random.default_rng(0).random(10_000)),
    "text": lambda path: path.write_text("a" * 40_000),
    "PNG": lambda path: picture().savefig(path, format="png"),
    "PDF": lambda path: picture().savefig(path, format="pdf"),
    "a copy": lambda path: shutil.copy(torch.__file__, path),
}


def picture():
    figure = Figure()
    figure.subplots().imshow(np.random.default_rng(0).random((100, 100)))
    return figure


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_said_whoever_writes(disk, writer, tried):
    again(disk, "size=8k")

    def write():
        with written_whole(disk / "run", kind="run") as folder:
            WRITERS[writer](folder / "file")
            write_meta(folder, "run", {})

    with pytest.raises(InputError, match=f"^the disk of {disk} is full"):
        write()
    assert not list(disk.iterdir())
    tried("disk", "a file of any kind on a full disk", "one sentence that says where")
