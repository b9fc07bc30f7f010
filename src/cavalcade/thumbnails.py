"""Small pictures of the test images, so that galleries need no data set."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.data.pictures import opened
from cavalcade.folders import read_tensors

QUALITY = 85


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of whole images, in their order.

    Attributes:
        pictures: of each the bytes of a JPEG file.
    """

    pictures: tuple[UInt8[Tensor, "_"], ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        file = io.BytesIO(self.pictures[index].numpy().tobytes())
        with opened(file, f"thumbnail {index}", ("JPEG",)) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    def save(self, path: Path) -> None:
        """Write all of them to a safetensors file."""
        save_file({str(k): picture for k, picture in enumerate(self.pictures)}, path)

    @classmethod
    def load(cls, path: Path) -> "Thumbnails":
        """Read what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        tensors = read_tensors(path)
        return cls(tuple(tensors[str(k)] for k in range(len(tensors))))


def thumbnail(image: UInt8[Tensor, "3 height width"], size: int) -> UInt8[Tensor, " bytes"]:
    """An image with its longer side at most `size` pixels, as the bytes of a JPEG file."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
