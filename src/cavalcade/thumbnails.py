"""Small pictures of the test images, so that galleries need no data set."""

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.data.pictures import opened
from cavalcade.data.sample import LARGEST_THUMBNAIL
from cavalcade.errors import InputError
from cavalcade.meta_fields import WAY_OUT
from cavalcade.tensor_files import read_tensors

FILE = "thumbnails.safetensors"
QUALITY = 85


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of whole images, in their order.

    Attributes:
        pictures: of each the bytes of a JPEG file.
        path: of the file that they were read from, for messages.
    """

    pictures: tuple[UInt8[Tensor, "_"], ...]
    path: Path | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture.

        Raises:
            InputError: if it is damaged.
        """
        called = f"{self.path or FILE}: picture {index}"
        with _opened(self.pictures[index], called, decoded=True) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    def save(self, path: Path) -> None:
        """Write all of them to a safetensors file."""
        save_file({str(k): picture for k, picture in enumerate(self.pictures)}, path)

    @classmethod
    def load(cls, path: Path) -> "Thumbnails":
        """Read what `save` wrote; of each picture no more than what it is.

        Raises:
            InputError: if the file is missing or damaged, or holds something else.
        """
        tensors = read_tensors(path)
        for k in range(len(tensors)):
            _check(path, str(k), tensors.get(str(k)))
        return cls(tuple(tensors[str(k)] for k in range(len(tensors))), path)


def _opened(
    picture: UInt8[Tensor, " bytes"], called: str, *, decoded: bool = False
) -> AbstractContextManager[Image.Image]:
    """A JPEG file."""
    source = io.BytesIO(picture.numpy().tobytes())
    return opened(source, called, ("JPEG",), WAY_OUT, decoded=decoded)


def _check(path: Path, name: str, picture: Tensor | None) -> None:
    """Raise unless a tensor is a small JPEG file."""
    called = f"{path}: picture {name}"
    if picture is None or picture.dtype != torch.uint8 or picture.ndim != 1:
        raise InputError(f"{called} is missing, or no file; {WAY_OUT}")
    with _opened(picture, called) as found:
        if max(found.size) > LARGEST_THUMBNAIL:
            raise ValueError(f"{found.size[0]} x {found.size[1]} pixels are no thumbnail")


def thumbnail(image: UInt8[Tensor, "3 height width"], size: int) -> UInt8[Tensor, " bytes"]:
    """An image with its longer side at most `size` pixels, as the bytes of a JPEG file."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
