"""Probes of one pass are at the lowest of the loss that a stream follows."""

from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from cavalcade.concepts import Probes, one_pass
from cavalcade.concepts.probes import probe_loss
from cavalcade.concepts.thresholds import Calibration
from cavalcade.data import Faces, Targets
from cavalcade.data.batches import WHOLE_FRAME
from cavalcade.data.geometry import to_common_grid
from cavalcade.errors import InputError
from cavalcade.visiting.trainers import Trainers
from test_fitting import OnlySome
from test_replicates import KEPT, MEMBERS, Uneven, UnevenFaces, uneven
from tiny import (
    PlantedSquares,
    quiet_trainer,
    streamed,
    tiny_backbone,
    tiny_data,
    tiny_faces,
)

L2 = 0.003
NEAR = 1.005
WITHOUT = (1, 5)  # images without the second concept


def found_by(folder, loader=None, layers=("2", "4"), method=None, **options):
    backbone = tiny_backbone(layers)
    loader = loader or uneven(backbone, without=WITHOUT)
    method = method or Probes(**options)
    return method.find(backbone, loader, Trainers(quiet_trainer), folder)


@dataclass
class Split:
    """All of a split at one layer, in float64, and what its losses weigh."""

    maps: torch.Tensor
    targets: Targets
    contained: torch.Tensor

    @classmethod
    def of(cls, loader, split, *, containing=False, layer="4"):
        backbone = tiny_backbone((layer,))
        batches = list(loader.in_order(split, targets=True))
        maps = torch.cat([backbone(batch.inputs)[layer] for batch in batches]).double()
        targets = [batch.targets[backbone.layers[0].grid] for batch in batches]
        shown = torch.cat([batch.targets[WHOLE_FRAME].present for batch in batches])
        contained = shown[:, :, 0, 0] > 0 if containing else torch.ones(shown.shape[:2]).bool()
        parts = (torch.cat(part).double() for part in zip(*targets, strict=True))
        return cls(maps, Targets(*parts), contained)

    def some(self, members):
        parts = (part[members] for part in self.targets)
        return Split(self.maps[members], Targets(*parts), self.contained[members])

    def sizes(self):
        """Weight of the rarer class, and labelled area of an image."""
        shown, known = (
            (part.mean(dim=(2, 3)) * self.contained).mean(dim=0) for part in self.targets
        )
        return 1 - shown / known, known

    def moments(self):
        """Of the places where the truth of a concept is known."""
        counted = (self.targets.labelled * self.contained[..., None, None]).amax(dim=1) > 0
        pixels = self.maps.movedim(1, -1)[counted]
        return pixels.mean(dim=0), pixels.std(dim=0, correction=0)

    def losses(self, vectors, bias, alpha, area):
        """Of each concept, so that one that knows nothing has log 2 where it was trained."""
        logits = torch.einsum("kc,ichw->ikhw", vectors, self.maps) + bias[:, None, None]
        loss = probe_loss(logits[:, None], self.targets, alpha[None], "balanced")[:, 0]
        return (loss * self.contained).mean(dim=0) / (2 * alpha * (1 - alpha) * area)


@dataclass
class Problem:
    """The objective of all concepts of a layer, of a replicate's images."""

    own: Split
    mean: torch.Tensor
    scale: torch.Tensor
    l2: float

    def objective(self, vectors, bias):
        weight = vectors * self.scale
        return self.own.losses(vectors, bias, *self.own.sizes()) + (
            self.l2 / 2 * weight.square().sum(dim=1)
        )

    def of(self, layer):
        return self.objective(layer.vectors.double(), layer.bias.double())

    def lowest(self, concepts):
        """By SciPy, from zero."""
        shape = (concepts, len(self.mean) + 1)

        def value(flat):
            heads = torch.tensor(flat, requires_grad=True)
            weight, bias = heads.view(shape)[:, :-1], heads.view(shape)[:, -1]
            vectors = weight / self.scale
            total = self.objective(vectors, bias - vectors @ self.mean).sum()
            total.backward()
            return total.item(), heads.grad.numpy()

        start = torch.zeros(shape, dtype=torch.float64).flatten().numpy()
        options = {"maxiter": 5000, "maxfun": 5000, "ftol": 1e-12, "gtol": 1e-7}
        heads = torch.tensor(
            minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
        ).view(shape)
        vectors = heads[:, :-1] / self.scale
        return self.objective(vectors, heads[:, -1] - vectors @ self.mean)


@pytest.mark.parametrize("images", ["all", "containing"])
def test_probes_of_all_replicates_are_at_the_lowest_of_the_training_loss(tmp_path, images):
    loader = uneven(tiny_backbone(("4",)), without=WITHOUT)
    found = found_by(tmp_path, loader, ("4",), l2=L2, images=images)
    train = Split.of(loader, "train", containing=images == "containing")
    for members, concepts in zip(MEMBERS, (found.concepts, *found.halves), strict=True):
        problem = Problem(train.some(members), *train.moments(), L2)
        lowest = problem.lowest(3)
        reached = problem.of(concepts.layers["4"])
        assert (reached <= NEAR * lowest).all()
        assert (reached >= (1 - 1e-5) * lowest).all()
        assert (lowest < 0.68).all()  # they learn something


def test_some_places_give_nearly_the_lowest_of_the_training_loss(tmp_path):
    """Of a fifth of the places, those that matter; of an even draw it would be 6 % higher."""
    backbone = tiny_backbone(("2",))
    loader = tiny_data(backbone)
    train = Split.of(loader, "train", layer="2")
    problem = Problem(train, *train.moments(), 0.1)
    lowest, above = problem.lowest(7), []
    for seed in range(4):
        loader.seed = seed
        found = found_by(tmp_path, loader, ("2",), l2=0.1, rows=600, split_half=False)
        above.append(problem.of(found.concepts.layers["2"]) / lowest - 1)
    assert torch.stack(above).mean() < 0.01
    assert torch.stack(above).max() < 0.04


def test_too_few_rows_for_the_concepts_are_refused(tmp_path):
    with pytest.raises(InputError, match="too few to show 3 concepts; give at least 30"):
        found_by(tmp_path, rows=5)


def test_it_reaches_a_lower_loss_than_five_epochs_of_stream(tmp_path):
    backbone = tiny_backbone(("4",))
    loader = tiny_data(backbone, PlantedSquares(grid=(32, 32)))
    train, val = (Split.of(loader, split) for split in ("train", "val"))
    problem = Problem(train, *train.moments(), L2)
    trained, validated = [], []
    for method in (Probes(l2=L2), streamed(l2=L2, epochs=5)):
        layer = found_by(tmp_path, loader, ("4",), method).concepts.layers["4"]
        trained.append(problem.of(layer))
        validated.append(val.losses(layer.vectors.double(), layer.bias.double(), *train.sizes()))
    assert (trained[0] < 0.99 * trained[1]).all()
    assert validated[0].sum() < 0.99 * validated[1].sum()


@pytest.mark.parametrize("rows", [100_000, 300])
@pytest.mark.parametrize("layer", ["2", "4"])
def test_joint_equals_separate_across_layers_bit_for_bit(tmp_path, rows, layer):
    together = found_by(tmp_path, rows=rows)
    alone = found_by(tmp_path, layers=(layer,), rows=rows)
    pairs = zip((together.concepts, *together.halves), (alone.concepts, *alone.halves), strict=True)
    for one, other in pairs:
        for part in ("vectors", "bias", "thresholds"):
            own, same = (getattr(each.layers[layer], part) for each in (one, other))
            assert torch.equal(own, same)


def test_joint_equals_separate_across_concepts_as_near_as_the_optimum(tmp_path):
    """Where all places are kept; they share the first metric, and so the way there."""
    train = Split.of(tiny_data(tiny_backbone(("4",))), "train")
    problem = Problem(train, *train.moments(), L2)
    layers = []
    for concepts in (list(Faces().open("test").concepts), ["hair"], ["mouth"]):
        data = OnlySome(data=tiny_faces(), kept=concepts, grid=(24, 24))
        loader = tiny_data(tiny_backbone(("4",)), data)
        layers.append(found_by(tmp_path, loader, ("4",), l2=L2).concepts.layers["4"])
    together, *others = layers
    joint = problem.of(together)
    for alone in others:
        k = together.names.index(alone.names[0])
        vectors, bias = together.vectors.clone(), together.bias.clone()
        vectors[k], bias[k] = alone.vectors[0], alone.bias[0]
        value = problem.objective(vectors.double(), bias.double())[k]
        assert value.item() == pytest.approx(joint[k].item(), rel=NEAR - 1)
        near = torch.cosine_similarity(alone.vectors[0], together.vectors[k], dim=0)
        assert near > 0.99
        assert together.thresholds[k].item() == pytest.approx(alone.thresholds[0].item(), abs=0.2)


def exact_thresholds(found, loader, layers):
    replicates = (found.concepts, *found.halves)
    calibration = Calibration(tiny_backbone(layers), replicates, MEMBERS, loader.data.grid)
    for batch in loader.in_order("train"):
        calibration.test_step(batch)
    return calibration.thresholds()


@pytest.mark.parametrize("crop_mode", ["squash", "center"])
def test_thresholds_are_those_of_a_calibration_where_all_pixels_are_kept(tmp_path, crop_mode):
    backbone = tiny_backbone(("2", "4"), crop_mode=crop_mode)
    loader = uneven(backbone, without=WITHOUT)
    found = Probes(l2=L2).find(backbone, loader, Trainers(quiet_trainer), tmp_path)
    exact = exact_thresholds(found, loader, ("2", "4"))
    for concepts, thresholds in zip((found.concepts, *found.halves), exact, strict=True):
        for name, layer in concepts.layers.items():
            torch.testing.assert_close(layer.thresholds, thresholds[name], rtol=0, atol=1 / 64)


def test_thresholds_of_some_pixels_are_nearly_as_good_as_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(one_pass, "PIXELS", 1000)  # of 6912
    loader = tiny_data(tiny_backbone(("2",)))
    found = found_by(tmp_path, loader, ("2",), l2=L2)
    (exact, *_) = exact_thresholds(found, loader, ("2",))
    layer = found.concepts.layers["2"]
    assert not torch.equal(layer.thresholds, exact["2"])
    logits, truth = [], []
    for batch in loader.in_order("train"):
        maps = layer.encode(tiny_backbone(("2",))(batch.inputs)["2"])
        logits.append(to_common_grid(maps, batch.frames, loader.data.grid))
        truth.append(batch.truth)

    def jaccard(thresholds):
        fired, true = torch.cat(logits) > thresholds[:, None, None], torch.cat(truth)
        both, either = ((part).sum(dim=(0, 2, 3)) for part in (fired & true, fired | true))
        return both / either

    assert (jaccard(layer.thresholds) > jaccard(exact["2"]) - 0.03).all()


def test_a_concept_that_is_absent_is_nan_and_has_a_vector_of_zeros(tmp_path):
    for threshold in ("calibrated", 0.9):
        loader = uneven(tiny_backbone(("2", "4")), without=tuple(range(12)))
        found = found_by(tmp_path, loader, threshold=threshold)
        for concepts in (found.concepts, *found.halves):
            for layer in concepts.layers.values():
                assert layer.thresholds.isnan().tolist() == [False, True, False]
                assert (layer.vectors == 0).all(dim=1).tolist() == [False, True, False]


def test_a_half_may_show_no_concept_at_all(tmp_path):
    backbone = tiny_backbone(("4",))
    without = tuple(MEMBERS[2].nonzero()[:, 0].tolist())
    loader = uneven(backbone, without=without)
    data = OnlySome(data=loader.data, kept=["hair"], grid=(24, 24))
    found = found_by(tmp_path, tiny_data(backbone, data), ("4",))
    assert not found.halves[0].layers["4"].thresholds.isnan().any()
    assert found.halves[1].layers["4"].thresholds.isnan().all()


def test_a_fixed_threshold_is_a_probability(tmp_path):
    found = found_by(tmp_path, threshold=0.9)
    for concepts in (found.concepts, *found.halves):
        for layer in concepts.layers.values():
            torch.testing.assert_close(layer.thresholds, torch.full((3,), 2.1972246))


def test_losses_are_those_on_validation_images_and_the_lowest_is_chosen(tmp_path):
    strengths = [3.0, 0.1]
    loader = uneven(tiny_backbone(("4",)), without=WITHOUT)
    found = found_by(tmp_path, loader, ("4",), l2=strengths)
    train, val = (Split.of(loader, split) for split in ("train", "val"))
    alpha, area = train.sizes()
    layers, losses = [], []
    for strength in sorted(strengths):
        alone = found_by(tmp_path, loader, ("4",), l2=strength)
        layers.append([each.layers["4"] for each in (alone.concepts, *alone.halves)])
        vectors, bias = (getattr(layers[-1][0], part).double() for part in ("vectors", "bias"))
        losses.append(val.losses(vectors, bias, alpha, area))
    size = 2 * alpha * (1 - alpha)
    chosen = torch.stack(losses).argmin(dim=0)
    expected = pd.DataFrame(
        {
            "l2": sorted(strengths),
            "layer": "4",
            "depth": found.losses["depth"],
            "loss": [float(loss @ size) for loss in losses],
            "probes": [int((chosen == k).sum()) for k in range(2)],
        }
    )
    pd.testing.assert_frame_equal(found.losses, expected, rtol=1e-3)
    assert len(set(chosen.tolist())) == 2, "choose other strengths: the test shows nothing"
    for replicate, concepts in enumerate((found.concepts, *found.halves)):
        for k in range(len(KEPT)):
            same = layers[chosen[k]][replicate]
            own = concepts.layers["4"]
            torch.testing.assert_close(own.vectors[k], same.vectors[k], rtol=0.01, atol=1e-3)
            assert own.thresholds[k].item() == pytest.approx(same.thresholds[k].item(), abs=0.05)


@dataclass(kw_only=True)
class UnseenFaces(UnevenFaces):
    """No validation image shows the second concept."""

    def open(self, split):
        return Uneven(self.faces.open(split), range(12) if split == "val" else ())


def test_what_validation_never_shows_takes_the_strength_in_the_middle(tmp_path):
    loader = tiny_data(tiny_backbone(("4",)), UnseenFaces(faces=tiny_faces(), grid=(24, 24)))
    tried, middle = (
        found_by(tmp_path, loader, ("4",), l2=l2).concepts.layers["4"].vectors[1]
        for l2 in ([0.1, 0.01, 0.001], 0.01)
    )
    torch.testing.assert_close(tried, middle, rtol=0.01, atol=1e-3)


def test_the_strongest_that_is_as_good_as_the_best_is_chosen():
    losses = torch.tensor(
        [
            [1.000, 1.00, 1.02, 1.0],
            [1.005, 1.02, 1.00, 0.9],
            [1.009, 1.30, 1.011, 0.8],
            [1.011, 1.50, 1.00, 0.5],
        ]
    )
    shown = torch.tensor([True, True, True, False])
    assert one_pass._strongest(losses, shown).tolist() == [2, 0, 3, 2]
