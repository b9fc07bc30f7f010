"""Activations on the disk: equal to those computed, never stale, bounded."""

import errno
import functools
import gc
import json
import logging
import os
import pickle
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ActivationCache, Probes, activation_cache, activation_writer
from cavalcade.data.cached import CachedLayer, StoredLayer
from cavalcade.errors import InputError
from cavalcade.locks import is_held
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit
from faults import Child, Kill, no_child_is_left  # noqa: F401
from hardening import AGAIN
from run_folders import files_of
from tiny import (
    adam,
    quiet_trainer,
    tiny_backbone,
    tiny_data,
    tiny_faces,
    tiny_model,
    tiny_visit,
)

HALF = functools.partial(quiet_trainer, precision="bf16-mixed")
ENTRIES = 9  # of three layers and three splits


def served(folder, *, backbone=None, data=None, trainer=quiet_trainer, loading=None, **options):
    """A data module whose activations come from a folder, and its network."""
    backbone = backbone or tiny_backbone()
    loader = tiny_data(backbone, data, **(loading or {}))
    trainers = Trainers(trainer)
    ActivationCache(folder, **options).serve(backbone, loader, trainers, trainers.precision)
    return loader, backbone


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def no_forward(monkeypatch):
    """Whoever runs the network from here on fails."""

    def refuse():
        def fail(*_):
            raise AssertionError("the network was run")

        monkeypatch.setattr(FrozenBackbone, "forward", fail)

    return refuse


@pytest.mark.parametrize("trainer", [quiet_trainer, HALF])
@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("crop_mode", ["squash", "center", "letterbox"])
def test_stored_activations_are_those_of_the_network(tmp_path, trainer, split, crop_mode):
    backbone = tiny_backbone(crop_mode=crop_mode)
    loader, _ = served(tmp_path, backbone=backbone, trainer=trainer)
    plain = tiny_data(backbone)
    views = (data.in_order(split, targets=True) for data in (loader, plain))
    for stored, batch in zip(*views, strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer is HALF):
            computed = backbone(batch.inputs)
        assert stored.inputs.numel() == 0
        assert list(stored.activations) == list(computed)
        for name, maps in computed.items():
            assert stored.activations[name].dtype == maps.dtype
            assert torch.equal(stored.activations[name], maps)
        for field in ("frames", "truth", "labelled", "positions"):
            assert torch.equal(getattr(stored, field), getattr(batch, field))
        for grid, targets in batch.targets.items():
            assert all(map(torch.equal, stored.targets[grid], targets))


def test_maps_of_half_precision_take_half_the_disk(tmp_path):
    sizes = []
    for name, trainer in (("full", quiet_trainer), ("half", HALF)):
        served(tmp_path / name, trainer=trainer)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / name).glob("*/maps.bin")))
    assert sizes[1] * 2 == sizes[0]


@pytest.mark.parametrize(
    "method",
    [Probes(), Probes(fit="stream", optimizer=adam, epochs=2)],
    ids=["one_pass", "stream"],
)
def test_a_run_is_the_same_with_and_without_a_cache_and_runs_no_network_twice(
    tmp_path, method, no_forward
):
    def run(place, cache):
        backbone = tiny_backbone()
        loader = tiny_data(backbone)
        return visit(
            backbone,
            loader,
            method,
            Trainers(quiet_trainer),
            runs=tmp_path / place,
            config={},
            cache=cache,
        )

    cache = ActivationCache(tmp_path / "cache")
    plain, first = run("plain", None).path, run("first", cache).path
    no_forward()
    second = run_without_estimate(run, "second", cache)
    for other in (first, second):
        assert other.name == plain.name
        assert files_of(other) == files_of(plain)
        for name in files_of(plain):
            # a checkpoint is an archive with names of its own, and meta.json has its checksum
            if method.fit == "one_pass" or not name.startswith(("checkpoints", "meta")):
                assert (other / name).read_bytes() == (plain / name).read_bytes(), name


def run_without_estimate(run, place, cache):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cavalcade.visiting.visit.seconds_per_image", lambda *_: 0.0)
        return run(place, cache).path


def test_another_network_data_set_precision_or_batch_size_is_another_entry(tmp_path):
    served(tmp_path)
    assert len(entries(tmp_path)) == ENTRIES
    others = [
        {"backbone": tiny_backbone(seed=1)},
        {"backbone": tiny_backbone(crop_mode="center")},
        {"data": replace(tiny_faces(), seed=5)},
        {"trainer": HALF},
        {"loading": {"batch_size": 2}},
    ]
    for count, other in enumerate(others, start=2):
        served(tmp_path, **other)
        assert len(entries(tmp_path)) == ENTRIES * count
    served(tmp_path)
    assert len(entries(tmp_path)) == ENTRIES * (1 + len(others))


def test_another_version_of_what_computes_maps_is_another_entry(tmp_path, monkeypatch):
    served(tmp_path)
    for count, name in enumerate(("torch", "ultralytics"), start=2):
        installed = {"torch": "1", name: f"{count}"}
        monkeypatch.setattr(activation_cache, "version", lambda asked, own=installed: own[asked])
        monkeypatch.setattr(activation_cache, "MAKERS", tuple(installed))
        served(tmp_path)
        assert len(entries(tmp_path)) == ENTRIES * count


def test_layers_that_are_there_are_read_and_others_are_added(tmp_path, caplog, no_forward):
    caplog.set_level(logging.INFO)
    served(tmp_path, backbone=tiny_backbone(("2", "4")))
    first = set(entries(tmp_path))
    loader, backbone = served(tmp_path, backbone=tiny_backbone(("4", "6")))
    assert len(set(entries(tmp_path)) - first) == 3
    assert "tiny: activations of 1 layer for 12 train images are read from" in caplog.text
    assert "tiny: activations of 1 layer for 8 test images (" in caplog.text
    plain = tiny_data(backbone)
    for stored, batch in zip(loader.in_order("test"), plain.in_order("test"), strict=True):
        computed = backbone(batch.inputs)
        assert list(stored.activations) == ["4", "6"]
        assert all(torch.equal(stored.activations[name], computed[name]) for name in computed)
    no_forward()
    assert len(served(tmp_path, backbone=tiny_backbone(("2", "6")))[0].cached) == 3


def test_taps_beside_a_compiled_one_are_part_of_what_it_is_called():
    def compiled(layers):
        backbone = tiny_backbone(layers)
        backbone.compile_taps()
        return backbone.tap_identities()["4"]

    assert compiled(("4",)) == compiled(("4",))
    assert compiled(("4",)) != compiled(("4", "6"))
    assert tiny_backbone(("4",)).tap_identities()["4"] == tiny_backbone().tap_identities()["4"]


def test_a_folder_that_cannot_be_written_to_serves_what_it_holds(
    tmp_path, monkeypatch, no_forward, caplog
):
    served(tmp_path)
    with monkeypatch.context() as patched:  # nothing keeps root out
        patched.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK)
        patched.setattr(os, "utime", refused)
        patched.setattr("cavalcade.locks.FileLock.acquire", refused)
        for backbone in (tiny_backbone(seed=1), tiny_backbone(("4", "5"))):
            assert not served(tmp_path, backbone=backbone)[0].cached
        assert "tiny: activations of 1 layer for 12 train images are not in" in caplog.text
        assert "tiny: activations of 3 layers for 12 train images are not in" in caplog.text
        assert "which cannot be written to" in caplog.text
        no_forward()
        assert len(served(tmp_path)[0].cached) == 3


def refused(*_, **__):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_cache_that_is_a_file_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "within"):
        with pytest.raises(InputError, match=r"cache is '.*', but .*file is a file; give a folder"):
            ActivationCache(place)


def test_other_labels_on_the_same_pictures_are_the_same_entry(tmp_path):
    served(tmp_path)
    first = entries(tmp_path)
    served(tmp_path, data=replace(tiny_faces(), concepts=["hair"]))
    assert entries(tmp_path) == first


def test_weights_that_change_in_place_are_other_weights(tmp_path):
    model = tiny_model()
    served(tmp_path, backbone=tiny_backbone(model=model))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 0.1
    loader, backbone = served(tmp_path, backbone=tiny_backbone(model=model))
    assert len(entries(tmp_path)) == 2 * ENTRIES
    batch = next(iter(loader.in_order("val")))
    plain = next(iter(tiny_data(backbone).in_order("val")))
    assert torch.equal(batch.activations["2"], backbone(plain.inputs)["2"])


def test_what_was_not_used_for_longest_makes_room(tmp_path, caplog):
    served(tmp_path)
    sizes = {p.name: sum(f.stat().st_size for f in p.iterdir()) for p in tmp_path.glob("tiny-*")}
    whole = sum(sizes.values())
    for age, split in enumerate(["train", "test", "val"]):
        for found in tmp_path.glob(f"tiny-{split}-*"):
            os.utime(found, (1000 + age, 1000 + age))
    with caplog.at_level(logging.INFO):
        served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.5 * whole / 1e9)
    left = entries(tmp_path)
    assert sum(sum(f.stat().st_size for f in (tmp_path / n).iterdir()) for n in left) <= 1.5 * whole
    assert 0 < len([name for name in left if name in sizes]) < ENTRIES
    assert "to make room: " in caplog.text
    assert not [name for name in left if name in sizes and name.startswith("tiny-train")]


def test_a_smaller_bound_holds_although_everything_is_there(tmp_path, no_forward):
    served(tmp_path)
    whole = sum(size_of(tmp_path, split) for split in ("train", "val", "test"))
    first = set(entries(tmp_path))
    served(tmp_path, backbone=tiny_backbone(seed=1))
    no_forward()
    served(tmp_path, gigabytes=1.2 * whole / 1e9)
    left = set(entries(tmp_path))
    assert first <= left  # they are in use
    assert len(left) < 2 * ENTRIES
    assert sum(size_of(tmp_path, split) for split in ("train", "val", "test")) <= 1.2 * whole


def test_a_bound_below_what_is_in_use_is_said(tmp_path, caplog):
    served(tmp_path)
    loader, _ = served(tmp_path, gigabytes=1e-6)
    assert len(loader.cached) == 3
    assert "GB of " in caplog.text
    assert ", more than cache_gigabytes=1e-06" in caplog.text


def test_a_bound_holds_once_a_visit_is_over(tmp_path):
    cache = tmp_path / "cache"
    served(cache)
    tiny_visit(tmp_path / "runs", cache=ActivationCache(cache, 1e-6))
    assert entries(cache) == []


def test_what_cannot_be_read_now_is_no_damage(tmp_path, monkeypatch):
    served(tmp_path)
    first = entries(tmp_path)

    def exhausted(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(CachedLayer, "is_whole", exhausted)
    with pytest.raises(InputError, match=r"cannot be read \(.*Too many open files\); mend it, or"):
        served(tmp_path)
    assert entries(tmp_path) == first


def test_a_damaged_entry_that_cannot_be_removed_is_said_before_the_work(
    tmp_path, monkeypatch, no_forward
):
    served(tmp_path)
    os.truncate(next(tmp_path.glob("tiny-val-*")) / "maps.bin", 10)
    monkeypatch.setattr(shutil, "rmtree", refused)
    no_forward()
    with pytest.raises(InputError, match=r"cannot be written to .* set cache=null, or another"):
        served(tmp_path)


def test_entries_of_others_that_cannot_be_removed_stay_and_count(tmp_path, monkeypatch, caplog):
    served(tmp_path)
    whole = sum(size_of(tmp_path, split) for split in ("train", "val", "test"))
    first = set(entries(tmp_path))
    monkeypatch.setattr(Path, "unlink", keeping(Path.unlink, "meta.json"))
    loader, _ = served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.1 * whole / 1e9)
    assert first <= set(entries(tmp_path))
    assert not loader.cached
    assert "are not cached" in caplog.text


def keeping(unlink, name):
    def kept(self, **options):
        if self.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, **options)

    return kept


def test_what_is_too_large_is_not_kept_and_a_line_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loader, _ = served(tmp_path, gigabytes=1e-6)
    assert "tiny: activations of 3 layers for 12 train images (" in caplog.text
    assert "are not cached: " in caplog.text
    assert "cache_gigabytes=1e-06 allows no more beside the 0 GB" in caplog.text
    assert not loader.cached
    assert entries(tmp_path) == []
    assert next(iter(loader.in_order("val"))).inputs.numel() > 0


def test_an_entry_that_was_interrupted_is_made_again(tmp_path, monkeypatch):
    backbone = tiny_backbone()
    calls = 0
    forward = FrozenBackbone.forward

    def killed(self, inputs):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return forward(self, inputs)

    with monkeypatch.context() as patched:
        patched.setattr(FrozenBackbone, "forward", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            served(tmp_path, backbone=backbone)
    assert entries(tmp_path) == []
    assert len(served(tmp_path, backbone=backbone)[0].cached) == 3


@pytest.mark.parametrize("gigabytes", [0, -1, float("nan")])
def test_a_bound_that_is_no_number_is_refused(tmp_path, gigabytes):
    with pytest.raises(InputError, match=r"cache_gigabytes is .*; give a number above 0"):
        ActivationCache(tmp_path, gigabytes)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cavalcade.processes.count", lambda: 2)
    with pytest.raises(InputError, match="cache works with one process; set cache=null"):
        ActivationCache(tmp_path)


def size_of(folder, split):
    return sum(path.stat().st_size for path in folder.glob(f"tiny-{split}-*/*"))


def test_a_split_never_makes_room_for_another_of_the_same_visit(tmp_path, caplog):
    served(tmp_path / "sizes")
    sizes = {split: size_of(tmp_path / "sizes", split) for split in ("train", "val", "test")}
    room = (sizes["train"] + 1.2 * sizes["val"]) / 1e9
    with caplog.at_level(logging.WARNING):
        loader, _ = served(tmp_path / "cache", gigabytes=room)
    assert sorted(loader.cached) == ["train", "val"]
    assert "tiny: activations of 3 layers for 8 test images (" in caplog.text
    for split in ("train", "val", "test"):
        assert sum(len(batch.positions) for batch in loader.in_order(split)) > 0


FOREIGN = {  # entries of others, whole by their checksums
    "another layer": {"layer": "4"},
    "another shape": {"shape": [4, 16, 32]},
    "a shape below 0": {"shape": [-8, -16, 16]},
    "fewer images": {"images": 2},
    "far too many": {"images": 10**30},
    "no type": {"dtype": "load"},
    "whole numbers": {"dtype": "int32"},
    "no number": {"crc32": 1e999},
    "nested": {"layer": json.loads("[" * 900 + "]" * 900)},
}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    "harm", ["no_meta", "cut_short", "not_json", "one_bit", "one_bit_frames", "a pipe", *FOREIGN]
)
def test_a_damaged_entry_is_made_again(tmp_path, harm, caplog, tried):
    served(tmp_path)
    entry = next(each for each in tmp_path.glob("tiny-val-*") if layer_of(each) == "2")
    if harm == "no_meta":  # as a kill leaves what was about to be removed
        (entry / "meta.json").unlink()
    elif harm == "cut_short":
        os.truncate(entry / "maps.bin", 10)
    elif harm == "not_json":
        (entry / "meta.json").write_text("{")
    elif harm == "a pipe":
        (entry / "meta.json").unlink()
        os.mkfifo(entry / "meta.json")
    elif harm in FOREIGN:
        resealed(entry, FOREIGN[harm])
    else:
        path = entry / ("maps.bin" if harm == "one_bit" else "frames.bin")
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
    loader, backbone = served(tmp_path)
    said = [
        message for message in caplog.messages if "are damaged: they are computed again" in message
    ]
    assert len(said) == (harm != "no_meta")
    batch = next(iter(loader.in_order("val")))
    plain = next(iter(tiny_data(backbone).in_order("val")))
    for name, maps in backbone(plain.inputs).items():
        assert torch.equal(batch.activations[name], maps)
    if harm == "no_meta":
        what, happened = "kept activations without their meta.json", "computed again"
    elif harm in FOREIGN:
        what, happened = "kept activations of another layer, shape or type", AGAIN
    else:
        what, happened = "kept activations, damaged", AGAIN
    tried("folders", what, happened)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [4, 16]}, r"shape is \[4, 16\], not that of maps: channels, rows and columns"),
        ({"dtype": "int32"}, "dtype is 'int32', not one of float16, bfloat16, float32, float64"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(tmp_path, change, said):
    meta = {"layer": "2", "shape": [4, 16, 16], "dtype": "float32", "images": 2, "crc32": 0}
    (tmp_path / "meta.json").write_text(json.dumps(meta | change))
    with pytest.raises(InputError, match=f"meta.json: {said}"):
        CachedLayer(tmp_path)


def layer_of(entry):
    return json.loads((entry / "meta.json").read_text())["layer"]


def resealed(entry, changes):
    """Change what an entry says of itself, and make files and checksum fit as far as they can."""
    path = entry / "meta.json"
    meta = json.loads(path.read_text()) | changes
    with suppress(Exception):
        layer = StoredLayer(meta["layer"], tuple(meta["shape"]), getattr(torch, meta["dtype"]))
        for file, size in layer.files(entry, meta["images"]).items():
            os.truncate(file, size)
        if "crc32" not in changes:
            meta["crc32"] = layer.checksum(entry, meta["images"])
    path.write_text(json.dumps(meta))


def test_folders_of_others_are_never_removed(tmp_path):
    mine = tmp_path / "my-holiday-pictures"
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"0" * 10**6)
    like_ours = tmp_path / "cats-val-0123456789ab"
    like_ours.mkdir()
    (like_ours / "a.jpg").touch()
    served(tmp_path)
    whole = sum(size_of(tmp_path, split) for split in ("train", "val", "test"))
    served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.1 * whole / 1e9)
    assert (mine / "a.jpg").exists()
    assert (like_ours / "a.jpg").exists()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"activations cannot be written to .*No space left"):
        served(tmp_path)
    assert entries(tmp_path) == []


def child_of(folder, number, work, *kills):
    return Child(work, folder / f"{number}.log", *kills)


def waits_for(path):
    while not path.exists():
        time.sleep(0.005)


def reads_slowly(cache, folder, *, num_workers):
    """What a program does that opens its images only after others wanted the room."""
    loader, backbone = served(cache, loading={"num_workers": num_workers})
    (folder / "there").touch()
    waits_for(folder / "go")
    plain = tiny_data(backbone)
    for stored, batch in zip(loader.in_order("test"), plain.in_order("test"), strict=True):
        assert torch.equal(stored.activations["2"], backbone(batch.inputs)["2"])


def wants_room(cache, gigabytes):
    """Another network's visit, which finds room for all or has nothing cached."""
    loader, _ = served(cache, backbone=tiny_backbone(seed=1), gigabytes=gigabytes)
    logging.getLogger("cavalcade").info("it keeps %d splits", len(loader.cached))


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_another_program_uses_stays_until_it_ends(tmp_path, num_workers):
    cache = tmp_path / "cache"
    served(cache)
    assert not any(is_held(path) for path in cache.glob("*/meta.json"))
    first = set(entries(cache))
    limit = 1.01 * sum(size_of(cache, split) for split in ("train", "val", "test")) / 1e9

    def read():
        reads_slowly(cache, tmp_path, num_workers=num_workers)

    user = child_of(tmp_path, 0, read)
    user.wait_for(tmp_path / "there")
    other = child_of(tmp_path, 1, lambda: wants_room(cache, limit))
    assert other.wait() == 0, other.said
    assert "it keeps 0 splits" in other.said
    assert "GB that this visit and other programs use; all of this visit takes " in other.said
    assert set(entries(cache)) == first
    (tmp_path / "go").touch()
    assert user.wait() == 0, user.said
    last = child_of(tmp_path, 2, lambda: wants_room(cache, limit))
    assert last.wait() == 0, last.said
    assert "it keeps 3 splits" in last.said
    assert not first & set(entries(cache))


def test_what_a_killed_program_used_makes_room(tmp_path):
    cache = tmp_path / "cache"
    served(cache)
    first = set(entries(cache))
    limit = 1.01 * sum(size_of(cache, split) for split in ("train", "val", "test")) / 1e9
    user = child_of(tmp_path, 0, lambda: reads_slowly(cache, tmp_path, num_workers=0))
    user.wait_for(tmp_path / "there")
    assert all(is_held(path) for path in cache.glob("*/meta.json"))
    user.signal().wait()
    wants_room(cache, limit)
    assert not first & set(entries(cache))


@pytest.mark.slow
def test_of_programs_that_want_room_at_once_none_removes_what_another_uses(tmp_path):
    cache = tmp_path / "cache"
    served(cache)
    limit = 1.01 * sum(size_of(cache, split) for split in ("train", "val", "test")) / 1e9

    def visits(seed):
        for turn in range(3):
            loader, backbone = served(
                cache, backbone=tiny_backbone(seed=seed + turn % 2), gigabytes=limit
            )
            for split in loader.cached:
                plain = tiny_data(backbone)
                for stored, batch in zip(
                    loader.in_order(split), plain.in_order(split), strict=True
                ):
                    assert torch.equal(stored.activations["2"], backbone(batch.inputs)["2"])

    programs = [child_of(tmp_path, seed, lambda seed=seed: visits(seed)) for seed in range(2)]
    assert [program.wait() for program in programs] == [0] * 2, [p.said for p in programs]


@pytest.fixture
def no_garbage_goes_by_chance():
    yield gc.disable
    gc.enable()


def test_a_visit_lets_go_of_what_it_used(tmp_path, no_garbage_goes_by_chance, caplog):
    caplog.set_level(logging.INFO)
    backbone = tiny_backbone()
    loader = tiny_data(backbone)
    cache = tmp_path / "cache"
    no_garbage_goes_by_chance()
    tiny_visit(tmp_path / "runs", backbone, data=loader, cache=ActivationCache(cache))
    assert not loader.cached
    assert "through the network (fewer where the cache holds them), whose" in caplog.text
    first = set(entries(cache))
    limit = 1.01 * sum(size_of(cache, split) for split in ("train", "val", "test")) / 1e9
    tiny_visit(tmp_path / "runs", tiny_backbone(seed=1), cache=ActivationCache(cache, limit))
    assert len(set(entries(cache)) - first) == ENTRIES


def test_activations_of_one_network_never_become_those_of_another(tmp_path):
    loader, _ = served(tmp_path)
    other = tiny_backbone(seed=1)
    trainers = Trainers(quiet_trainer)
    ActivationCache(tmp_path).serve(other, loader, trainers, trainers.precision)
    stored, batch = (next(iter(data.in_order("val"))) for data in (loader, tiny_data(other)))
    assert torch.equal(stored.activations["2"], other(batch.inputs)["2"])


def test_a_copy_in_another_process_reads_and_holds_nothing(tmp_path):
    served(tmp_path)
    entry = next(tmp_path.glob("tiny-val-*"))
    whole = CachedLayer(entry)
    copy = pickle.loads(pickle.dumps(whole))
    assert all(map(torch.equal, copy.tensors, whole.tensors))
    assert is_held(entry / "meta.json")
    del whole
    assert not is_held(entry / "meta.json")


def partials(folder):
    return sorted(path.name for path in folder.glob(".*.partial"))


def test_what_a_kill_left_half_written_goes_and_what_is_being_written_counts(tmp_path):
    cache = tmp_path / "cache"
    served(cache)
    whole = sum(size_of(cache, split) for split in ("train", "val", "test"))
    shutil.rmtree(cache)

    def writes_slowly():
        served(cache, backbone=tiny_backbone(seed=2))

    def pause():
        (tmp_path / "there").touch()
        waits_for(tmp_path / "go")

    writer = child_of(
        tmp_path, 0, writes_slowly, Kill(activation_writer.Fill, "test_step", act=pause)
    )
    writer.wait_for(tmp_path / "there")
    being_written = partials(cache)
    assert len(being_written) == 3
    for number, gigabytes, kept in ((1, 1.1 * whole / 1e9, 1), (2, 2.2 * whole / 1e9, 3)):
        other = child_of(tmp_path, number, lambda room=gigabytes: wants_room(cache, room))
        assert other.wait() == 0, other.said
        assert f"it keeps {kept} splits" in other.said
        assert partials(cache) == being_written
    writer.signal().wait()
    assert partials(cache) == being_written
    served(cache, backbone=tiny_backbone(seed=3))
    assert partials(cache) == []


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch, caplog):
    served(tmp_path)
    first = set(entries(tmp_path))
    whole = sum(size_of(tmp_path, split) for split in ("train", "val", "test"))
    monkeypatch.setattr("cavalcade.locks.fcntl", None)
    loader, _ = served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.1 * whole / 1e9)
    assert not loader.cached
    assert set(entries(tmp_path)) == first
    assert "not cached" in caplog.text
