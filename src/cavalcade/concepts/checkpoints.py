"""Checkpoints that are whole or absent, also after a power cut; and the one before, in case.

    checkpoints/last.ckpt        after the last whole epoch
    checkpoints/previous.ckpt    after the one before, until the run is finished
    checkpoints/last.part        being written

Disks damage files that were written whole. Torch does not look at the checksums that are in a
checkpoint, so that a damaged number would be one of the fit.
"""

import errno
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cavalcade.children import AGAIN
from cavalcade.disks import name_full
from cavalcade.errors import InputError, one_line
from cavalcade.file_bytes import check_no_larger_inside
from cavalcade.folders import sync

FOLDER, LAST = "checkpoints", "last.ckpt"

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it when it is on the disk.

    Lightning writes it to the folder for temporary files, which may be another file system: a
    rename from there is a copy, and a job that is killed within it leaves half a checkpoint.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object = None,
    ) -> None:
        """Write a checkpoint and keep the one that was there, or leave both that are there."""
        assert storage_options is None
        last = Path(path)
        last.parent.mkdir(parents=True, exist_ok=True)
        _write(checkpoint, _part(last))
        if last.exists():
            last.replace(_previous(last))
        _part(last).replace(last)  # a kill before leaves the previous one, which is whole
        sync(last.parent)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",  # noqa: ANN401
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint as plain data, whatever was asked for: it runs no code."""
        assert weights_only is not False
        return _load(Path(path), map_location)


def _write(checkpoint: dict[str, Any], part: Path) -> None:
    """Write a file that is on the disk then, or none."""
    try:
        with part.open("wb") as file:  # to a path, torch would not tell why a disk refuses it
            torch.save(checkpoint, file)
        sync(part)
    except BaseException as error:
        name_full(part, error)
        part.unlink(missing_ok=True)
        raise


def whole_epochs(last: Path) -> int:
    """How many epochs of a fit its last whole checkpoint holds, which is the last one from then on.

    Those that are damaged are removed, and said.

    Raises:
        InputError: if one cannot be read now, for a reason that is not in it.
    """
    _part(last).unlink(missing_ok=True)
    damaged: list[Path] = []
    for checkpoint in (last, _previous(last)):
        if not checkpoint.exists():
            continue
        epochs = _epochs_of(checkpoint)
        if epochs:
            if damaged:
                log.warning("%s is damaged; the fit goes on from the checkpoint before it", last)
            checkpoint.replace(last)
            return epochs
        damaged.append(checkpoint)
    for checkpoint in damaged:
        log.warning("%s is damaged; the fit starts over", checkpoint)
        checkpoint.unlink()
    return 0


def forget_previous(last: Path) -> None:
    """Remove all but the last checkpoint of a fit that is over."""
    _previous(last).unlink(missing_ok=True)


def _epochs_of(checkpoint: Path) -> int:
    """How many epochs a checkpoint holds; 0 for one that is damaged."""
    try:
        check_no_larger_inside(checkpoint)
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return 0
        return int(_load(checkpoint, "cpu")["epoch"]) + 1
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in (None, errno.EINVAL):
            return 0  # it leads to a place in it that is none
        reason = one_line(error) or type(error).__name__
        raise InputError(
            f"{checkpoint} cannot be read ({reason}); mend that and {AGAIN}, or delete it to start "
            "over"
        ) from error
    except Exception:  # whatever its readers meet in what it is not
        return 0


def _load(checkpoint: Path, map_location: Any) -> dict[str, Any]:  # noqa: ANN401
    return torch.load(checkpoint, map_location=map_location, weights_only=True)


def _previous(last: Path) -> Path:
    return last.with_name("previous.ckpt")


def _part(last: Path) -> Path:
    return last.with_suffix(".part")
