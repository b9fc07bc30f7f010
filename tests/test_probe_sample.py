"""Which places are kept for probes: all that fit, or some that stand for all."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network
from cavalcade.concepts.probe_sample import DrawnRows, ProbeSample
from cavalcade.concepts.survey import Survey
from cavalcade.data import ConceptData, Labels
from cavalcade.data.batches import WHOLE_FRAME
from cavalcade.data.geometry import seen_cells, to_common_grid
from cavalcade.data.sample import Chosen
from test_replicates import MEMBERS, uneven
from tiny import quiet_trainer, tiny_backbone, tiny_data, tiny_faces

GRID = (8, 8)  # of layer 4
PARTS = ("images", "weights", "present", "labelled")


def new_sample(backbone, loader, *, rows=100_000, pixels=0, containing=False, seed=0):
    train = loader.splits["train"]
    return ProbeSample(
        backbone,
        train,
        train,
        MEMBERS,
        rows=rows,
        pixels=pixels,
        grid=loader.data.grid,
        containing=containing,
        seed=seed,
    )


def sampled(loader=None, backbone=None, **options):
    backbone = backbone or tiny_backbone()
    loader = loader or uneven(backbone)
    sample = new_sample(backbone, loader, **options)
    for batch in loader.in_order("train", targets=True):
        sample.test_step(batch)
    return sample


def rows_of(sample, name):
    return DrawnRows.of(sample.rows, name)


def all_kept(sample, backbone):
    return {name: rows_of(sample, name) for name in backbone.names}


def exact(loader, *, containing=False):
    """Present and labelled share of every image at layer 4, in float64: (images, concepts)."""
    sums = []
    for batch in loader.in_order("train", targets=True):
        own = [part.double().mean(dim=(2, 3)) for part in batch.targets[GRID]]
        contained = batch.targets[WHOLE_FRAME].present[:, :, 0, 0] > 0
        sums.append([part * contained if containing else part for part in own])
    return [torch.cat(part) for part in zip(*sums, strict=True)]


@pytest.mark.parametrize("containing", [False, True])
def test_all_places_that_fit_are_kept_and_add_up_to_the_mean_of_each_image(containing):
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone, without=(1, 5))
    rows = rows_of(sampled(loader, backbone, containing=containing), "4")
    for part, whole in zip(
        (rows.present, rows.labelled), exact(loader, containing=containing), strict=True
    ):
        sums = torch.zeros(12, 3, dtype=torch.float64)
        sums.index_add_(0, rows.images, (rows.weights[:, None] * part).double())
        torch.testing.assert_close(sums, whole, rtol=1e-5, atol=1e-7)
        assert (whole[1, 1] == 0) == (containing or part is rows.present)


def test_rows_are_the_activations_of_their_places():
    backbone = tiny_backbone()
    loader = tiny_data(backbone)
    kept = all_kept(sampled(loader, backbone), backbone)
    maps = [backbone(batch.inputs) for batch in loader.in_order("train")]
    for name, rows in kept.items():
        pixels = torch.cat([each[name] for each in maps]).movedim(1, -1).flatten(0, 2)
        torch.testing.assert_close(rows.activations, pixels)
        assert rows.images.tolist() == sorted(rows.images.tolist())


def test_places_without_truth_are_not_kept():
    """Of the first image all is labelled, of the last 15 columns of 48."""
    counts = torch.bincount(rows_of(sampled(backbone=tiny_backbone(("4",))), "4").images)
    assert counts[0] == 64
    assert counts[11] == 8 * 3  # cells of six columns


@pytest.mark.parametrize("containing", [False, True])
def test_sums_over_some_places_are_unbiased(containing):
    """Over many starts, for every concept; and as many are drawn as may be kept."""
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone, without=(1, 5), batch_size=12)
    sample = new_sample(backbone, loader, rows=150, containing=containing)
    (batch,) = loader.in_order("train", targets=True)
    starts, sums, counts = 200, torch.zeros(2, 3, dtype=torch.float64), []
    for k in range(starts):
        sample.start = k / starts
        _, places = sample._on_layer(batch, GRID)
        for part, drawn in zip(sums, (places.present, places.labelled), strict=True):
            part += (places.weights[:, None] * drawn).double().sum(dim=0) / 12 / starts
        counts.append(len(places.images))
    whole = torch.stack([part.mean(dim=0) for part in exact(loader, containing=containing)])
    torch.testing.assert_close(sums, whole, rtol=0.01, atol=0)
    assert 100 < np.mean(counts) <= 150
    assert len(set(counts)) > 1


def test_rare_concepts_have_several_times_the_rows_of_an_even_draw():
    backbone = tiny_backbone(("2",))
    loader = tiny_data(backbone)
    everything, some = (rows_of(sampled(loader, backbone, rows=n), "2") for n in (100_000, 400))
    share = everything.present.mean(dim=0)
    rare = share < 0.02  # eyes, brows, nose and mouth
    assert rare.sum() == 4
    assert (some.present.mean(dim=0)[rare] > 4 * share[rare]).all()


@dataclass(kw_only=True)
class WideFaces(ConceptData):
    """Faces side by side, as many as are asked for in each image."""

    name: str = "wide"
    count: int

    def open(self, split):
        return Wide(tiny_faces().open(split), self.count)


class Wide(Chosen):
    def __init__(self, dataset, count):
        super().__init__(dataset, dataset.concepts)
        self.count = count

    def image(self, index):
        return super().image(index).repeat(1, 1, self.count)

    def labels(self, index):
        return Labels(*(part.repeat(1, 1, self.count) for part in super().labels(index)))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("crop_mode", ["squash", "corner", "letterbox", "border", "center"])
def test_as_many_are_drawn_whatever_the_network_makes_of_an_image(crop_mode, count):
    """Where it is padded too; of what a crop leaves out nothing is known."""
    backbone = tiny_backbone(("2",), crop_mode=crop_mode)
    loader = tiny_data(backbone, WideFaces(count=count, grid=(24, 24)))
    sample = sampled(loader, backbone, rows=600, pixels=600)
    near = 0.5 if crop_mode == "center" else 0.04
    for kept in (sample.rows, sample.on_grid):
        assert len(DrawnRows.of(kept, "2").images) == pytest.approx(600, rel=near)


def test_all_places_that_fit_beside_padding_are_kept():
    backbone = tiny_backbone(("2",), crop_mode="letterbox")
    loader = tiny_data(backbone, WideFaces(count=2, grid=(24, 24)))
    assert len(rows_of(sampled(loader, backbone, rows=12 * 128), "2").images) == 12 * 128


def test_importance_is_one_on_average():
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone, without=(1,))
    for containing in (False, True):
        sample = new_sample(backbone, loader, containing=containing)
        total = 0.0
        for batch in loader.in_order("train", targets=True):
            present, labelled = batch.targets[GRID]
            if containing:
                contained = batch.targets[WHOLE_FRAME].present > 0
                present, labelled = present * contained, labelled * contained
            total += sample.importance(present, labelled).mean(dim=1).sum().item() / 12
        assert total == pytest.approx(1, rel=1e-4)


def test_as_many_are_drawn_of_images_that_show_more_than_those_of_training():
    """What is rare in training is everywhere in the images whose places are drawn."""
    backbone = tiny_backbone(("4",))
    rare, common = (uneven(backbone, without=own) for own in (tuple(range(2, 12)), ()))
    sample = ProbeSample(
        backbone,
        rare.splits["train"],
        common.splits["train"],
        MEMBERS,
        rows=150,
        pixels=0,
        grid=common.data.grid,
        containing=False,
        seed=0,
    )
    for batch in common.in_order("train", targets=True):
        sample.test_step(batch)
    assert 100 < len(rows_of(sample, "4").images) <= 165


def test_the_draw_depends_on_the_seed_alone():
    backbone = tiny_backbone()
    first, *others = (
        all_kept(sampled(uneven(backbone, batch_size=size), backbone, rows=200), backbone)
        for size in (4, 5, 12)
    )
    for other in others:
        for name, rows in first.items():
            for part in PARTS:
                torch.testing.assert_close(getattr(rows, part), getattr(other[name], part))
            torch.testing.assert_close(rows.activations, other[name].activations)
    again = rows_of(sampled(backbone=backbone, rows=200, seed=1), "2")
    assert again.images.shape != first["2"].images.shape or not torch.equal(
        again.weights, first["2"].weights
    )


def test_a_layer_alone_keeps_the_same_rows():
    together = rows_of(sampled(rows=200), "4")
    alone = rows_of(sampled(backbone=tiny_backbone(("4",)), rows=200), "4")
    for part, own in vars(together).items():
        assert torch.equal(own, getattr(alone, part))


def test_parts_of_a_batch_keep_the_same_rows():
    backbone, halved = tiny_backbone(), tiny_backbone()
    halved.images_at_once = 1
    whole, parts = (
        all_kept(sampled(backbone=each, rows=200, pixels=500), each) for each in (backbone, halved)
    )
    for name, rows in whole.items():
        for part, own in vars(rows).items():
            torch.testing.assert_close(own, getattr(parts[name], part))


@pytest.mark.parametrize("containing", [False, True])
def test_shares_are_those_of_a_survey(containing):
    backbone = tiny_backbone()
    loader = uneven(backbone, without=(1, 5))
    survey = Survey(backbone, 3, MEMBERS, transform="none", containing=containing)
    for batch in loader.in_order("train", targets=True):
        survey.test_step(batch)
    found = sampled(loader, backbone, containing=containing, rows=100).shares.compute()
    for own, reference in zip(found, survey.shares.compute(), strict=True):
        assert torch.equal(own, reference)


def test_pixels_of_the_common_grid_are_those_that_are_labelled_and_seen():
    backbone = tiny_backbone(crop_mode="center")
    loader = uneven(backbone, batch_size=12)
    sample = sampled(loader, backbone, pixels=12 * 24 * 24)
    rows = DrawnRows.of(sample.on_grid, "4")
    (batch,) = loader.in_order("train", targets=True)
    counted = batch.labelled & seen_cells(batch.frames, (24, 24))[:, None]
    image, row, column = counted.any(dim=1).nonzero(as_tuple=True)
    assert torch.equal(rows.images, image)
    assert torch.equal(rows.labelled, counted[image, :, row, column].float())
    assert torch.equal(rows.present, (batch.truth & counted)[image, :, row, column].float())
    on_grid = to_common_grid(backbone(batch.inputs)["4"], batch.frames, (24, 24))
    torch.testing.assert_close(rows.activations, on_grid[image, :, row, column])
    torch.testing.assert_close(rows.weights, torch.full((len(image),), 1 / 24**2))


def test_no_pixels_of_the_grid_are_kept_if_none_are_asked_for():
    assert sampled().on_grid.of("4") is None


def test_chances_have_all_digits_whatever_the_precision():
    kept = []
    for precision in ("32-true", "bf16-mixed"):
        backbone = tiny_backbone()
        loader = uneven(backbone)
        sample = new_sample(backbone, loader, rows=200, pixels=500)
        trainer = quiet_trainer(logger=False, enable_checkpointing=False, precision=precision)
        trainer.test(sample, loader.in_order("train", targets=True), verbose=False)
        kept.append([DrawnRows.of(part, "4") for part in (sample.rows, sample.on_grid)])
    for full, half in zip(*kept, strict=True):
        assert half.activations.dtype is torch.bfloat16
        torch.testing.assert_close(half.activations.float(), full.activations, rtol=0.1, atol=0.05)
        for part in PARTS:
            assert torch.equal(getattr(full, part), getattr(half, part))


def test_rows_of_a_layer_do_not_depend_on_which_others_there_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Conv2d(4, 30, 1), nn.ReLU())
    network = Network("two", model, tiny_backbone().preprocessing)
    loader = tiny_data(tiny_backbone())

    def rows(layers):
        backbone = FrozenBackbone(network, layers)
        loader.layer_grids = tuple(layer.grid for layer in backbone.layers)
        return rows_of(sampled(loader, backbone, rows=100), "1")

    alone, beside = rows(["1"]), rows(["1", "3"])
    assert 90 < len(alone.images) < 12 * 64
    assert torch.equal(alone.activations, beside.activations)
    assert torch.equal(alone.weights, beside.weights)


def test_pixels_are_as_many_as_asked_for_whatever_images_count_for_a_concept():
    backbone = tiny_backbone(("4",))
    loader = uneven(backbone, without=tuple(range(1, 12)))  # hair is shown by one image
    for containing in (False, True):
        sample = sampled(loader, backbone, pixels=400, containing=containing)
        on_grid = DrawnRows.of(sample.on_grid, "4")
        assert 300 < len(on_grid.images) < 500
