"""Batches hold what a network sees and the truth there, in an order that can be repeated."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.testing import assert_close

from cavalcade.data import ConceptData, ConceptDataModule, ConceptDataset, Labels
from cavalcade.data.batches import ConceptBatch, NetworkView, Targets, collate
from cavalcade.data.contents import Contents
from cavalcade.data.geometry import Frame, area_average, at_cell_centres
from cavalcade.errors import InputError

FRAME = Frame(0.125, -0.25, 0.875, 1.0)
GRID, LAYER_GRIDS = (8, 12), ((4, 6), (3, 5))
COUNTS = {"train": 11, "val": 5, "test": 7}


class Scenes(ConceptDataset):
    """Random pictures; `void` is per image, per concept, or absent."""

    concepts = ("one", "two", "three")

    def __init__(self, count, void="per image"):
        self.ids = self.groups = tuple(f"{i:02d}" for i in range(count))
        self.void = void

    def draw(self, index):
        rng = np.random.default_rng(index)
        image = torch.from_numpy(rng.integers(0, 256, (3, 10, 14), np.uint8))
        return image, *torch.from_numpy(rng.random((2, 3, 10, 14)) > 0.4)

    def image(self, index):
        return self.draw(index)[0]

    def labels(self, index):
        _, masks, known = self.draw(index)
        labelled = {
            "per image": known[:1].expand(3, -1, -1),
            "per concept": known,
            "absent": torch.tensor(True).expand(3, 10, 14),
        }[self.void]
        return Labels(masks, labelled)


@dataclass(kw_only=True)
class SceneData(ConceptData):
    name: str = "scenes"
    grid: tuple[int, int] = GRID

    def open(self, split):
        return Scenes(COUNTS[split])


def preprocess(image):
    """As a network that halves the image, cuts it above and pads it to the left."""
    return image[:, ::2, ::2] / 255, FRAME


def view(void="per image", preprocess=preprocess):
    return NetworkView(Scenes(4, void), preprocess, GRID, LAYER_GRIDS)


def module(**settings):
    return ConceptDataModule(SceneData(), preprocess, LAYER_GRIDS, batch_size=4, **settings)


def positions(loader):
    return torch.cat([batch.positions for batch in loader]).tolist()


def epoch(data, number):
    """Positions in the training order of one epoch, set as Lightning does."""
    loader = data.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(number)
    return positions(loader)


def image_of(batch, i):
    """The i-th image of a batch, as a batch."""
    one = slice(i, i + 1)
    targets = {
        grid: Targets(both.present[one], both.labelled[one]) for grid, both in batch.targets.items()
    }
    parts = (targets if isinstance(part, dict) else part[one] for part in batch)
    return ConceptBatch(*parts)


def assert_same(one, two):
    for name in ("inputs", "frames", "truth", "labelled", "positions"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.targets.keys() == two.targets.keys()
    for grid in one.targets:
        assert torch.equal(one.targets[grid].present, two.targets[grid].present)
        assert torch.equal(one.targets[grid].labelled, two.targets[grid].labelled)


def test_an_item_is_a_batch_of_one_image():
    sample, item = Scenes(4)[2], view()[2]
    assert len(view()) == 4
    assert torch.equal(item.inputs, preprocess(sample.image)[0][None])
    assert_close(item.frames, torch.tensor([FRAME]))
    assert item.positions.tolist() == [2]
    assert torch.equal(item.truth, at_cell_centres(sample.masks, GRID)[None])
    assert torch.equal(item.labelled, at_cell_centres(sample.labelled, GRID)[None])
    assert tuple(item.targets) == LAYER_GRIDS


@pytest.mark.parametrize("void", ["per image", "per concept", "absent"])
def test_targets_are_areas_where_the_truth_is_known(void):
    sample, item = Scenes(4, void)[1], view(void)[1]
    for grid in LAYER_GRIDS:
        target = item.targets[grid]
        present = area_average(sample.masks & sample.labelled, FRAME, grid)
        assert_close(target.present[0], present)
        assert_close(target.labelled[0], area_average(sample.labelled.contiguous(), FRAME, grid))
        assert target.present.shape == target.labelled.shape == (1, 3, *grid)
        assert (target.present <= target.labelled + 1e-6).all()


def test_what_lies_in_void_changes_no_target():
    sample = Scenes(4)[0]

    class Flipped(Scenes):
        def labels(self, index):
            masks, labelled = super().labels(index)
            return Labels(masks ^ ~labelled, labelled)

    flipped = NetworkView(Flipped(4), preprocess, GRID, LAYER_GRIDS)
    assert not torch.equal(flipped.dataset[0].masks, sample.masks)
    for grid in LAYER_GRIDS:
        assert torch.equal(flipped[0].targets[grid].present, view()[0].targets[grid].present)


def test_a_grid_that_two_layers_share_is_averaged_once():
    shared = NetworkView(Scenes(4), preprocess, GRID, [(3, 5), (4, 6), (3, 5)])
    assert tuple(shared[0].targets) == ((3, 5), (4, 6))
    assert NetworkView(Scenes(4), preprocess, GRID, ())[0].targets == {}


def test_collate_joins_along_the_images():
    items = [view()[i] for i in (3, 0, 2)]
    batch = collate(items)
    assert batch.inputs.shape == (3, 3, 5, 7)
    assert batch.frames.shape == (3, 4)
    assert batch.truth.shape == batch.labelled.shape == (3, 3, *GRID)
    assert batch.positions.tolist() == [3, 0, 2]
    for i, item in enumerate(items):
        assert_same(image_of(batch, i), item)


@pytest.mark.parametrize("split", COUNTS)
def test_in_order_keeps_the_order(split):
    assert positions(module().in_order(split)) == list(range(COUNTS[split]))
    assert positions(module().in_order(split, targets=True)) == list(range(COUNTS[split]))


def test_only_what_is_fitted_and_validated_has_targets():
    data = module()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert set(LAYER_GRIDS) <= set(next(iter(loader)).targets)
    for loader in (data.test_dataloader(), data.in_order("train")):
        assert next(iter(loader)).targets == {}


def test_validation_and_test_keep_the_order():
    assert positions(module().val_dataloader()) == list(range(COUNTS["val"]))
    assert positions(module().test_dataloader()) == list(range(COUNTS["test"]))


def test_training_order_depends_on_seed_and_epoch_alone():
    first = [epoch(module(seed=3), number) for number in range(3)]
    torch.manual_seed(99)
    data = module(seed=3)
    assert [epoch(data, number) for number in (2, 1, 0)] == first[::-1]
    assert epoch(module(seed=4), 0) not in first
    assert len({tuple(order) for order in first}) == 3
    for order in first:
        assert sorted(order) == list(range(COUNTS["train"]))


class Recorder(LightningModule):
    """Notes which images it meets in each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.met = {}

    def training_step(self, batch, _):
        self.met.setdefault(self.current_epoch, []).extend(batch.positions.tolist())
        return self.weight * batch.inputs.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_sets_the_epoch(tmp_path):
    recorder, data = Recorder(), module(seed=3)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, train_dataloaders=data.train_dataloader())
    assert recorder.met == {number: epoch(data, number) for number in range(3)}


def test_workers_change_no_batch():
    """Neither in order nor shuffled."""
    for name in ("train_dataloader", "val_dataloader"):
        alone, helped = (getattr(module(num_workers=n), name)() for n in (0, 2))
        for one, two in zip(alone, helped, strict=True):
            assert_same(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; give a whole number from 1 up"),
        ({"batch_size": True}, "batch_size is True; give a whole number from 1 up"),
        ({"num_workers": -1}, "num_workers is -1; give a whole number from 0 up"),
        ({"seed": -1}, "seed is -1; give a whole number from 0 to"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        ConceptDataModule(SceneData(), preprocess, LAYER_GRIDS, **settings)


def test_whatever_is_wrong_with_a_sample_is_said_when_the_module_is_made():
    class Damaged(SceneData):
        def open(self, split):
            return Spoilt(COUNTS[split]) if split == "val" else super().open(split)

    class Spoilt(Scenes):
        def image(self, index):
            raise InputError(f"{self.ids[index]} cannot be read")

    with pytest.raises(InputError, match="00 cannot be read"):
        ConceptDataModule(Damaged(), preprocess, LAYER_GRIDS)
    ConceptDataModule(Damaged(), preprocess, LAYER_GRIDS, splits=("train", "test"))


def test_batches_are_the_same_from_compact_labels_and_from_those_read_again():
    for void in ("per image", "per concept", "absent"):
        dataset = Scenes(4, void)
        kept = Contents(dataset)
        assert len(kept.compact) == 4
        for index in range(4):
            one, two = (NetworkView(d, preprocess, GRID, LAYER_GRIDS) for d in (dataset, kept))
            assert_same(one[index], two[index])


def test_a_bad_split_is_named_when_the_module_is_made():
    class Broken(SceneData):
        def open(self, split):
            raise InputError(f"no {split}")

    with pytest.raises(InputError, match="no train"):
        ConceptDataModule(Broken(), preprocess, LAYER_GRIDS)
