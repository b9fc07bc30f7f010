"""Masks of a run folder, read a few images at a time: nothing of a file stays in memory."""

import json
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from safetensors import SafetensorError, safe_open

from cavalcade.errors import InputError, one_line
from cavalcade.file_versions import file_version, unchanged
from cavalcade.meta_fields import WAY_OUT


class StoredBits:
    """Bits of all images by name, in a safetensors file, of which the first axis is images.

    The library maps a file into memory, where what was read of it stays.
    """

    def __init__(self, path: Path) -> None:
        """Read where the tensors lie.

        Raises:
            InputError: if the file is missing or damaged, or holds something else than bits.
        """
        self.path, self.version = path, file_version(path)
        try:
            with safe_open(path, framework="np"):  # the library holds the header to the file
                pass
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            if any(each["dtype"] != "U8" for each in tensors.values()):
                raise ValueError("it holds other tensors than bits")
            self.shapes = {name: tuple(each["shape"]) for name, each in tensors.items()}
            self.starts = {k: 8 + size + each["data_offsets"][0] for k, each in tensors.items()}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise self._damaged(error) from error

    def check(self, name: str, *shape: int) -> None:
        """Raise unless there is a tensor of some shape.

        Raises:
            InputError: naming it, and its shape.
        """
        found = self.shapes.get(name)
        if found != shape:
            raise InputError(f"{self.path}: {name} is {found}, not {shape}; {WAY_OUT}")

    def read(
        self, names: Sequence[str], images: Int[np.ndarray, " images"]
    ) -> list[UInt8[np.ndarray, "images *rest"]]:
        """Some images of some tensors.

        Raises:
            InputError: if they are not all there, or not of the file that was there at first.
        """
        with unchanged(self.path, self.version):
            try:
                with FileIO(self.path) as file:
                    return [self._read(file, name, images) for name in names]
            except (OSError, KeyError, ValueError) as error:
                raise self._damaged(error) from error

    def _read(self, file: FileIO, name: str, images: Int[np.ndarray, " images"]) -> np.ndarray:
        rest = self.shapes[name][1:]
        found, each = np.empty((len(images), *rest), dtype=np.uint8), int(np.prod(rest))
        gaps = np.flatnonzero(np.diff(images) != 1) + 1
        for place, part in zip([0, *gaps.tolist()], np.split(images, gaps), strict=True):
            if not len(part):
                continue
            file.seek(self.starts[name] + int(part[0]) * each)
            piece = found[place : place + len(part)]
            if file.readinto(piece.reshape(-1).data) != piece.size:
                raise ValueError(f"{name} is cut short")
        return found

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path} cannot be read ({one_line(error)}); {WAY_OUT}")


def all_pixels(num_pixels: int) -> UInt8[np.ndarray, " bytes"]:
    """Bits of all pixels of an image, without those that only fill up the last byte."""
    return np.packbits(np.ones(num_pixels, dtype=bool))


def check_bits(
    path: Path,
    name: str,
    bits: UInt8[np.ndarray, "*leading bytes"],
    within: UInt8[np.ndarray, "*leading_or_one bytes"],
) -> None:
    """Raise if a bit is set where none can be, which would be counted.

    Raises:
        InputError: naming the file and the tensor.
    """
    if (bits & ~within).any():
        raise InputError(f"{path}: {name} has bits outside of what the network saw; {WAY_OUT}")


class StoredFiring:
    """Where some masks of one run fire, read when asked for; see `Fires`."""

    def __init__(
        self,
        masks: StoredBits,
        rows: Sequence[tuple[str, slice]],
        seen: StoredBits,
        found: Bool[np.ndarray, " rows"],
        num_pixels: int,
    ) -> None:
        """Where to read.

        Args:
            masks: holds tensors (images, concepts, bytes).
            rows: their names, and which of their concepts are rows, one tensor after the other.
            seen: holds `seen` (images, bytes).
            found: see `Fires.rows_found`.
            num_pixels: of an image.
        """
        self.masks, self.rows, self.seen = masks, rows, seen
        self.found, self._num_pixels = found, num_pixels

    @property
    def num_rows(self) -> int:
        """See `Fires`."""
        return len(self.found)

    @property
    def num_pixels(self) -> int:
        """See `Fires`."""
        return self._num_pixels

    def rows_found(self) -> Bool[np.ndarray, " rows"]:
        """See `Fires`."""
        return self.found

    def mask_bits(
        self, images: Int[np.ndarray, " images"]
    ) -> UInt8[np.ndarray, "rows images bytes"]:
        """See `Fires`."""
        tensors = self.masks.read([name for name, _ in self.rows], images)
        parts = [t[:, which] for t, (_, which) in zip(tensors, self.rows, strict=True)]
        found = np.concatenate(parts, axis=1).transpose(1, 0, 2)
        check_bits(self.masks.path, "a mask", found, self.seen_bits(images))
        return found

    def seen_bits(self, images: Int[np.ndarray, " images"]) -> UInt8[np.ndarray, "images bytes"]:
        """See `Fires`."""
        (found,) = self.seen.read(["seen"], images)
        check_bits(self.seen.path, "seen", found, all_pixels(self.num_pixels))
        return found
