"""A damaged checkpoint is seen wherever it is damaged; the fit goes on from the one before."""

import errno
import os
import pickle
import random
import shutil
import zipfile

import pytest
import torch
from lightning.pytorch import Trainer

from cavalcade import disks
from cavalcade.concepts import checkpoints
from cavalcade.concepts.checkpoints import WholeCheckpointIO, forget_previous, whole_epochs
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.disks import refusals_said
from cavalcade.errors import InputError
from faults import Kill, contents, no_child_is_left  # noqa: F401
from fuzzing import Trap
from test_disks import again, disk  # noqa: F401
from worlds import KILLED, STEPS, undisturbed, world  # noqa: F401

EPOCHS = {"last.ckpt": 2, "previous.ckpt": 1}
FLIPPED = 300  # bits, one at a time
CUT = 100  # lengths of a file, evenly from nothing to all but its last byte


@pytest.fixture(scope="module")
def interrupted(world, tmp_path_factory):  # noqa: F811
    """What a visit leaves that is killed in its third epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    assert world.child(folder, Kill(ProbeFit, "training_step", 2 * STEPS + 2)).wait() == KILLED
    (found,) = folder.glob("runs/*/probes/.*.partial/checkpoints")
    assert sorted(path.name for path in found.iterdir()) == sorted(EPOCHS)
    return folder


@pytest.fixture
def copy(interrupted, tmp_path):
    """The checkpoints of a copy of it."""
    shutil.copytree(interrupted / "runs", tmp_path / "runs")
    (found,) = tmp_path.glob("runs/*/probes/.*.partial/checkpoints")
    return found


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def flip_a_number(path):
    """One bit in the largest tensor, which torch reads without a word."""
    with zipfile.ZipFile(path) as archive:
        tensors = [each for each in archive.infolist() if "/data/" in each.filename]
        largest = max(tensors, key=lambda each: each.file_size)
    content = path.read_bytes()
    start = content.index(largest.filename.encode(), largest.header_offset)
    flip(path, start + 100 + largest.file_size // 2)
    torch.load(path, weights_only=True)


HARMS = [truncate, flip_a_number, pytest.param(empty, marks=pytest.mark.slow)]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    copy,
    tmp_path,
    harm,
    tried,
):
    harm(copy / "last.ckpt")
    child = world.child(tmp_path)
    assert child.wait() == 0, child.said
    assert "last.ckpt is damaged; the fit goes on from the checkpoint before it" in child.said
    assert "goes on after epoch 1 of 3" in child.said
    assert contents(tmp_path / "runs") == undisturbed["probes"]
    tried(
        "disk",
        "the last checkpoint is cut short, emptied, or a bit of it flipped",
        "said; went on from the one before; ended the same",
    )


@pytest.mark.parametrize("harm", [truncate, pytest.param(flip_a_number, marks=pytest.mark.slow)])
def test_where_both_are_damaged_the_fit_starts_over(
    world,  # noqa: F811
    undisturbed,  # noqa: F811
    copy,
    tmp_path,
    harm,
    tried,
):
    for name in EPOCHS:
        harm(copy / name)
    child = world.child(tmp_path)
    assert child.wait() == 0, child.said
    for name in EPOCHS:
        assert f"{name} is damaged; the fit starts over" in child.said
    assert contents(tmp_path / "runs") == undisturbed["probes"]
    tried("disk", "both checkpoints are damaged", "said; started over; ended the same")


def test_a_flipped_bit_anywhere_is_seen_or_changes_nothing(copy, caplog, tried):
    """What zip leaves unsaid, as the time of a file, is in no number."""
    last, drawn = copy / "last.ckpt", random.Random(0)
    whole = last.read_bytes()
    before = torch.load(last, weights_only=True)
    other, seen = copy.with_name("other") / last.name, 0
    other.parent.mkdir()
    for place in drawn.sample(range(len(whole)), FLIPPED):
        other.write_bytes(whole)
        flip(other, place)
        epochs = whole_epochs(other)
        assert epochs in (0, EPOCHS["last.ckpt"])
        assert other.exists() == bool(epochs)
        seen += epochs == 0
        if epochs:
            assert equal(torch.load(other, weights_only=True), before)
    assert seen > FLIPPED / 2
    assert len(caplog.messages) == seen
    tried(
        "disk",
        "one of 300 drawn bits of a checkpoint flipped",
        "found, or no number changed",
        FLIPPED,
    )


def test_a_checkpoint_of_any_length_is_seen_as_cut_short(copy, tried):
    last = copy / "last.ckpt"
    whole = last.read_bytes()
    lengths = [len(whole) * k // (CUT - 1) for k in range(CUT - 1)] + [len(whole) - 1]
    for length in lengths:
        last.write_bytes(whole[:length])
        (copy / "previous.ckpt").unlink(missing_ok=True)
        assert whole_epochs(last) == 0
        assert not last.exists()
    tried("disk", "one of 100 beginnings of a checkpoint", "found damaged, and removed", CUT)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_now_stays(copy, monkeypatch, error, tried):
    """Hours of a fit; the disk of a network may be back in a minute."""

    def load(*_):
        raise error

    monkeypatch.setattr(checkpoints, "_load", load)
    with pytest.raises(InputError, match=r"last.ckpt cannot be read .*mend that and run the same"):
        whole_epochs(copy / "last.ckpt")
    assert {"last.ckpt", "previous.ckpt"} <= {path.name for path in copy.iterdir()}
    tried("disk", "a checkpoint that cannot be read at the moment", "one sentence; kept")


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_what_is_on_the_disk_between_two_renames_goes_on(copy):
    """As a kill leaves it: the last one has become the previous one, and the new one waits."""
    (copy / "last.ckpt").replace(copy / "previous.ckpt")
    (copy / "last.part").write_bytes(b"whole or not")
    assert whole_epochs(copy / "last.ckpt") == 2
    assert [path.name for path in copy.iterdir()] == ["last.ckpt"]


def test_the_one_before_is_kept_until_the_fit_is_over(tmp_path):
    last, io_of = tmp_path / "checkpoints/last.ckpt", WholeCheckpointIO()
    for epoch in range(3):
        io_of.save_checkpoint({"epoch": epoch}, last)
    assert [whole_epochs(last), io_of.load_checkpoint(last)["epoch"]] == [3, 2]
    assert io_of.load_checkpoint(last.with_name("previous.ckpt"))["epoch"] == 1
    forget_previous(last)
    forget_previous(last)
    assert list(last.parent.iterdir()) == [last]


def test_a_disk_that_refuses_a_checkpoint_leaves_those_that_are_there(tmp_path, monkeypatch):
    last, io_of = tmp_path / "last.ckpt", WholeCheckpointIO()
    for epoch in range(2):
        io_of.save_checkpoint({"epoch": epoch}, last)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        io_of.save_checkpoint({"epoch": 2}, last)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert whole_epochs(last) == 2


@pytest.mark.parametrize("guess", ["as it is", "that much is free when it is asked"])
def test_a_disk_that_is_full_anywhere_in_a_checkpoint_is_said(
    disk,  # noqa: F811
    tried,
    guess,
    monkeypatch,
):
    """Torch says it in an error of its own, or in what that comes of.

    What was begun is removed first, and may have been most of the disk.
    """
    if guess != "as it is":
        monkeypatch.setattr(disks, "NEARLY_NONE", 0)
    last, io_of = disk / "checkpoints/last.ckpt", WholeCheckpointIO()
    state = {"epoch": 0, "large": torch.zeros(40_000), "small": [torch.zeros(99)] * 9}
    again(disk, "size=1m")
    io_of.save_checkpoint(state, last)
    size = last.stat().st_size
    for tenth in range(10):
        left = size * tenth // 10 // 4096 * 4096
        (disk / "other").write_bytes(bytes(2**20 - left - (size // 4096 + 2) * 4096))
        with (
            pytest.raises(InputError, match=f"^the disk of {disk} is full; make room there"),
            refusals_said(disk),
        ):
            io_of.save_checkpoint(state | {"epoch": 1}, last)
        (disk / "other").unlink()
        assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
        assert io_of.load_checkpoint(last)["epoch"] == 0
    tried(
        "disk", "a checkpoint on a full disk", "one sentence that says where; the last one kept", 10
    )


@pytest.mark.parametrize("how", ["a checkpoint", pytest.param("a pickle", marks=pytest.mark.slow)])
def test_code_in_a_checkpoint_never_runs(world, undisturbed, copy, tmp_path, how, tried):  # noqa: F811
    mark = tmp_path / "mark"
    for name in EPOCHS:
        if how == "a pickle":
            (copy / name).write_bytes(pickle.dumps(Trap(mark)))
        else:
            held = torch.load(copy / name, weights_only=True)
            torch.save(held | {"history": Trap(mark)}, copy / name)
    child = world.child(tmp_path)
    assert child.wait() == 0, child.said
    assert child.said.count("is damaged; the fit starts over") == 2
    assert contents(tmp_path / "runs") == undisturbed["probes"]
    assert not mark.exists()
    tried("code", "code in a checkpoint that a fit goes on from", "nothing ran; started over")


def test_lightning_reads_a_checkpoint_as_plain_data(tmp_path, monkeypatch, tried):
    """Also where the environment asks it to run what is in one."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, mark = tmp_path / "last.ckpt", tmp_path / "mark"
    torch.save({"epoch": 0, "history": Trap(mark)}, path)
    strategy = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, plugins=[WholeCheckpointIO()]
    ).strategy
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        strategy.load_checkpoint(path, weights_only=None)
    with pytest.raises(AssertionError):
        strategy.load_checkpoint(path, weights_only=False)
    assert whole_epochs(path) == 0
    assert not mark.exists()
    tried("code", "a checkpoint with code, read by Lightning", "refused; nothing ran")
