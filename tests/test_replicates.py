"""Probes of halves of the training images: fitted with the others, as if each were alone."""

import logging
import shutil
from dataclasses import dataclass, replace

import pytest
import torch

from cavalcade import load_run
from cavalcade.concepts import ConceptSet, Probes
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.probes import StackedProbes
from cavalcade.concepts.probing import FITS
from cavalcade.concepts.replicates import replicate_members
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration, LogitHistograms
from cavalcade.data import ConceptData, Faces, Labels
from cavalcade.data.geometry import to_common_grid
from cavalcade.data.groups import two_halves
from cavalcade.data.sample import Chosen
from cavalcade.errors import InputError
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import _announce
from tiny import adam, quiet_trainer, tiny_backbone, tiny_data, tiny_faces, tiny_visit

KEPT = ["skin", "hair", "clothes"]
L2 = 0.1
MEMBERS = replicate_members([str(i) for i in range(12)], split_half=True)


@dataclass(kw_only=True)
class UnevenFaces(ConceptData):
    """Faces whose truth is known on a part of each image; some do not show the second concept."""

    name: str = "uneven"
    faces: Faces
    without: tuple[int, ...] = ()

    def open(self, split):
        without = self.without if split == "train" else ()
        return Uneven(self.faces.open(split), without)


class Uneven(Chosen):
    def __init__(self, dataset, without):
        super().__init__(dataset, KEPT)
        self.without = without

    def labels(self, index):
        masks, _ = super().labels(index)
        masks[1] &= index not in self.without
        return Labels(masks, (torch.arange(48) < 48 - 3 * index).expand(masks.shape))


def uneven(backbone, *, without=(), batch_size=4):
    data = UnevenFaces(faces=tiny_faces(), grid=(24, 24), without=without)
    return tiny_data(backbone, data, batch_size=batch_size)


def found_by(folder, *, fit, layers=("2", "4"), loader=None, **options):
    backbone = tiny_backbone(layers)
    own = {"optimizer": adam, "epochs": 3} if fit == "stream" else {}
    method = Probes(fit=fit, **(own | options))
    return method.find(backbone, loader or uneven(backbone), Trainers(quiet_trainer), folder)


@pytest.fixture(scope="module", params=FITS)
def fit(request):
    return request.param


@pytest.fixture(scope="module")
def found(tmp_path_factory, fit):
    return found_by(tmp_path_factory.mktemp("fit"), fit=fit)


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    return tiny_visit(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def visited_without(tmp_path_factory):
    method = Probes(split_half=False)
    return tiny_visit(tmp_path_factory.mktemp("runs"), method=method)


def test_members_are_all_images_and_the_two_halves():
    groups = ["a"] * 30 + ["b"] * 41
    members = replicate_members(groups, split_half=True)
    assert members[0].all()
    assert members[1:].sum(dim=0).tolist() == [1] * 71
    assert members[2].int().tolist() == two_halves(groups)
    assert torch.equal(replicate_members(groups, split_half=False), members[:1])


@pytest.mark.parametrize(
    "options",
    [
        {"fit": "one_pass"},
        {"fit": "one_pass", "rows": 300, "images": "containing"},
        {"fit": "stream"},
        {"fit": "stream", "images": "containing"},
        {"fit": "stream", "input": "quantile"},
    ],
)
def test_halves_change_nothing_for_the_others(options, tmp_path):
    with_halves = found_by(tmp_path / "a", **options)
    without = found_by(tmp_path / "b", split_half=False, **options)
    assert len(with_halves.halves) == 2
    assert without.halves == ()
    for name, layer in without.concepts.layers.items():
        same = with_halves.concepts.layers[name]
        torch.testing.assert_close(same.vectors, layer.vectors, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(same.bias, layer.bias, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(same.thresholds, layer.thresholds, rtol=0, atol=1 / 64)


def test_a_layer_alone_has_the_same_halves_bit_for_bit(found, fit, tmp_path):
    alone = found_by(tmp_path, layers=("4",), fit=fit)
    for half, same in zip(found.halves, alone.halves, strict=True):
        assert torch.equal(half.layers["4"].vectors, same.layers["4"].vectors)
        assert torch.equal(half.layers["4"].thresholds, same.layers["4"].thresholds)


def test_replicates_differ(found):
    for name, layer in found.concepts.layers.items():
        first, second = (half.layers[name] for half in found.halves)
        for one, other in ((layer, first), (layer, second), (first, second)):
            assert not torch.isclose(one.vectors, other.vectors, rtol=1e-2).any(dim=1).all()
            assert not torch.equal(one.thresholds, other.thresholds)


def fitted_alone(own, start, train, val, activations, epochs):
    """Plain gradient descent on some images, of the whole batch; the best epoch on validation."""
    maps, val_maps = activations
    mean, deviation = maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3), correction=0)
    maps, val_maps = (
        (m - mean[:, None, None]) / deviation[:, None, None] for m in (maps, val_maps)
    )
    present, labelled = train.present[own], train.labelled[own]
    share = present.sum(dim=(0, 2, 3)) / labelled.sum(dim=(0, 2, 3))
    alpha = (1 - share)[:, None, None]

    def loss(maps, present, labelled):
        p = torch.sigmoid(torch.einsum("kc,ichw->ikhw", weight, maps) + bias[:, None, None])
        cost = alpha * present * p.log() + (1 - alpha) * (labelled - present) * (1 - p).log()
        return -cost.sum(dim=(0, 2, 3)) / labelled.sum(dim=(0, 2, 3))

    def regularised(*batch):
        """The penalty is in proportion to what a loss is worth that knows nothing."""
        size = 2 * alpha[:, 0, 0] * (1 - alpha[:, 0, 0])
        return loss(*batch) + size * L2 / 2 * weight.square().sum(dim=1)

    weight, bias = start.clone().requires_grad_(), torch.zeros(len(start), requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    best, kept = torch.full((len(start),), torch.inf), torch.zeros_like(start)
    for _ in range(epochs):
        optimizer.zero_grad()
        regularised(maps[own], present, labelled).sum().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            now = loss(val_maps, val.present, val.labelled)
        better = now <= best
        best, kept[better] = torch.where(better, now, best), weight.detach()[better]
    return kept / deviation


@pytest.mark.parametrize("replicate", [0, 1, 2])
def test_each_replicate_is_fitted_as_if_to_its_images_alone(replicate, tmp_path):
    """Gradient descent, unlike Adam, sees the scale of each loss too."""
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone, batch_size=12)

    def descent(parameters):
        return torch.optim.SGD(parameters, lr=0.5)

    joint = found_by(
        tmp_path,
        layers=("4",),
        loader=loader,
        fit="stream",
        optimizer=descent,
        epochs=6,
        l2=L2,
    )
    train, val = (next(iter(loader.in_order(split, targets=True))) for split in ("train", "val"))
    grid = backbone.layers[0].grid
    reference = fitted_alone(
        MEMBERS[replicate],
        StackedProbes("4", KEPT, 12, replicates=3, seed=0).weight.detach()[replicate],
        train.targets[grid],
        val.targets[grid],
        [backbone(batch.inputs)["4"] for batch in (train, val)],
        epochs=6,
    )
    probes = (joint.concepts, *joint.halves)[replicate].layers["4"]
    torch.testing.assert_close(probes.vectors, reference, rtol=1e-3, atol=1e-5)


def test_a_half_that_is_not_in_a_batch_gets_the_gradient_of_its_penalty_alone():
    backbone = tiny_backbone(("4",))
    batch = next(iter(uneven(backbone).in_order("train", targets=True)))
    members = torch.ones(3, 12, dtype=torch.bool)
    members[1, batch.positions] = False
    fit = ProbeFit(
        backbone,
        KEPT,
        members,
        loss="balanced",
        containing=False,
        transform="none",
        optimizer=adam,
        l2=L2,
        batch_size=4,
        seed=0,
    )
    fit.log = lambda *_, **__: None
    fit.alpha.fill_(0.9)
    fit.training_step(batch).backward()
    gradient = fit.probes[0].weight.grad
    penalty = 2 * 0.9 * 0.1 * L2 * fit.probes[0].weight.detach()
    torch.testing.assert_close(gradient[1], penalty[1])
    assert not torch.isclose(gradient, penalty)[[0, 2]].any(dim=2).all()


def test_size_of_concepts_is_that_of_each_replicate():
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone)
    survey = Survey(backbone, 3, MEMBERS, transform="none", containing=False)
    for batch in loader.in_order("train", targets=True):
        survey.test_step(batch)
    alpha, area = survey.shares.compute()
    for own, replicate_alpha, replicate_area in zip(MEMBERS, alpha, area, strict=True):
        samples = [loader.splits["train"][i] for i in own.nonzero()[:, 0].tolist()]
        present = sum((s.masks & s.labelled).double().mean(dim=(1, 2)) for s in samples)
        labelled = sum(s.labelled.double().mean(dim=(1, 2)) for s in samples)
        torch.testing.assert_close(replicate_alpha, (1 - present / labelled).float())
        torch.testing.assert_close(replicate_area, (labelled / len(samples)).float())


def test_thresholds_come_from_the_pixels_of_the_replicate(found):
    backbone = tiny_backbone(("2", "4"))
    replicates = (found.concepts, *found.halves)

    def calibrated(change):
        calibration = Calibration(backbone, replicates, MEMBERS, (24, 24))
        for batch in uneven(backbone).in_order("train"):
            truth = batch.truth ^ change[batch.positions][:, None, None, None]
            calibration.test_step(batch._replace(truth=truth))
        return calibration.thresholds()

    as_found = calibrated(torch.zeros(12, dtype=torch.bool))
    for change, unmoved in ((MEMBERS[1], 2), (MEMBERS[2], 1)):
        for number, thresholds in enumerate(calibrated(change)):
            for name, layer in replicates[number].layers.items():
                assert torch.equal(as_found[number][name], layer.thresholds)
                assert torch.equal(thresholds[name], layer.thresholds) == (number == unmoved)


def test_thresholds_of_a_half_are_those_of_its_images_alone(found):
    backbone = tiny_backbone(("2", "4"))
    batch = next(iter(uneven(backbone, batch_size=12).in_order("train")))
    for half, own in zip(found.halves, MEMBERS[1:], strict=True):
        maps = half.layers["4"].encode(backbone(batch.inputs)["4"])
        logits = to_common_grid(maps, batch.frames, (24, 24))
        histogram = LogitHistograms(3)
        counts = LogitHistograms.of(logits[own], batch.truth[own], batch.labelled[own])
        histogram.update(counts)
        assert torch.equal(half.layers["4"].thresholds, histogram.compute())


@pytest.mark.parametrize("threshold", ["calibrated", 0.5])
def test_concept_that_one_half_never_shows_is_nan_there(threshold, fit, tmp_path):
    without = tuple(MEMBERS[2].nonzero()[:, 0].tolist())
    loader = uneven(tiny_backbone(("2", "4")), without=without)
    found = found_by(tmp_path, loader=loader, threshold=threshold, fit=fit)
    nan = [
        concepts.layers["4"].thresholds.isnan().tolist()
        for concepts in (found.concepts, *found.halves)
    ]
    assert nan == [[False] * 3, [False] * 3, [False, True, False]]


def test_concept_that_one_half_never_shows_is_said(tmp_path, caplog):
    backbone = tiny_backbone()
    loader = uneven(backbone, without=tuple(MEMBERS[2].nonzero()[:, 0].tolist()))
    with caplog.at_level(logging.WARNING):
        run = load_run(tiny_visit(tmp_path, backbone, data=loader))
    assert "half 2 of the training images does not show hair" in caplog.text
    assert "half 1" not in caplog.text
    assert "no training pixel shows" not in caplog.text
    assert run.score_matrix()["hair"].notna().all()
    assert not run.half_masks(2, 1).any()
    assert run.half_masks(1, 1).any()


def test_masks_of_halves_are_those_of_their_probes(visited):
    run, backbone = load_run(visited), tiny_backbone()
    batch = next(iter(tiny_data(backbone, batch_size=8).in_order("test")))
    activations = backbone(batch.inputs)
    assert run.has_halves
    for half in (1, 2):
        concepts = ConceptSet.load(visited / f"halves/{half}.safetensors")
        for number, (name, maps) in enumerate(concepts.encode(activations).items()):
            on_grid = to_common_grid(maps, batch.frames, (24, 24))
            fired = concepts.layers[name].fires(on_grid).flatten(2)
            for k in range(len(run.concepts)):
                assert torch.equal(run.half_masks(half, k)[:, number], fired[:, k])
    assert not torch.equal(run.half_masks(1, 0), run.half_masks(2, 0))
    assert not torch.equal(run.half_masks(1, 0), run.concept_masks(0))


def test_masks_of_a_concept_are_those_of_all_layers(visited):
    run = load_run(visited)
    for k in range(len(run.concepts)):
        masks = run.concept_masks(k)
        assert masks.shape == (8, 3, 24 * 24)
        for number, layer in enumerate(run.layers):
            assert torch.equal(masks[:, number], run.masks(layer.name)[:, k])


def test_run_without_halves_has_none_and_is_otherwise_the_same(visited, visited_without):
    run, other = load_run(visited_without), load_run(visited)
    assert not run.has_halves
    assert not (visited_without / "halves").exists()
    with pytest.raises(InputError, match=r"no probes of halves .* concepts.split_half=true"):
        run.half_masks(1, 0)
    for layer in run.layers:
        assert torch.equal(run.masks(layer.name), other.masks(layer.name))
        assert torch.equal(run.features(layer.name), other.features(layer.name))
    assert run.scores.equals(other.scores)


@pytest.mark.parametrize("half", [0, 3])
def test_there_are_two_halves(visited, half):
    with pytest.raises(InputError, match=f"half is '{half}'; give one of 1, 2"):
        load_run(visited).half_masks(half, 0)


def test_damaged_half_is_named(visited, tmp_path):
    data = shutil.copytree(visited.parents[1], tmp_path / "data")
    copy = data / visited.relative_to(visited.parents[1])
    (copy / "halves/2.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"halves/2.safetensors is missing or damaged"):
        load_run(copy)


def test_one_image_cannot_be_halved(tmp_path):
    backbone = tiny_backbone()
    with pytest.raises(InputError, match=r"fewer than two images.*concepts.split_half=false"):
        tiny_visit(tmp_path, backbone, data=tiny_data(backbone, tiny_faces(train=1)))
    method = Probes(split_half=False)
    data = tiny_data(backbone, tiny_faces(train=1))
    assert not load_run(tiny_visit(tmp_path, backbone, data=data, method=method)).has_halves


def test_masks_of_halves_are_in_the_announced_size(caplog):
    backbone = tiny_backbone()
    data = tiny_data(backbone, replace(tiny_faces(), grid=(480, 480)))
    for split_half, megabytes in ((True, 3), (False, 1)):
        with caplog.at_level(logging.INFO):
            method = Probes(split_half=split_half)
            _announce(backbone, data, method, Trainers(quiet_trainer), cached=False)
        masks = 8 * 7 * 3 * 480 * 480 / 8e6 * megabytes
        said = float(caplog.messages[-1].split("; ")[1].removesuffix(" MB on disk"))
        assert said == pytest.approx(masks, rel=0.1)
