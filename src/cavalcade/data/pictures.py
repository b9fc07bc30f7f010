"""Pictures in files: which are opened, how large they may be, and how they become RGB."""

import errno
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cavalcade.data.sample import WholeError
from cavalcade.errors import InputError, lacks_memory, one_line
from cavalcade.file_bytes import check_is_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Pillow looks at what a file holds, not at its suffix, and knows formats for which it starts
# another program (EPS) or that few people ever read; JPEG stands for MPO too.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
# Of one picture, as its header tells before anything is decoded. Pillow would warn from here on.
MAX_PIXELS = 2**30 // 12
MAX_SIDE = 2**16 - 1  # as in a JPEG; old decoders of BMP add up to 255 rows at a time
SHORTAGES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of the machine
NO_MEMORY = ("decoder error -9", "out of memory")  # of Pillow's decoders, which have no other words
DAMAGED = (OSError, ValueError, SyntaxError, OverflowError, struct.error, MemoryError)
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)

Convert = Callable[[Image.Image], Image.Image]


def read_rgb(path: Path, convert: Convert) -> UInt8[Tensor, "3 height width"]:
    """Read a picture that `convert` brings to RGB.

    Raises:
        InputError: if it cannot be read.
    """
    return torch.from_numpy(read_values(path, convert)).permute(2, 0, 1).contiguous()


def read_values(
    path: Path, convert: Convert | None = None, formats: Sequence[str] = FORMATS
) -> np.ndarray:
    """Read a picture, as it is or converted: values (height, width) or (height, width, channels).

    Args:
        path: of the file.
        convert: from the picture in the file to that of the values.
        formats: those that it may have, as Pillow calls them.

    Raises:
        InputError: if it cannot be read, or is larger than `MAX_PIXELS` or `MAX_SIDE`.
    """
    with opened(path, path, formats, decoded=True) as image:
        return np.array(convert(image) if convert else image)


def image_shape(path: Path) -> tuple[int, int]:
    """Rows and columns of a picture as it is stored; only its header is read.

    Raises:
        InputError: if it cannot be read, or is larger than `MAX_PIXELS` or `MAX_SIDE`.
    """
    with opened(path, path, FORMATS) as image:
        return image.height, image.width


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture with 8 bits a channel: the upper 8 of 16; transparency is left away.

    Raises:
        ValueError: if its values are not of 8 or 16 bits.
    """
    if deep(image):
        image = upper_8_bits(image)
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns of the direct way to the same colours
    return image.convert("RGB")


def deep(image: Image.Image) -> bool:
    """Whether it is a grey picture of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def upper_8_bits(image: Image.Image) -> Image.Image:
    """Of 16; Pillow does the same to 16-bit pictures in colours, but clips those in grey.

    Raises:
        ValueError: if its values are not of 16 bits.
    """
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(
            "its values are not whole numbers from 0 to 65535: save it with 8 or 16 bits a channel"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def is_shortage(error: BaseException) -> bool:
    """Whether the machine lacks memory or open files, so that no image is to blame."""
    said_by_decoder = str(error).startswith(NO_MEMORY)
    return lacks_memory(error) or said_by_decoder or getattr(error, "errno", None) in SHORTAGES


@contextmanager
def opened(
    source: Path | io.BytesIO,
    called: Path | str,
    formats: Sequence[str] = FORMATS,
    way_out: str = "mend or remove it",
    *,
    decoded: bool = False,
) -> Iterator[Image.Image]:
    """A picture of which the header is read; what is wrong then or later becomes one sentence.

    Later, that is what pictures raise and no other error, which would be one of ours.

    Args:
        source: the file.
        called: what it is in messages.
        formats: those that it may have, as Pillow calls them.
        way_out: what to do about a damaged one.
        decoded: read its pixels too.

    Raises:
        InputError: if the picture cannot be read, or is too large; `WholeError` if the machine
            lacks what it takes.
    """
    is_read = False
    try:
        if isinstance(source, Path):
            check_is_file(source)
        with Image.open(source, formats=list(formats)) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise Image.DecompressionBombError
            if decoded:
                image.load()
            is_read = True
            yield image
    except TOO_LARGE as error:
        raise InputError(
            f"{called} is larger than a picture may be, {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a "
            "side; make it smaller or remove it"
        ) from error
    except Exception as error:  # at damaged files, Pillow's decoders raise nearly anything
        if is_read and not isinstance(error, DAMAGED):
            raise
        reason = one_line(error) or type(error).__name__
        if is_shortage(error):
            raise WholeError(
                f"{called} cannot be read, for lack of memory or open files ({reason}); free some "
                "and start again"
            ) from error
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is none of {', '.join(formats)}"
        raise InputError(f"{called} cannot be read as an image ({reason}); {way_out}") from error
