"""Activations of one network for one split that lie on the disk, and are read instead of images."""

import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cavalcade.data.geometry import Frame
from cavalcade.errors import InputError
from cavalcade.locks import hold
from cavalcade.meta_fields import Fields, read_json

log = logging.getLogger(__name__)

META = "meta.json"
MAPS, FRAMES = "maps.bin", "frames.bin"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


@dataclass(frozen=True)
class StoredLayer:
    """One layer as a folder holds it: its maps of all images, and where each image was looked at.

    Both are files that are mapped into memory, beside a `meta.json` that says how to read them.

    Attributes:
        name: of the layer.
        shape: of its maps (channels, rows, columns); in the file channels come last.
        dtype: as the network gave them.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: torch.dtype

    @property
    def bytes_per_image(self) -> int:
        """On the disk."""
        return sum(self.files(Path(), 1).values())

    def files(self, folder: Path, num_images: int) -> dict[Path, int]:
        """How many bytes each has."""
        frame_bytes = len(Frame._fields) * torch.float32.itemsize
        map_bytes = torch.Size(self.shape).numel() * self.dtype.itemsize
        return {folder / MAPS: num_images * map_bytes, folder / FRAMES: num_images * frame_bytes}

    def opened(
        self, folder: Path, num_images: int, *, writable: bool = False
    ) -> tuple[Float[Tensor, "images channels rows columns"], Float[Tensor, "images 4"]]:
        """The maps and the frames."""
        channels, rows, columns = self.shape
        maps, frames = (
            torch.from_file(str(path), shared=writable, size=size // dtype.itemsize, dtype=dtype)
            for (path, size), dtype in zip(
                self.files(folder, num_images).items(), (self.dtype, torch.float32), strict=True
            )
        )
        return (
            maps.view(num_images, rows, columns, channels).movedim(-1, 1),
            frames.view(num_images, -1),
        )

    def checksum(self, folder: Path, num_images: int) -> int:
        """CRC-32 of all that lies in the files."""
        crc = 0
        for path in self.files(folder, num_images):
            crc = zlib.crc32(np.memmap(path, mode="r").data, crc)
        return crc

    def describe(self, folder: Path, num_images: int) -> None:
        """Write `meta.json`, with which the folder is whole."""
        meta = {
            "layer": self.name,
            "shape": self.shape,
            "dtype": str(self.dtype).removeprefix("torch."),
            "images": num_images,
            "crc32": self.checksum(folder, num_images),
        }
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")


class CachedLayer:
    """The activations of one layer for all images of a split, held while this object lives.

    Whoever opens it knows that they are the right ones.

    Attributes:
        layer: how to read them.
        num_images: of the split.
    """

    def __init__(self, folder: Path) -> None:
        """Open an entry.

        Raises:
            InputError: if its `meta.json` does not say how to read it.
        """
        hold(folder / META, self)  # first: what is held stays as it is then read
        self.folder = folder
        fields = Fields(read_json(folder / META), folder / META)
        shape, dtype = fields.wholes("shape", 1), fields.text("dtype")
        if len(shape) != 3:
            raise fields.wrong("shape", "that of maps: channels, rows and columns")
        if dtype not in DTYPES:
            raise fields.wrong("dtype", f"one of {', '.join(DTYPES)}")
        channels, rows, columns = shape
        self.layer = StoredLayer(fields.text("layer"), (channels, rows, columns), DTYPES[dtype])
        self.num_images = fields.whole("images", 1)
        self._crc32 = int(fields.number("crc32", 0.0, 2.0**32))
        self._opened: tuple[Tensor, Tensor] | None = None

    def is_whole(self) -> bool:
        """Whether all of it is as it was written, for which it is read once."""
        files = self.layer.files(self.folder, self.num_images)
        return (
            all(path.stat().st_size == size for path, size in files.items())
            and self.layer.checksum(self.folder, self.num_images) == self._crc32
        )

    @property
    def tensors(self) -> tuple[Float[Tensor, "images _ _ _"], Float[Tensor, "images 4"]]:
        """Maps and frames; each process that loads images maps the files for itself."""
        if self._opened is None:
            self._opened = self.layer.opened(self.folder, self.num_images)
        return self._opened


class CachedActivations:
    """The activations of all layers for all images of a split."""

    def __init__(self, layers: Sequence[CachedLayer]) -> None:
        self.layers = tuple(layers)

    def frame(self, index: int) -> Frame:
        """Where the network looks at an image."""
        _, frames = self.layers[0].tensors
        return Frame(*frames[index].tolist())

    def maps(self, index: int) -> dict[str, Float[Tensor, "1 _ _ _"]]:
        """Those of every layer for one image (1, channels, rows, columns)."""
        return {own.layer.name: own.tensors[0][index : index + 1].clone() for own in self.layers}


def whole_entry(
    folder: Path, name: str, shape: tuple[int, int, int], num_images: int
) -> CachedLayer | None:
    """What a folder holds; None if there is none, and with a warning if it is damaged.

    Args:
        folder: of an entry.
        name: of the layer that it must be of.
        shape: of its maps.
        num_images: of the split.

    Raises:
        InputError: if it cannot be read, for which it may yet be whole.
    """
    if not (folder / META).exists():
        return None
    try:
        if not (folder / META).is_file():
            raise ValueError(f"{META} is no file")
        entry = CachedLayer(folder)
        asked = (entry.layer.name, entry.layer.shape, entry.num_images) == (name, shape, num_images)
        if asked and entry.is_whole():
            return entry
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error.__cause__, OSError):
            raise _unreadable(folder, error.__cause__) from error
    except OSError as error:
        raise _unreadable(folder, error) from error
    log.warning("activations in %s are damaged: they are computed again", folder)
    return None


def _unreadable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"activations in {folder} cannot be read ({error}); mend it, or set cache=null"
    )
