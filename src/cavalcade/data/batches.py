"""From samples to batches as one network sees them: input, frame, truth, targets."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cavalcade.data.cached import CachedActivations
from cavalcade.data.contents import concept_table, read_splits
from cavalcade.data.geometry import Frame, area_averages, at_cell_centres
from cavalcade.data.left_out import table_of
from cavalcade.data.sample import SPLITS, ConceptData, ConceptDataset
from cavalcade.data.shared_batches import SharedBatches
from cavalcade.errors import check_whole
from cavalcade.meta_fields import MOST_SEED

Preprocess = Callable[[UInt8[Tensor, "3 _ _"]], tuple[Float[Tensor, "3 _ _"], Frame]]
Grid = tuple[int, int]
WHOLE_FRAME: Grid = (1, 1)


class Targets(NamedTuple):
    """Soft targets on one layer's grid, as shares of each cell's area.

    The target of a cell is `present / labelled`; cells without labels weigh nothing.
    """

    present: Float[Tensor, "*images concepts rows columns"]
    """Share where the concept is and its truth is known."""
    labelled: Float[Tensor, "*images concepts rows columns"]
    """Share where the truth of the concept is known."""


class ConceptBatch(NamedTuple):
    """A batch of images as they reach one network, with the truth on two kinds of grid."""

    inputs: Float[Tensor, "images 3 height width"]
    frames: Float[Tensor, "images 4"]
    truth: Bool[Tensor, "images concepts rows columns"]
    """On the common grid of the data set."""
    labelled: Bool[Tensor, "images concepts rows columns"]
    targets: dict[Grid, Targets]
    """For each grid of the network's layers, and for the `WHOLE_FRAME` as one cell."""
    positions: Int[Tensor, " images"]
    """Of each image in its split; -1 in a batch that only keeps a process busy."""
    activations: dict[str, Tensor] = {}  # noqa: RUF012
    """Maps (images, channels, rows, columns) of every layer, if they are stored: no inputs then."""

    def part(self, first: int, last: int) -> "ConceptBatch":
        """Some of the images."""
        some = slice(first, last)
        return ConceptBatch(
            self.inputs[some],
            self.frames[some],
            self.truth[some],
            self.labelled[some],
            {grid: Targets(*(part[some] for part in own)) for grid, own in self.targets.items()},
            self.positions[some],
            {name: maps[some] for name, maps in self.activations.items()},
        )


class NetworkView(Dataset[ConceptBatch]):
    """A split as one network sees it; every item is a batch of one image."""

    def __init__(
        self,
        dataset: ConceptDataset,
        preprocess: Preprocess,
        grid: Sequence[int],
        layer_grids: Sequence[Grid],
        cached: CachedActivations | None = None,
    ) -> None:
        self.dataset, self.cached = dataset, cached
        self.preprocess = preprocess
        self.grid = grid
        self.layer_grids = tuple(dict.fromkeys(layer_grids))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ConceptBatch:
        """An image; at -1 - index the same one, with a position of -1."""
        place = index if index >= 0 else -1 - index
        inputs, frame, activations = self._seen(place)
        frames = torch.tensor([frame])
        frame = Frame(*frames[0].tolist())  # in float32, as a cache holds it
        labels = self.dataset.labels(place)
        shares = zip(
            area_averages(labels.masks & labels.labelled, frame, self.layer_grids),
            _labelled_shares(labels.labelled, frame, self.layer_grids),
            strict=True,
        )
        targets = {
            grid: Targets(present[None], labelled[None])
            for grid, (present, labelled) in zip(self.layer_grids, shares, strict=True)
        }
        return ConceptBatch(
            inputs[None],
            frames,
            at_cell_centres(labels.masks, self.grid)[None],
            at_cell_centres(labels.labelled, self.grid)[None],
            targets,
            torch.tensor([max(index, -1)]),
            activations,
        )

    def _seen(self, index: int) -> tuple[Tensor, Frame, dict[str, Tensor]]:
        """The network's input and its frame; where activations are stored, those instead."""
        if self.cached is None:
            return *self.preprocess(self.dataset.image(index)), {}
        return torch.empty(3, 0, 0), self.cached.frame(index), self.cached.maps(index)


def _labelled_shares(labelled: Tensor, frame: Frame, grids: Sequence[Grid]) -> list[Tensor]:
    if labelled.stride(0) == 0:  # one map stands for all concepts: average it once
        averages = area_averages(labelled[:1], frame, grids)
        return [average.expand(len(labelled), -1, -1) for average in averages]
    return area_averages(labelled, frame, grids)


def collate(batches: Sequence[ConceptBatch]) -> ConceptBatch:
    """Join batches along the images."""
    inputs, frames, truth, labelled, targets, positions, activations = zip(*batches, strict=True)
    joined = {
        grid: Targets(*(torch.cat(part) for part in zip(*(t[grid] for t in targets), strict=True)))
        for grid in targets[0]
    }
    return ConceptBatch(
        torch.cat(inputs),
        torch.cat(frames),
        torch.cat(truth),
        torch.cat(labelled),
        joined,
        torch.cat(positions),
        {name: torch.cat([maps[name] for maps in activations]) for name in activations[0]},
    )


class ConceptDataModule(LightningDataModule):
    """Loads the splits of a data set as one network sees them.

    The training split is shuffled by the seed and the epoch alone, so that a resumed fit
    meets the same batches. Every other pass goes through a split in its order.

    Where the activations of a split are `cached`, they are loaded in place of its images.

    Every sample of the splits that are named is read and checked when the module is made, so
    that whatever is wrong with one is said before anything starts. See `contents.read_splits`.
    """

    def __init__(
        self,
        data: ConceptData,
        preprocess: Preprocess,
        layer_grids: Sequence[Grid],
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        splits: Sequence[str] = SPLITS,
    ) -> None:
        super().__init__()
        self.data = data
        self.preprocess = preprocess
        self.layer_grids = tuple(layer_grids)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        check_whole("batch_size", batch_size, 1)
        check_whole("num_workers", num_workers, 0)
        check_whole("seed", seed, 0, MOST_SEED)
        self.splits = read_splits(data, splits)
        self.cached: dict[str, CachedActivations] = {}

    def concept_table(self) -> pd.DataFrame:
        """How often each concept is shown in each split; see `contents.concept_table`."""
        return concept_table(self.splits)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each split."""
        return {split: dataset.fingerprint() for split, dataset in self.splits.items()}

    @property
    def left_out(self) -> pd.DataFrame:
        """What could not be read, with `data.on_error=skip`; see `left_out.table_of`."""
        return table_of(self.data, {split: own.left_out for split, own in self.splits.items()})

    def in_order(self, split: str, *, targets: bool = False) -> DataLoader[ConceptBatch]:
        """All images of a split in order; with targets on the layers' grids if asked."""
        return self._loader(split, self._target_grids if targets else ())

    def train_dataloader(self, epoch: int = 0) -> DataLoader[ConceptBatch]:
        """The training split in a new order each epoch.

        Args:
            epoch: the first. Lightning tells it as well, but of a fit that goes on only after
                the processes that load images have asked for their order.
        """
        return self._loader("train", self._target_grids, shuffle=True, epoch=epoch)

    def val_dataloader(self) -> DataLoader[ConceptBatch]:
        """The validation split in order, with targets."""
        return self.in_order("val", targets=True)

    def test_dataloader(self) -> DataLoader[ConceptBatch]:
        """The test split in order."""
        return self.in_order("test")

    @property
    def _target_grids(self) -> tuple[Grid, ...]:
        return (*self.layer_grids, WHOLE_FRAME)

    def _loader(
        self, split: str, layer_grids: Sequence[Grid], *, shuffle: bool = False, epoch: int = 0
    ) -> DataLoader[ConceptBatch]:
        view = NetworkView(
            self.splits[split],
            self.preprocess,
            self.data.grid,
            layer_grids,
            self.cached.get(split),
        )
        batches = SharedBatches(len(view), self.batch_size, self.seed if shuffle else None)
        batches.sampler.set_epoch(epoch)
        return DataLoader(
            view,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
        )
