"""One visit, end to end: the run folder, what skips, what resumes, what is bit-identical."""

import dataclasses
import hashlib
import json
import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import jaccard_score

from cavalcade import load_run, processes
from cavalcade.backbones import FrozenBackbone, Network
from cavalcade.concepts import ConceptSet, Probes, stream
from cavalcade.concepts.encoding import unpack
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.probe_sample import ProbeSample
from cavalcade.concepts.probing import FITS, STRENGTHS
from cavalcade.data import ConceptDataset, Labels
from cavalcade.data.geometry import seen_cells, to_common_grid
from cavalcade.data.sample import Chosen
from cavalcade.errors import InputError
from cavalcade.folders import digest_of
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import _show_concepts, identify, visit
from tiny import (
    PlantedSquares,
    VoidSquares,
    quiet_trainer,
    streamed,
    tiny_backbone,
    tiny_data,
    tiny_faces,
    tiny_model,
    tiny_visit,
)


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    backbone = tiny_backbone()
    before = backbone.weights_fingerprint()
    path = tiny_visit(tmp_path_factory.mktemp("runs"), backbone)
    return path, backbone, before


@pytest.fixture
def run(visited):
    """Loaded anew: a test makes the run again."""
    return load_run(visited[0])


@pytest.fixture(scope="module")
def streamed_run(tmp_path_factory):
    """The folder of a run whose probes follow the gradient."""
    return tiny_visit(tmp_path_factory.mktemp("streamed"), method=streamed())


def test_backbone_is_bit_identical_and_has_no_gradient(visited):
    _, backbone, before = visited
    assert backbone.weights_fingerprint() == before
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_checkpoint_holds_heads_only_and_is_plain_data(streamed_run):
    backbone = tiny_backbone()
    checkpoint = torch.load(streamed_run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["state_dict"]
    assert all(key.startswith(("heads.", "alpha", "area")) for key in checkpoint["state_dict"])
    shapes = {tuple(p.shape) for p in backbone.parameters() if p.ndim == 4}
    saved = [v for v in checkpoint["state_dict"].values() if isinstance(v, torch.Tensor)]
    assert not any(tuple(tensor.shape) in shapes for tensor in saved)


@pytest.mark.parametrize("fit", FITS)
def test_folder_has_the_files_of_the_format(visited, streamed_run, fit):
    path = visited[0] if fit == "one_pass" else streamed_run
    files = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert files == {
        *("config.yaml", "meta.json", "concepts.safetensors", "masks.safetensors"),
        *(
            "strengths.safetensors",
            "features.safetensors",
            "scores.csv",
            "losses.csv",
            "scores.png",
        ),
        *(["checkpoints/last.ckpt"] if fit == "stream" else []),
        *("halves/1.safetensors", "halves/2.safetensors", "halves/masks.safetensors"),
    }
    meta = json.loads((path / "meta.json").read_text())
    assert set(meta["files"]) == files - {"meta.json"}
    assert [layer["name"] for layer in meta["layers"]] == ["2", "4", "6"]
    assert (path.parents[1] / "truth/meta.json").is_file()


def test_scores_agree_with_scikit_learn_on_the_stored_masks(run):
    truth = run.truth
    true = unpack(truth.masks, truth.grid)
    for layer in ("2", "6"):
        predicted = run.masks(layer)
        for k, concept in enumerate(truth.concepts):
            reference = jaccard_score(
                true[:, k].flatten().numpy(), predicted[:, k].flatten().numpy(), zero_division=0
            )
            assert run.score_matrix().loc[layer, concept] == pytest.approx(reference, abs=1e-5)
            ratio = predicted[:, k].sum() / true[:, k].sum()
            stored = run.score_matrix("area_ratio").loc[layer, concept]
            assert stored == pytest.approx(ratio.item(), rel=1e-4)


def test_masks_are_those_of_the_stored_concepts(run, visited):
    backbone = visited[1]
    batch = next(iter(tiny_data(backbone).in_order("test")))
    maps = run.concept_set.encode(backbone(batch.inputs))["4"]
    on_grid = to_common_grid(maps, batch.frames, (24, 24))
    fired = on_grid > run.concept_set.layers["4"].thresholds[:, None, None]
    assert torch.equal(run.masks("4")[: len(fired)], fired.flatten(2))


def test_features_are_the_means_of_the_activations(run, visited):
    backbone = visited[1]
    batch = next(iter(tiny_data(backbone).in_order("test")))
    pooled = backbone(batch.inputs)["6"].mean(dim=(2, 3))
    torch.testing.assert_close(run.features("6")[: len(pooled)], pooled)


@pytest.mark.parametrize("method", [Probes(), streamed(epochs=15)], ids=FITS)
def test_probes_find_a_planted_concept(tmp_path, method):
    """Red squares are linear in the colours that the first layer passes on."""
    backbone = tiny_backbone()
    data = tiny_data(backbone, PlantedSquares(grid=(32, 32)), batch_size=4)
    path = tiny_visit(tmp_path, backbone, data=data, method=method)
    scores = load_run(path).score_matrix("jaccard", "test")
    assert scores["red"].max() > 0.85
    assert scores["green"].max() > 0.85


def test_finished_run_is_skipped_and_forced(visited, caplog):
    path, backbone, _ = visited
    before = (path / "concepts.safetensors").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        assert tiny_visit(path.parents[2], backbone) == path
    assert "finished before, skipped (force=true runs it again)" in caplog.text
    assert (path / "concepts.safetensors").stat().st_mtime_ns == before
    tiny_visit(path.parents[2], backbone, force=True)
    assert (path / "concepts.safetensors").stat().st_mtime_ns > before


def contents(path):
    return {
        p.relative_to(path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.suffix != ".ckpt" and p.name != "meta.json"
    }


def test_random_weights_are_said_and_are_no_part_of_the_identity(visited, tmp_path):
    assert not load_run(visited[0]).random
    network = Network("tiny", tiny_model(), tiny_backbone().preprocessing, ("9",), random=True)
    path = tiny_visit(tmp_path, FrozenBackbone(network, ("2", "4", "6")))
    assert load_run(path).random
    assert path.name == visited[0].name


def test_same_seed_gives_identical_files(visited, tmp_path):
    assert contents(tiny_visit(tmp_path)) == contents(visited[0])


def test_same_seed_gives_identical_files_by_stream(streamed_run, tmp_path):
    assert contents(tiny_visit(tmp_path, method=streamed())) == contents(streamed_run)


def interrupted_visit(folder, monkeypatch):
    """The checkpoint that a visit leaves which is interrupted in its second epoch."""
    step = ProbeFit.training_step

    def interrupted(self, batch):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(ProbeFit, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tiny_visit(folder, method=streamed())
    return next(folder.glob("*/probes/.tiny-*/checkpoints/last.ckpt"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_interrupted_run_goes_on_and_ends_the_same(
    streamed_run, tmp_path, monkeypatch, caplog, num_workers
):
    assert interrupted_visit(tmp_path, monkeypatch).exists()
    assert not list(tmp_path.glob("*/probes/tiny-*"))
    surveys = []
    monkeypatch.setattr(stream, "_survey", lambda *a: surveys.append(a))
    backbone = tiny_backbone()
    with caplog.at_level(logging.INFO):
        data = tiny_data(backbone, num_workers=num_workers)
        path = tiny_visit(tmp_path, backbone, data=data, method=streamed())
    assert "tiny: goes on after epoch 1 of 2" in caplog.text
    assert not surveys
    assert contents(path) == contents(streamed_run)
    assert not list(tmp_path.glob("*/probes/.*"))


@pytest.mark.parametrize(
    ("method", "step"),
    [(Probes(), (ProbeSample, "test_step")), (streamed(), (ProbeFit, "training_step"))],
    ids=FITS,
)
def test_failed_run_leaves_nothing(tmp_path, monkeypatch, method, step):
    def broken(*_):
        raise InputError("no such thing")

    monkeypatch.setattr(*step, broken)
    with pytest.raises(InputError, match="no such thing"):
        tiny_visit(tmp_path, method=method)
    assert not list(tmp_path.glob("*/probes/*"))
    assert not list(tmp_path.glob("*/probes/.*"))


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone": {"seed": 1}},
        {"backbone": {"layers": ("2", "4")}},
        {"backbone": {"crop_mode": "center"}},
        {"method": {"epochs": 3}},
        {"method": {"l2": 0.01}},
        {"method": {"fit": "one_pass", "epochs": None, "optimizer": None}},
        {"method": {"threshold": 0.5}},
        {"method": {"split_half": False}},
        {"data": {"batch_size": 2}},
        {"trainer": {"precision": "bf16-mixed"}},
        {"faces": {"seed": 1}},
        {"faces": {"limit": {"train": 5}}},
        {"faces": {"grid": (12, 12)}},
    ],
)
def test_digest_changes_with_all_that_changes_results(changed):
    def digest(backbone=(), method=(), data=(), faces=(), trainer=None):
        trainer = trainer or {}
        network = tiny_backbone(**dict(backbone))
        images = dataclasses.replace(tiny_faces(), **dict(faces))
        loader = tiny_data(network, images, **dict(data))
        probes = streamed(**dict(method))
        return digest_of(identify(network, loader, probes, Trainers(partial(Trainer, **trainer))))

    assert digest() == digest(trainer={"devices": 1})
    assert digest(**changed) != digest()


def test_absent_concept_is_kept_as_nan_and_said(tmp_path, caplog):
    from test_fitting import OnlySome

    @dataclasses.dataclass(kw_only=True)
    class Without(OnlySome):
        """The second concept never occurs in training."""

        def open(self, split):
            dataset = super().open(split)
            if split == "train":

                class Blank(type(dataset)):
                    def labels(self, index):
                        masks, labelled = super().labels(index)
                        masks[1] = False
                        return Labels(masks, labelled)

                dataset.__class__ = Blank
            return dataset

    data = Without(data=tiny_faces(), kept=["skin", "hair", "clothes"], grid=(24, 24))
    backbone = tiny_backbone()
    with caplog.at_level(logging.WARNING):
        path = tiny_visit(tmp_path, backbone, data=tiny_data(backbone, data))
    assert "no training pixel shows hair, or none at a centre" in caplog.text
    run = load_run(path)
    assert run.score_matrix()["hair"].isna().all()
    assert run.score_matrix()[["skin", "clothes"]].notna().all().all()
    assert run.masks("4")[:, 1].sum() == 0


@dataclasses.dataclass(kw_only=True)
class UnlabelledSquares(PlantedSquares):
    """Nothing is known of the training images."""

    def open(self, split):
        dataset = super().open(split)
        return Unlabelled(dataset) if split == "train" else dataset


class Unlabelled(Chosen):
    def __init__(self, dataset):
        super().__init__(dataset, dataset.concepts)

    def labels(self, index):
        masks, labelled = super().labels(index)
        return Labels(masks, torch.zeros_like(labelled))


@pytest.mark.parametrize("threshold", ["calibrated", 0.5])
@pytest.mark.parametrize("fit", FITS)
def test_training_images_without_a_label_leave_concepts_as_nan_and_it_is_said(
    tmp_path, caplog, fit, threshold
):
    backbone = tiny_backbone(("4",))
    data = tiny_data(backbone, UnlabelledSquares())
    method = Probes(fit=fit, threshold=threshold)
    with caplog.at_level(logging.WARNING):
        path = tiny_visit(tmp_path, backbone, data=data, method=method)
    assert "no training pixel shows red, green, or none at a centre" in caplog.text
    for name in ("concepts", "halves/1", "halves/2"):
        (probes,) = ConceptSet.load(path / f"{name}.safetensors").layers.values()
        assert probes.vectors.isfinite().all()
        assert probes.thresholds.isnan().all()
    assert load_run(path).score_matrix().isna().all().all()


@dataclasses.dataclass(kw_only=True)
class ManyConcepts(PlantedSquares):
    """The k-th of them is k pixels large, so that the first is absent."""

    num_concepts: int = 3

    def open(self, split):
        return Squeezed(super().open(split), self.num_concepts)


class Squeezed(ConceptDataset):
    def __init__(self, squares, num_concepts):
        self.squares, self.ids, self.groups = squares, squares.ids, squares.groups
        self.concepts = tuple(f"c{k}" for k in range(num_concepts))

    def image(self, index):
        return self.squares.image(index)

    def labels(self, index):  # noqa: ARG002
        masks = torch.zeros(len(self.concepts), 8, 8, dtype=torch.bool)
        for k, mask in enumerate(masks):
            mask.view(-1)[:k] = True
        return Labels(masks, torch.tensor(True).expand(masks.shape))


def shown(num_concepts, capsys, **settings):
    backbone = tiny_backbone()
    data = ManyConcepts(num_concepts=num_concepts, counts={"train": 2, "val": 2, "test": 2})
    _show_concepts(tiny_data(backbone, dataclasses.replace(data, **settings)))
    return capsys.readouterr().out


def test_concepts_are_shown_with_their_images_and_shares(capsys, caplog):
    lines = shown(3, capsys).splitlines()
    assert lines[0].strip() == "Concepts of squares, percent of labelled pixels"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│ c" in line]
    assert [row[0] for row in rows] == ["c0", "c1", "c2"]
    assert rows[1] == ["c1", *["2", "1.562"] * 3]
    assert "squares: no val image shows c0, which cannot be scored there" in caplog.text
    assert "squares: no test image shows c0" in caplog.text
    assert "no train image" not in caplog.text


def test_of_many_concepts_the_largest_are_shown(capsys):
    said = shown(45, capsys)
    rows = [line.split("│")[1].strip() for line in said.splitlines() if "│ c" in line]
    assert rows == [f"c{k}" for k in range(44, 4, -1)]
    assert said.rstrip().endswith("and 5 smaller concepts")


@pytest.mark.parametrize(("given", "used"), [("auto", "cpu"), ("gpu", "gpu")])
def test_what_is_automatic_is_no_device_without_float64(monkeypatch, given, used):
    asked = {}

    def base(**settings):
        asked.update(settings)
        return quiet_trainer(logger=False, devices=settings["devices"])

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(processes, "start", asked.update)
    trainers = Trainers(partial(base, accelerator=given, devices=2))
    trainers()
    assert asked.pop("accelerator") == used
    trainers.start()
    assert asked["accelerator"] == used


def test_processes_that_were_not_started_are_refused(tmp_path):
    backbone = tiny_backbone()
    trainers = Trainers(partial(quiet_trainer, devices=2))
    with pytest.raises(InputError, match=r"asks for 2 processes and there is 1.*call start"):
        visit(
            backbone,
            tiny_data(backbone),
            Probes(),
            trainers,
            runs=tmp_path,
            config={},
        )
    assert not list(tmp_path.glob("*/probes/*"))


def test_several_machines_must_know_where_to_meet(monkeypatch):
    for name in processes.MEETING:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"num_nodes is 2, and nothing says where .*MASTER_ADDR"):
        Trainers(partial(quiet_trainer, num_nodes=2)).start()


def test_strategies_that_split_the_network_are_refused():
    with pytest.raises(InputError, match="strategy is 'fsdp'; give one of auto, ddp"):
        Trainers(partial(quiet_trainer, strategy="fsdp")).start()


def test_losses_are_of_each_strength_and_layer(visited):
    losses = pd.read_csv(visited[0] / "losses.csv")
    assert losses[["layer", "l2"]].to_numpy().tolist() == [
        [layer, l2] for layer in (2, 4, 6) for l2 in STRENGTHS
    ]
    assert np.isfinite(losses["loss"]).all()
    assert losses.groupby("layer")["probes"].sum().tolist() == [7] * 3


def test_losses_by_stream_are_of_each_epoch_and_layer(streamed_run):
    losses = pd.read_csv(streamed_run / "losses.csv")
    assert losses[["epoch", "layer"]].to_numpy().tolist() == [
        [epoch, layer] for epoch in (1, 2) for layer in (2, 4, 6)
    ]
    assert np.isfinite(losses["loss"]).all()


def test_crop_is_recorded_as_unseen_border(tmp_path):
    run = load_run(tiny_visit(tmp_path, tiny_backbone(crop_mode="center")))
    seen = run.seen[0].view(24, 24)
    assert seen[3:21, 3:21].all()  # three quarters of each side
    assert not seen[:3].any()
    assert not run.masks("2")[:, :, ~run.seen[0]].any()


def test_scores_and_thresholds_look_at_seen_and_labelled_pixels_alone(tmp_path):
    """Void truth and a crop, against scikit-learn and a search over all thresholds."""
    backbone = tiny_backbone(crop_mode="center")
    data = tiny_data(backbone, VoidSquares(grid=(32, 32)))
    run = load_run(tiny_visit(tmp_path, backbone, data=data, method=Probes()))
    truth = run.truth
    true, labelled = (unpack(bits, truth.grid) for bits in (truth.masks, truth.labelled))
    counted = (labelled & run.seen[:, None]).numpy()
    for k, concept in enumerate(truth.concepts):
        images = range(len(truth.ids))
        x, y = true[:, k].numpy(), run.masks("2")[:, k].numpy()
        pooled = jaccard_score(x[counted[:, k]], y[counted[:, k]])
        assert run.score_matrix().loc["2", concept] == pytest.approx(pooled, abs=1e-5)
        each = [
            jaccard_score(x[i][counted[i, k]], y[i][counted[i, k]])
            for i in images
            if (x[i] | y[i])[counted[i, k]].any()
        ]
        stored = run.score_matrix("jaccard_per_image").loc["2", concept]
        assert stored == pytest.approx(np.mean(each), abs=1e-5)
    layer = run.concept_set.layers["2"]
    logits, train, valid = [], [], []
    for batch in data.in_order("train"):
        maps = layer.encode(backbone(batch.inputs)["2"])
        logits.append(to_common_grid(maps, batch.frames, (32, 32)))
        train.append(batch.truth)
        valid.append(batch.labelled & seen_cells(batch.frames, (32, 32))[:, None])
    logits, train, valid = (torch.cat(part).transpose(0, 1) for part in (logits, train, valid))
    for k in range(2):
        z, t = logits[k][valid[k]].numpy(), train[k][valid[k]].numpy()
        edges = np.arange(-6, 6, 1 / 64)
        best = max(jaccard_score(t, z > edge) for edge in edges)
        assert jaccard_score(t, z > layer.thresholds[k].item()) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, "trainer.gradient_clip_val cannot be set"),
        ({"fast_dev_run": True}, "trainer.fast_dev_run cannot be set"),
        ({"limit_test_batches": 1}, "trainer.limit_test_batches cannot be set"),
        ({"precision": "bf16-true"}, "precision is 'bf16-true'; give one of auto, 32-true"),
        ({"accelerator": "abacus"}, "the trainer cannot be built: .*abacus"),
        ({"accelerator": "gpu"}, "the trainer cannot be built: No supported gpu"),
    ],
)
def test_settings_that_would_spoil_a_run_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Trainers(partial(Trainer, **settings)).check()


@pytest.mark.parametrize("label", ["a/b", "..", ""])
def test_names_of_folders_are_plain(label, tmp_path):
    with pytest.raises(InputError, match="the label of the network is"):
        tiny_visit(tmp_path, tiny_backbone(label=label))


def test_damaged_checkpoint_starts_over(streamed_run, tmp_path, monkeypatch, caplog):
    checkpoint = interrupted_visit(tmp_path, monkeypatch)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    path = tiny_visit(tmp_path, method=streamed())
    assert "last.ckpt is damaged; the fit starts over" in caplog.text
    assert contents(path) == contents(streamed_run)


def test_force_starts_over(streamed_run, tmp_path, monkeypatch):
    interrupted_visit(tmp_path, monkeypatch)
    surveys = []
    survey = stream._survey
    monkeypatch.setattr(stream, "_survey", lambda *a: surveys.append(1) or survey(*a))
    path = tiny_visit(tmp_path, force=True, method=streamed())
    assert contents(path) == contents(streamed_run)
    assert surveys


def test_areas_with_and_without_a_concept_are_counted_on_the_stored_masks(run):
    """Share of area that fires on images that show the concept, and on those that do not."""
    for k, concept in enumerate(run.concepts):
        present = run.truth.strata(k)[:, 0].any(dim=1)
        for layer in run.layers:
            fired = run.masks(layer.name)[:, k].double()
            for score, images in (("area_with", present), ("area_without", ~present)):
                stored = run.score_matrix(score).loc[layer.name, concept]
                if images.any():
                    assert stored == pytest.approx(float(fired[images].mean()), abs=1e-5)
                else:
                    assert np.isnan(stored)
