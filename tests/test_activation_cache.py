"""Activations on the disk: equal to those computed, never stale, bounded."""

import functools
import logging
import os
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import ActivationCache, Probes
from cavalcade.errors import InputError
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit
from run_folders import files_of
from tiny import adam, quiet_trainer, tiny_backbone, tiny_data, tiny_faces, tiny_model

HALF = functools.partial(quiet_trainer, precision="bf16-mixed")


def served(folder, *, backbone=None, data=None, trainer=quiet_trainer, **options):
    """A data module whose activations come from a folder, and its network."""
    backbone = backbone or tiny_backbone()
    loader = tiny_data(backbone, data)
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
def test_stored_activations_are_those_of_the_network(tmp_path, trainer, split):
    loader, backbone = served(tmp_path, trainer=trainer)
    plain = tiny_data(backbone)
    for stored, batch in zip(loader.in_order(split), plain.in_order(split), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer is HALF):
            computed = backbone(batch.inputs)
        assert stored.inputs.numel() == 0
        assert list(stored.activations) == list(computed)
        for name, maps in computed.items():
            assert stored.activations[name].dtype == maps.dtype
            assert torch.equal(stored.activations[name], maps)
        for field in ("frames", "truth", "labelled", "positions"):
            assert torch.equal(getattr(stored, field), getattr(batch, field))


def test_maps_of_half_precision_take_half_the_disk(tmp_path):
    sizes = []
    for name, trainer in (("full", quiet_trainer), ("half", HALF)):
        served(tmp_path / name, trainer=trainer)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / name).glob("*/*.bin")))
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


def test_another_network_layer_data_set_or_precision_is_another_entry(tmp_path):
    served(tmp_path)
    names = {tuple(entries(tmp_path))}
    first = set(entries(tmp_path))
    assert len(first) == 3
    others = [
        {"backbone": tiny_backbone(seed=1)},
        {"backbone": tiny_backbone(("2", "4"))},
        {"backbone": tiny_backbone(crop_mode="center")},
        {"data": replace(tiny_faces(), seed=5)},
        {"trainer": HALF},
    ]
    for count, other in enumerate(others, start=2):
        served(tmp_path, **other)
        assert len(entries(tmp_path)) == 3 * count
    assert names
    served(tmp_path)
    assert len(entries(tmp_path)) == 3 * (1 + len(others))


def test_weights_that_change_in_place_are_other_weights(tmp_path):
    model = tiny_model()
    served(tmp_path, backbone=tiny_backbone(model=model))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 0.1
    loader, backbone = served(tmp_path, backbone=tiny_backbone(model=model))
    assert len(entries(tmp_path)) == 6
    batch = next(iter(loader.in_order("val")))
    plain = next(iter(tiny_data(backbone).in_order("val")))
    assert torch.equal(batch.activations["2"], backbone(plain.inputs)["2"])


def test_what_was_not_used_for_longest_makes_room(tmp_path, caplog):
    served(tmp_path)
    sizes = {p.name: sum(f.stat().st_size for f in p.iterdir()) for p in tmp_path.glob("tiny-*")}
    whole = sum(sizes.values())
    for age, name in enumerate(["tiny-train", "tiny-test", "tiny-val"]):
        (found,) = tmp_path.glob(f"{name}-*")
        os.utime(found, (1000 + age, 1000 + age))
    with caplog.at_level(logging.INFO):
        served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.5 * whole / 1e9)
    left = entries(tmp_path)
    assert sum(sum(f.stat().st_size for f in (tmp_path / n).iterdir()) for n in left) <= 1.5 * whole
    assert len([name for name in left if name in sizes]) < 3
    assert "removed from the cache, to make room for" in caplog.text
    oldest = next(name for name in sizes if name.startswith("tiny-train"))
    assert oldest not in left


def test_what_is_too_large_is_not_kept_and_a_line_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loader, _ = served(tmp_path, gigabytes=1e-6)
    assert "not cached, since its activations take" in caplog.text
    assert "cache_gigabytes=1e-06 allows no more" in caplog.text
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
    backbone = tiny_backbone()
    with pytest.raises(InputError, match="cache works with one process; set cache=null"):
        ActivationCache(tmp_path).serve(backbone, tiny_data(backbone), Trainer, "32-true")


def size_of(folder, split):
    (entry,) = folder.glob(f"tiny-{split}-*")
    return sum(path.stat().st_size for path in entry.iterdir())


def test_a_split_never_makes_room_for_another_of_the_same_visit(tmp_path, caplog):
    served(tmp_path / "sizes")
    sizes = {split: size_of(tmp_path / "sizes", split) for split in ("train", "val", "test")}
    room = (sizes["train"] + 1.2 * sizes["val"]) / 1e9
    with caplog.at_level(logging.WARNING):
        loader, _ = served(tmp_path / "cache", gigabytes=room)
    assert sorted(loader.cached) == ["train", "val"]
    assert "tiny-test-" in caplog.text
    for split in ("train", "val", "test"):
        assert sum(len(batch.positions) for batch in loader.in_order(split)) > 0


@pytest.mark.parametrize("harm", ["no_meta", "cut_short", "not_json"])
def test_a_damaged_entry_is_made_again(tmp_path, harm):
    served(tmp_path)
    (entry,) = tmp_path.glob("tiny-val-*")
    if harm == "no_meta":  # as a kill leaves what was about to be removed
        (entry / "meta.json").unlink()
    elif harm == "cut_short":
        os.truncate(entry / "000.bin", 10)
    else:
        (entry / "meta.json").write_text("{")
    loader, backbone = served(tmp_path)
    batch = next(iter(loader.in_order("val")))
    plain = next(iter(tiny_data(backbone).in_order("val")))
    assert torch.equal(batch.activations["2"], backbone(plain.inputs)["2"])


def test_folders_of_others_are_never_removed(tmp_path):
    mine = tmp_path / "my-holiday-pictures"
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"0" * 10**6)
    served(tmp_path)
    whole = sum(size_of(tmp_path, split) for split in ("train", "val", "test"))
    served(tmp_path, backbone=tiny_backbone(seed=1), gigabytes=1.1 * whole / 1e9)
    assert (mine / "a.jpg").exists()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"activations cannot be written to .*No space left"):
        served(tmp_path)
    assert entries(tmp_path) == []
