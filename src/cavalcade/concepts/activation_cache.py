"""Keeps the activations of a network on the disk, for repeated work on the same images."""

import gc
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.passes import BackbonePass, TrainerFactory
from cavalcade.data import ConceptDataModule
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.cached import (
    META,
    CachedActivations,
    StoredMaps,
    file_of,
    whole_entry,
)
from cavalcade.errors import InputError
from cavalcade.folders import digest_of, sync
from cavalcade.locks import is_held, locked
from cavalcade.version import __version__

FRAME_BYTES = 100  # at most, of each image beside its maps
# an entry, or one that is being written; no other folder is ever removed
ENTRY = re.compile(r"(\.)?([^.].*-(?:train|val|test)-[0-9a-f]{12})(?(1)\.partial)")
LAYER_BYTES = 300  # likewise of each layer
MAKERS = ("torch", "torchvision", "timm", "pillow")  # whose versions may change maps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActivationCache:
    """A folder of activations, one entry for each network and split.

    What an entry is called is a digest of all that decides on what it holds: weights and
    architecture, preprocessing, layers, the images of the split, how many are in a batch,
    precision, device and the versions of what computes it. So an entry is never stale: after a
    change of any of them another one is looked for. Activations are kept in the type in which
    the network gives them, bfloat16 under `bf16-mixed`, so that results are those without a
    cache. What can still differ are last bits: with another machine or number of threads, and
    in a fit by stream, whose shuffled images are not in the batches from which they are kept.

    Attributes:
        folder: where entries lie.
        gigabytes: the most that all entries take, those that are being written too; those that
            were not used for longest go, unless a program has them open, of which the file
            system's locks tell. Without locks none goes.
    """

    folder: Path
    gigabytes: int | float = 50

    def __post_init__(self) -> None:
        if not isinstance(self.gigabytes, int | float) or not self.gigabytes > 0:
            raise InputError(f"cache_gigabytes is {self.gigabytes!r}; give a number above 0")

    def serve(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        new_trainer: TrainerFactory,
        precision: object,
    ) -> None:
        """Have a data module load activations, of every split that has or gets an entry.

        Those that are not there are computed in one pass. A split whose activations are more
        than may be kept is left as it is, and a line says so.

        Raises:
            InputError: with more than one process, or if nothing can be written.
        """
        if processes.count() > 1:
            raise InputError("cache works with one process; set cache=null, or trainer.devices=1")
        data.cached.clear()  # of another network, maybe
        made_by = {"cavalcade": __version__} | {name: version(name) for name in MAKERS}
        common = {
            "network": backbone.identity(),
            "precision": precision,
            "batch_size": data.batch_size,  # alone, an image may be added up in another order
            "device": new_trainer().strategy.root_device.type,
            "versions": made_by,
        }
        layers: list[StoredMaps] = []  # the same in all splits
        for split, dataset in data.splits.items():
            key = common | {"images": dataset.pictures_fingerprint()}
            place = self.folder / f"{backbone.label}-{split}-{digest_of(key)}"
            with locked(place):
                entry = whole_entry(place)
                if entry is None:
                    for left in (place, _partial(place)):
                        shutil.rmtree(left, ignore_errors=True)
                    layers = layers or _stored(backbone, data, split, new_trainer)
                    if not self._make_room(place, len(dataset), layers):
                        continue
                    _write(place, backbone, data, split, new_trainer, layers)
                    entry = CachedActivations(place)
                os.utime(place)
            data.cached[split] = entry
            log.info("%s: activations for %s images from %s", backbone.label, split, place)

    def _make_room(self, place: Path, num_images: int, layers: Sequence[StoredMaps]) -> bool:
        """Remove what was not used for longest; False if there is no room beside what is used."""
        maps = sum(layer.bytes_per_image for layer in layers)
        needed = num_images * (maps + FRAME_BYTES) + len(layers) * LAYER_BYTES
        gc.collect()  # trainers of passes that are over hold what they read, in cycles
        sizes = self._sizes()
        idle = {
            path: size
            for path, size in sizes.items()
            if not path.name.startswith(".") and not is_held(path / META)
        }
        in_use = sum(sizes.values()) - sum(idle.values())
        limit = self.gigabytes * 1e9 - in_use
        free = shutil.disk_usage(self.folder).free + sum(idle.values())
        room = min(limit, free)
        if needed <= room:
            for oldest in list(idle):
                if sum(idle.values()) + needed <= room:
                    break
                if _removed(oldest):
                    log.info(
                        "%s: removed from the cache, to make room for %s", oldest.name, place.name
                    )
                    del idle[oldest]
        if sum(idle.values()) + needed <= room:
            return True
        log.warning(
            "%s: not cached, since its activations take %.3g GB: %.3g GB are free, and "
            "cache_gigabytes=%g allows no more beside the %.3g GB in use",
            *(place.name, needed / 1e9, free / 1e9, self.gigabytes, in_use / 1e9),
        )
        return False

    def _sizes(self) -> dict[Path, int]:
        """Bytes of each entry, those that were not used for longest first.

        Those that are being written count, and go if nobody writes them any more.
        """
        found = []
        for path in self.folder.iterdir():
            name = ENTRY.fullmatch(path.name)
            if name is None or (name[1] and _removed(path)):
                continue
            with suppress(FileNotFoundError):  # another program removes it, or it is whole now
                found.append((path.stat().st_mtime, path, _size(path)))
        return {path: size for _, path, size in sorted(found)}


class _Fill(BackbonePass):
    """One pass that writes the activations of every image."""

    phase = "storing activations"

    def __init__(self, backbone: FrozenBackbone, maps: Sequence[Tensor]) -> None:
        super().__init__(backbone)
        self.maps = tuple(maps)
        self.frames: dict[int, list[float]] = {}

    def test_step(self, batch: ConceptBatch) -> None:
        """Write those of one batch."""
        for part, taps in self.in_parts(batch, self.activations):
            where = part.positions.cpu()
            for stored, tap in zip(self.maps, taps.values(), strict=True):
                stored[where] = tap.cpu()
            self.frames |= zip(where.tolist(), part.frames.tolist(), strict=True)


class _FirstMaps(BackbonePass):
    """Looks at what one image gives: shapes and types."""

    phase = "measuring activations"

    def test_step(self, batch: ConceptBatch) -> None:
        """Of the first image."""
        taps = self.activations(batch.part(0, 1))
        self.layers = [
            StoredMaps(name, (maps.shape[1], maps.shape[2], maps.shape[3]), maps.dtype)
            for name, maps in taps.items()
        ]


def _stored(
    backbone: FrozenBackbone, data: ConceptDataModule, split: str, new_trainer: TrainerFactory
) -> list[StoredMaps]:
    first = _FirstMaps(backbone)
    new_trainer(limit_test_batches=1).test(first, data.in_order(split), verbose=False)
    return first.layers


def _write(
    place: Path,
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    split: str,
    new_trainer: TrainerFactory,
    layers: Sequence[StoredMaps],
) -> None:
    """Write an entry beside its place, and rename it when it is whole."""
    partial = _partial(place)
    partial.mkdir(parents=True)
    num_images = len(data.splits[split])
    try:
        for k, layer in enumerate(layers):
            _reserve(partial / file_of(k), num_images * layer.bytes_per_image)
        maps = [
            layer.opened(partial / file_of(k), num_images, writable=True)
            for k, layer in enumerate(layers)
        ]
        fill = _Fill(backbone, maps)
        new_trainer().test(fill, data.in_order(split), verbose=False)
        frames = [fill.frames[index] for index in range(num_images)]
        meta: dict[str, Any] = {"frames": frames, "layers": [_described(own) for own in layers]}
        (partial / META).write_text(json.dumps(meta), encoding="utf-8")
        del fill, maps
        for path in partial.iterdir():
            sync(path)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _reserve(path: Path, size: int) -> None:
    """Take the disk that a file will need: a disk that fills up later would kill the process."""
    try:
        with path.open("wb") as file:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        raise InputError(
            f"activations cannot be written to {path.parent.parent} ({error}); set cache=null, or "
            "another folder"
        ) from error


def _described(layer: StoredMaps) -> dict[str, Any]:
    return {**vars(layer), "dtype": str(layer.dtype).removeprefix("torch.")}


def _partial(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")


def _removed(path: Path) -> bool:
    """Remove an entry, also one of which a part was written, unless a program is at work on it."""
    name = ENTRY.fullmatch(path.name)
    assert name is not None
    with locked(path.with_name(name[2]), wait=False) as alone:
        if not alone or is_held(path / META):
            return False
        (path / META).unlink(missing_ok=True)  # first: what a kill leaves is no entry
        shutil.rmtree(path, ignore_errors=True)
    return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
