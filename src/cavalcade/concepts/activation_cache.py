"""Keeps the activations of a network on the disk, for repeated work on the same images."""

import gc
import logging
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.activation_writer import ActivationWriter, partial_of, refusals
from cavalcade.concepts.passes import TrainerFactory
from cavalcade.data import ConceptDataModule
from cavalcade.data.cached import (
    FRAMES,
    MAPS,
    META,
    CachedActivations,
    CachedLayer,
)
from cavalcade.errors import InputError, counted
from cavalcade.folders import digest_of
from cavalcade.locks import is_held, locked, nobody_holds
from cavalcade.version import __version__

# an entry, or one that is being written; no other folder is ever removed
ENTRY = re.compile(r"(\.)?([^.].*-(?:train|val|test)-[0-9a-f]{12})(?(1)\.partial)")
MAKERS = ("torch", "torchvision", "timm", "ultralytics", "pillow")  # whose versions may change maps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActivationCache:
    """A folder of activations, one entry for each layer and split.

    What an entry is called is a digest of all that decides on what it holds: weights and
    architecture, preprocessing, layer, the images of the split, how many are in a batch,
    precision, device and the versions of what computes it. So an entry is never stale: after a
    change of any of them another one is looked for. What is read is held against its checksum,
    and made again where it is damaged. Activations are kept in the type in which
    the network gives them, bfloat16 under `bf16-mixed`, so that results are those without a
    cache. What can still differ are last bits: with another machine or number of threads, and
    in a fit by stream, whose shuffled images are not in the batches from which they are kept.

    A folder that cannot be written to serves the splits of which it holds all layers.

    Attributes:
        folder: where entries lie.
        gigabytes: the most that all entries take, those that are being written too; those that
            were not used for longest go, unless a program has them open, of which the file
            system's locks tell: what is too much goes later. Without locks none goes.
    """

    folder: Path
    gigabytes: int | float = 50

    def __post_init__(self) -> None:
        number = isinstance(self.gigabytes, int | float) and not isinstance(self.gigabytes, bool)
        if not number or not self.gigabytes > 0:
            raise InputError(f"cache_gigabytes is {self.gigabytes!r}; give a number above 0")
        if not self._nearest.is_dir():
            raise InputError(
                f"cache is {str(self.folder)!r}, but {self._nearest} is a file; give a folder"
            )
        if processes.count() > 1:
            raise InputError("cache works with one process; set cache=null, or trainer.devices=1")

    @property
    def _nearest(self) -> Path:
        """The folder, or the nearest above it that exists."""
        return next(path for path in (self.folder, *self.folder.parents) if path.exists())

    def serve(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        new_trainer: TrainerFactory,
        precision: object,
    ) -> None:
        """Have a data module load activations, of every split that has or gets entries.

        Those that are not there are computed in one pass. A split whose activations are more
        than may be kept is left as it is, and a line says so.

        Raises:
            InputError: if nothing can be written.
        """
        data.cached.clear()  # of another network, maybe
        common = {
            "precision": precision,
            "batch_size": data.batch_size,  # alone, an image may be added up in another order
            "device": new_trainer().strategy.root_device.type,
            "versions": {"cavalcade": __version__} | _versions(),
        }
        writer = ActivationWriter(backbone, data, new_trainer)
        taps = backbone.tap_identities()
        for split, dataset in data.splits.items():
            pictures = common | {"images": dataset.pictures_fingerprint()}
            places = {
                name: self.folder / f"{backbone.label}-{split}-{digest_of(tap | pictures)}"
                for name, tap in taps.items()
            }
            activations = self._activations(writer, split, places)
            if activations is not None:
                data.cached[split] = activations
        if self._is_writable():
            self._keep_within()

    def release(self, data: ConceptDataModule) -> None:
        """Let other programs remove what a data module has used, and hold to the bound."""
        data.cached.clear()
        if self._is_writable():
            self._keep_within()

    def _activations(
        self, writer: ActivationWriter, split: str, places: Mapping[str, Path]
    ) -> CachedActivations | None:
        """Those of one split, after layers that are not there are written; None if they cannot be.

        Args:
            writer: computes them.
            split: its name.
            places: of the entry of each layer, in execution order.
        """
        writable = self._is_writable()
        with ExitStack() as others_wait:
            if writable:
                for place in sorted(places.values()):  # in one order, or two wait for ever
                    others_wait.enter_context(locked(place))
            there = [name for name, place in places.items() if (place / META).exists()]
            if there:  # said first: it takes as long as the disk does
                log.info("%s are read from %s", writer.described(split, there), self.folder)
            layers = writer.whole_entries(
                split, places
            )  # of which none is removed while others wait
            missing = {name: place for name, place in places.items() if name not in layers}
            if missing and not writable:
                lacking = writer.described(split, missing)
                log.warning(
                    "%s are not in %s, which cannot be written to: those images are computed",
                    *(lacking, self.folder),
                )
                return None
            if missing:
                for place in missing.values():
                    for left in (place, partial_of(place)):  # damaged, or half written
                        _clear(left)
                size = writer.size(split, missing)
                what = f"{writer.described(split, missing)} ({size / 1e9:.3g} GB)"
                if not self._has_room(size, what, writer):
                    return None
                log.info("%s are stored in %s", what, self.folder)
                writer.write(split, missing)
                layers |= {name: CachedLayer(place) for name, place in missing.items()}
            for place in places.values():
                with suppress(OSError):  # a folder that cannot be written to
                    os.utime(place)
        return CachedActivations([layers[name] for name in places])

    def _has_room(self, needed: int, who: str, writer: ActivationWriter) -> bool:
        """Remove what was not used for longest; False if there is no room beside what is used.

        Args:
            needed: bytes.
            who: wants them, for the log.
            writer: knows what all splits need.
        """
        if self._fits(needed):
            return True
        idle, in_use = self._idle()
        limit = self.gigabytes * 1e9 - in_use
        free = shutil.disk_usage(self.folder).free + sum(idle.values())
        room = min(limit, free)
        if needed <= room:
            self._remove_oldest(idle, room - needed)
        if sum(idle.values()) + needed <= room:
            return True
        if free < limit:
            log.warning(
                "%s are not cached: %.3g GB of disk are free; make room, or set cache= to another",
                *(who, free / 1e9),
            )
        else:
            log.warning(
                "%s are not cached: cache_gigabytes=%g allows no more beside the %.3g GB that this "
                "visit and other programs use; all of this visit takes %.3g GB",
                *(who, self.gigabytes, in_use / 1e9, 1.005 * writer.size_of_all / 1e9),
            )
        return False

    def _fits(self, needed: int) -> bool:
        """Whether some bytes have room beside all that is there."""
        total = sum(self._sizes().values()) + needed
        return total <= self.gigabytes * 1e9 and needed <= shutil.disk_usage(self.folder).free

    def _keep_within(self) -> None:
        """Remove what was not used for longest, until the rest is within the bound."""
        if self._fits(0):
            return
        idle, in_use = self._idle()
        self._remove_oldest(idle, self.gigabytes * 1e9 - in_use)
        if in_use > self.gigabytes * 1e9:
            log.warning(
                "this visit and other programs use %.3g GB of %s, more than cache_gigabytes=%g: "
                "what does not fit goes when it is not used any more",
                *(in_use / 1e9, self.folder, self.gigabytes),
            )

    def _idle(self) -> tuple[dict[Path, int], int]:
        """Bytes of each entry that nobody uses, as `_sizes`, and of all others together."""
        gc.collect()  # trainers of passes that are over hold what they read, in cycles
        sizes = self._sizes()
        idle = {
            path: size
            for path, size in sizes.items()
            if not path.name.startswith(".") and not is_held(path / META)
        }
        return idle, sum(sizes.values()) - sum(idle.values())

    def _remove_oldest(self, idle: dict[Path, int], room: float) -> None:
        """Remove entries until the others take no more than some bytes.

        Args:
            idle: what `_idle` gives; what is removed goes from it too.
            room: bytes.
        """
        removed = []
        for oldest in list(idle):
            if sum(idle.values()) <= room:
                break
            if _removed(oldest):
                removed.append(idle.pop(oldest))
        if removed:
            log.info(
                "removed from %s, to make room: activations that were not used for longest, in %s "
                "(%.3g GB)",
                *(self.folder, counted(len(removed), "folder"), sum(removed) / 1e9),
            )

    def _is_writable(self) -> bool:
        return os.access(self._nearest, os.W_OK)

    def _sizes(self) -> dict[Path, int]:
        """Bytes of each entry, those that were not used for longest first.

        Those that are being written count, and go if nobody writes them any more.
        """
        found = []
        for path in self.folder.iterdir():
            name = ENTRY.fullmatch(path.name)
            if name is None or not _is_ours(path) or (name[1] and _removed(path)):
                continue
            with suppress(FileNotFoundError):  # another program removes it, or it is whole now
                found.append((path.stat().st_mtime, path, _size(path)))
        return {path: size for _, path, size in sorted(found)}


def _versions() -> dict[str, str]:
    """Of what computes maps, as far as it is installed."""
    found = {}
    for name in MAKERS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _clear(place: Path) -> None:
    """Remove a folder of ours that nobody may use."""
    if place.exists():
        with refusals(place.parent):
            shutil.rmtree(place)


def _is_ours(path: Path) -> bool:
    """Whether a folder holds nothing but what an entry holds; what goes at this moment is none."""
    with suppress(OSError):
        return {each.name for each in path.iterdir()} <= {META, MAPS, FRAMES}
    return False


def _removed(path: Path) -> bool:
    """Remove an entry, also one of which a part was written, unless a program is at work on it."""
    name = ENTRY.fullmatch(path.name)
    assert name is not None
    with locked(path.with_name(name[2]), wait=False) as alone, nobody_holds(path / META) as idle:
        if alone and idle:
            with suppress(OSError):  # another user's, maybe
                (path / META).unlink(missing_ok=True)  # first: what a kill leaves is no entry
                shutil.rmtree(path)
    return not path.exists()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
