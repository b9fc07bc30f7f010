"""How an image reaches a network, and where the network then looks."""

import math
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

CROP_MODES = ("squash", "center", "border", "corner", "letterbox")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
GREY = 114 / 255


def input_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a network's input, from its side or from both.

    Raises:
        InputError: for anything but one or two numbers of pixels.
    """
    size = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"backbone.image_size is {image_size}; give [height, width] in pixels")
    return size[0], size[1]


def check_multiples(size: tuple[int, int], of: tuple[int, int], name: str, what: str) -> None:
    """Raise unless a network can cut its input into whole pieces.

    Args:
        size: height and width of the input.
        of: height and width of a piece.
        name: of the network.
        what: it takes multiples of, for the message.

    Raises:
        InputError: naming the setting.
    """
    if any(side % piece for side, piece in zip(size, of, strict=True)):
        raise InputError(
            f"backbone.image_size is {list(size)}; {name} takes multiples of {what} pixels"
        )


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop or pad, scale to mean and standard deviation; the terms are timm's.

    What a detector pads a batch to, the largest of its images, depends on what images share
    it. Here all are padded to one size, so that a map depends on its own image alone.

    Attributes:
        size: height and width of the network's input in pixels.
        crop_mode: `squash` warps the whole image. The others keep its aspect: `center` cuts
            the middle out; `border` pads on all sides with the mean colour; `corner` pads
            below and to the right with the mean colour, as torchvision's detectors do;
            `letterbox` pads on all sides with grey, as YOLO does.
        crop_pct: share of the resized image that the input covers.
        mean: of each channel, for values from 0 to 1.
        std: of each channel.
        interpolation: `bicubic`, `bilinear` or `nearest`.
        antialias: widen the filter when shrinking, in whole numbers, as Pillow does; False
            interpolates between the nearest pixels, as detectors do.
        sides: for `corner`, the most that the shorter and the longer side of the resized image
            may have, in pixels; if None the image fills the input.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: str = "squash"
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    antialias: bool = True
    sides: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_choice("backbone.crop_mode", self.crop_mode, CROP_MODES)
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"backbone.crop_pct is {self.crop_pct}; give a share above 0, up to 1")
        if self.sides is not None and self.crop_pct != 1:
            raise InputError(
                "backbone.crop_pct cannot be set where a detector enlarges images to its own "
                "scale; set backbone.image_size too"
            )
        check_choice("backbone.interpolation", self.interpolation, INTERPOLATIONS)
        if not all(0 < value < math.inf for value in self.std):
            raise InputError(f"backbone.std is {list(self.std)}; give numbers above 0")
        if not all(map(math.isfinite, self.mean)):
            raise InputError(f"backbone.mean is {list(self.mean)}; give finite numbers")

    def __call__(
        self, image: UInt8[Tensor, "3 _ _"]
    ) -> tuple[Float[Tensor, "3 height width"], Frame]:
        """The network's input, and its frame in the unit square of the image."""
        values = image if self.antialias else image.float()  # whole numbers are rounded again
        size, corner = self._placed(image.shape[1], image.shape[2])
        resized = transforms.resize(
            values,
            list(size),
            interpolation=InterpolationMode(self.interpolation),
            antialias=self.antialias,
        )
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        scaled = resized.float().div(255).sub_(mean).div_(std)
        # padding is with zeros, the mean colour
        padding = (GREY - mean) / std if self.crop_mode == "letterbox" else torch.tensor(0.0)
        seen = transforms.crop(scaled.sub_(padding), *corner, *self.size).add_(padding)
        return seen, self.frame(image.shape[1], image.shape[2])

    def frame(self, height: int, width: int) -> Frame:
        """Where the network looks in an image of so many pixels, in its unit square."""
        (rows, columns), (top, left) = self._placed(height, width)
        return Frame(
            top / rows,
            left / columns,
            (top + self.size[0]) / rows,
            (left + self.size[1]) / columns,
        )

    def _placed(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of an image once it is resized, and where in it the input starts."""
        size = self._resized(height, width)
        return size, (self._offset(size[0]), self._offset(size[1], axis=1))

    def _offset(self, side: int, axis: int = 0) -> int:
        """Where the input starts, in pixels of the resized image; negative in the padding."""
        spare = side - self.size[axis]
        if self.crop_mode == "corner":
            return 0
        if self.crop_mode == "letterbox":
            return -round(-spare / 2 - 0.1)  # the odd pixel goes below and to the right
        # rounded as torchvision's CenterCrop does: half a pixel off shows in the comparison to timm
        return round(spare / 2)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        target = [int(n / self.crop_pct) for n in self.size]
        if self.crop_mode == "squash":
            return target[0], target[1]
        if self.crop_mode in ("corner", "letterbox"):
            return self._enclosed(height, width, target)
        by_height = target[0] * width > target[1] * height  # the height is enlarged more
        if self.crop_mode == "border":
            by_height = not by_height
        wanted, side = (target[0], height) if by_height else (target[1], width)
        return max(1, wanted * height // side), max(1, wanted * width // side)

    def _enclosed(self, height: int, width: int, target: Sequence[int]) -> tuple[int, int]:
        """As large as fits, with the roundings of the detectors."""
        scale = min(target[0] / height, target[1] / width)
        if self.sides is not None:
            short, long = self.sides
            scale = min(short / min(height, width), long / max(height, width))
        whole = round if self.crop_mode == "letterbox" else math.floor
        return max(1, whole(height * scale)), max(1, whole(width * scale))

    def identity(self) -> dict[str, Any]:
        """All that changes what the network sees, for the digest of a run."""
        return asdict(self)
