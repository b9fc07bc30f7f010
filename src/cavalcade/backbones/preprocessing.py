"""How an image reaches a network, and where the network then looks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from cavalcade.data.geometry import Frame
from cavalcade.errors import InputError, check_choice

CROP_MODES = ("squash", "center", "border")


def input_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a network's input, from its side or from both.

    Raises:
        InputError: for anything but one or two numbers of pixels.
    """
    size = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"backbone.image_size is {image_size}; give [height, width] in pixels")
    return size[0], size[1]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop or pad, scale to mean and standard deviation; the terms are timm's.

    Attributes:
        size: height and width of the network's input in pixels.
        crop_mode: `squash` warps the whole image; `center` keeps the aspect and cuts the
            middle out; `border` keeps the aspect and pads with the mean colour.
        crop_pct: share of the resized image that the input covers.
        mean: of each channel, for values from 0 to 1.
        std: of each channel.
        interpolation: `bicubic`, `bilinear` or `nearest`.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: str = "squash"
    crop_pct: float = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        check_choice("backbone.crop_mode", self.crop_mode, CROP_MODES)
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"backbone.crop_pct is {self.crop_pct}; give a share above 0, up to 1")

    def __call__(
        self, image: UInt8[Tensor, "3 _ _"]
    ) -> tuple[Float[Tensor, "3 height width"], Frame]:
        """The network's input, and its frame in the unit square of the image."""
        resized = transforms.resize(
            image,
            list(self._resized(image.shape[1], image.shape[2])),
            interpolation=InterpolationMode(self.interpolation),
            antialias=True,
        )
        values = resized.float().div_(255)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        # rounded as torchvision's CenterCrop does: half a pixel off shows in the comparison to timm
        top, left = (round((resized.shape[1 + i] - self.size[i]) / 2) for i in (0, 1))
        scaled = transforms.crop(values.sub_(mean).div_(std), top, left, *self.size)
        height, width = resized.shape[1:]
        frame = Frame(
            top / height,
            left / width,
            (top + self.size[0]) / height,
            (left + self.size[1]) / width,
        )
        return scaled, frame

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        target = [int(n / self.crop_pct) for n in self.size]
        if self.crop_mode == "squash":
            return target[0], target[1]
        by_height = target[0] * width > target[1] * height  # the height is enlarged more
        if self.crop_mode == "border":
            by_height = not by_height
        wanted, side = (target[0], height) if by_height else (target[1], width)
        return max(1, wanted * height // side), max(1, wanted * width // side)

    def identity(self) -> dict[str, Any]:
        """All that changes what the network sees, for the digest of a run."""
        return asdict(self)
