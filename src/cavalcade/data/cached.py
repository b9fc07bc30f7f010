"""Activations of one network for one split that lie on the disk, and are read instead of images."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cavalcade.locks import hold

META = "meta.json"


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one layer of all images in one file, mapped into memory.

    Attributes:
        name: of the layer.
        shape: (channels, rows, columns); in the file channels come last.
        dtype: as the network gave them.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: torch.dtype

    @property
    def bytes_per_image(self) -> int:
        """On the disk."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def opened(
        self, path: Path, num_images: int, *, writable: bool = False
    ) -> Float[Tensor, "images channels rows columns"]:
        """The file as one tensor; it is made if it is to be written."""
        channels, rows, columns = self.shape
        size = num_images * channels * rows * columns
        flat = torch.from_file(str(path), shared=writable, size=size, dtype=self.dtype)
        return flat.view(num_images, rows, columns, channels).movedim(-1, 1)


class CachedActivations:
    """The activations of all images of a split, which are held while this object lives.

    Whoever opens it knows that they are the right ones.

    Attributes:
        folder: where they lie.
        frames: of each image, where the network looks.
    """

    def __init__(self, folder: Path) -> None:
        hold(folder / META, self)  # first: what is held stays as it is then read
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        self.folder = folder
        self.frames: list[list[float]] = meta["frames"]
        self.layers = [
            StoredMaps(each["name"], tuple(each["shape"]), getattr(torch, each["dtype"]))
            for each in meta["layers"]
        ]
        self._maps: list[Tensor] | None = None

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The maps (1, channels, rows, columns) of every layer for one image."""
        if self._maps is None:  # each process that loads maps the files for itself
            self._maps = [
                layer.opened(self.folder / file_of(k), len(self.frames))
                for k, layer in enumerate(self.layers)
            ]
        return {
            layer.name: maps[index : index + 1].clone()
            for layer, maps in zip(self.layers, self._maps, strict=True)
        }


def whole_entry(folder: Path) -> CachedActivations | None:
    """The activations in a folder; None unless each file is as long as it must be."""
    try:
        entry = CachedActivations(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all(
        path.is_file() and path.stat().st_size == len(entry.frames) * layer.bytes_per_image
        for path, layer in ((folder / file_of(k), layer) for k, layer in enumerate(entry.layers))
    )
    return entry if whole else None


def file_of(layer: int) -> str:
    """Name of the file of a layer, by its place among the taps."""
    return f"{layer:03}.bin"
