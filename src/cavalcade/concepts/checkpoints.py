"""Checkpoints that are whole or absent, also after a power cut."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cavalcade.folders import sync

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
        """Write a checkpoint, or leave the one that is there."""
        assert storage_options is None
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(".part")
        torch.save(checkpoint, part)
        sync(part)
        part.replace(place)
        sync(place.parent)


def whole_epochs(checkpoint: Path) -> int:
    """How many epochs of a fit its checkpoint holds; read as plain data, so that it runs no code.

    One that is damaged is removed.
    """
    if not checkpoint.exists():
        return 0
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        log.warning("%s is damaged; the fit starts over", checkpoint)
        checkpoint.unlink()
        return 0
    return int(found["epoch"]) + 1
