"""Computes the activations of a network for a data set, and writes them as entries of a cache."""

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.passes import BackbonePass, TrainerFactory
from cavalcade.data import ConceptDataModule
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.cached import CachedLayer, StoredLayer, whole_entry
from cavalcade.errors import InputError, counted
from cavalcade.folders import sync

META_BYTES = 300  # at most


class Fill(BackbonePass):
    """One pass that writes the activations of every image.

    Attributes:
        stored: of each layer that is kept, its maps and frames.
        seen: images that were written.
    """

    phase = "storing activations"

    def __init__(
        self, backbone: FrozenBackbone, stored: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__(backbone)
        self.stored = dict(stored)
        self.seen = 0

    def test_step(self, batch: ConceptBatch) -> None:
        """Write those of one batch."""
        for part, taps in self.in_parts(batch, self.activations):
            where = part.positions.cpu()
            for name, (maps, frames) in self.stored.items():
                maps[where] = taps[name].cpu()
                frames[where] = part.frames.cpu()
            self.seen += len(where)


class FirstMaps(BackbonePass):
    """Looks at what one image gives: shapes and types."""

    phase = "measuring activations"

    def test_step(self, batch: ConceptBatch) -> None:
        """Of the first image."""
        self.layers = {
            name: StoredLayer(name, (maps.shape[1], maps.shape[2], maps.shape[3]), maps.dtype)
            for name, maps in self.activations(batch.part(0, 1)).items()
        }


@dataclass
class ActivationWriter:
    """Computes the activations of a network for a data set, and writes them.

    Attributes:
        backbone: the network.
        data: the images as it sees them.
        new_trainer: of the passes.
    """

    backbone: FrozenBackbone
    data: ConceptDataModule
    new_trainer: TrainerFactory

    @cached_property
    def layers(self) -> dict[str, StoredLayer]:
        """What one image shows of each; it is the same in all splits."""
        first = FirstMaps(self.backbone)
        images = self.data.in_order(next(iter(self.data.splits)))
        self.new_trainer(limit_test_batches=1).test(first, images, verbose=False)
        return first.layers

    def whole_entries(self, split: str, places: Mapping[str, Path]) -> dict[str, CachedLayer]:
        """Those that are there, whole, and of this network and split."""
        shapes = {own.name: (own.channels, *own.grid) for own in self.backbone.layers}
        size = len(self.data.splits[split])
        found = {
            name: whole_entry(place, name, shapes[name], size) for name, place in places.items()
        }
        return {name: entry for name, entry in found.items() if entry is not None}

    def described(self, split: str, names: Collection[str]) -> str:
        """Activations of some layers for one split, in words."""
        layers = counted(len(names), "layer")
        images = counted(len(self.data.splits[split]), f"{split} image")
        return f"{self.backbone.label}: activations of {layers} for {images}"

    def size(self, split: str, names: Collection[str]) -> int:
        """Bytes that entries of some layers take."""
        per_image = sum(self.layers[name].bytes_per_image for name in names)
        return len(names) * META_BYTES + len(self.data.splits[split]) * per_image

    @property
    def size_of_all(self) -> int:
        """Likewise of all layers and splits."""
        return sum(self.size(split, self.layers) for split in self.data.splits)

    def write(self, split: str, places: Mapping[str, Path]) -> None:
        """Write entries of some layers beside their places, and rename them when they are whole.

        Raises:
            InputError: if the disk has no room, or refuses them.
        """
        num_images = len(self.data.splits[split])
        partials = {name: partial_of(place) for name, place in places.items()}
        try:
            for name, partial in partials.items():
                with refusals(partial.parent):
                    partial.mkdir(parents=True)
                for path, size in self.layers[name].files(partial, num_images).items():
                    _reserve(path, size)
            stored = {
                name: self.layers[name].opened(partial, num_images, writable=True)
                for name, partial in partials.items()
            }
            fill = Fill(self.backbone, stored)
            self.new_trainer().test(fill, self.data.in_order(split), verbose=False)
            assert fill.seen == num_images
            del fill, stored
            for name, partial in partials.items():
                with refusals(partial.parent):
                    self.layers[name].describe(partial, num_images)
                    for path in partial.iterdir():
                        sync(path)
                    partial.rename(places[name])
        except BaseException:
            for partial in partials.values():
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _reserve(path: Path, size: int) -> None:
    """Take the disk that a file will need: a disk that fills up later would kill the process."""
    with refusals(path.parent.parent), path.open("wb") as file:
        if sys.platform == "linux":
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """What a disk refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"activations cannot be written to {folder} ({error}); set cache=null, or another "
            "folder"
        ) from error


def partial_of(place: Path) -> Path:
    """Where an entry is written before it is whole."""
    return place.with_name(f".{place.name}.partial")
