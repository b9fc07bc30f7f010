"""A user's own images without labels, for concepts that are mined instead of fitted."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image
from torch import Tensor

from cavalcade.data.files import FileData, FileSplit, ImageFile, images_among
from cavalcade.data.groups import halves_of_groups, two_halves
from cavalcade.data.pictures import deep, read_rgb, upper_8_bits
from cavalcade.data.sample import Labels
from cavalcade.errors import InputError, one_line

log = logging.getLogger(__name__)

BOTH = ("train", "test")
DEEPEST = 100  # folders within each other

# How to turn a picture of each EXIF orientation upright. ImageOps.exif_transpose would also
# write all EXIF data anew, which fails on what some cameras put there.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(kw_only=True)
class Images(FileData):
    """Images in a folder, at any depth, and nothing else.

    Concepts are mined from the split `train`; masks are compared on the split `test`. These
    are the folders `root/train` and `root/test`, or `root/images/train` and
    `root/images/test` of a labelled data set, all else being left alone. Without such folders,
    all images are split in two halves, which groups that the user names are not cut by.

    An image is called by its path below `root`, with "/"; its id is that without the suffix.
    """

    def open(self, split: str) -> "ImagesSplit":
        """List all files, and keep those of one split."""
        if split not in BOTH:
            raise InputError(
                f"data=images has no labels and thus no split {split!r}, so that probes cannot "
                "be fitted: use concepts=factorisation, or data=folder for labelled images"
            )
        return ImagesSplit(self._files[split], (), self.links)

    @cached_property
    def _files(self) -> dict[str, list[ImageFile]]:
        """The images of each split, listed once so that a warning comes once."""
        folders = self._split_folders()
        if folders:
            return {
                split: self.in_groups(self._below(folder), self.path)
                for split, folder in folders.items()
            }
        files = self.in_groups(self._below(self.path), self.path)
        halves = self._halves([file.group for file in files])
        return {
            split: [file for file, own in zip(files, halves, strict=True) if own == half]
            for half, split in enumerate(BOTH)
        }

    def _split_folders(self) -> dict[str, Path]:
        """The folder of each split, or nothing if there are none."""
        for home in (self.path, self.path / "images"):
            there = [split for split in BOTH if (home / split).is_dir()]
            if len(there) == 1:
                (missing,) = set(BOTH) - set(there)
                raise InputError(
                    f"{home} holds a folder {there[0]} but no folder {missing}; add it, or "
                    f"give data.root={home / there[0]}, whose images are then split in halves"
                )
            if there:
                return {split: home / split for split in BOTH}
        return {}

    def _below(self, folder: Path) -> list[Path]:
        """All images at any depth, links followed, hidden files and folders left out."""
        return images_among(self._walk(folder, ()), folder)

    def _walk(self, folder: Path, above: Sequence[str]) -> Iterator[Path]:
        """The files below a folder; a link to one of those above would never end."""
        real = os.path.realpath(self.links.check(folder))
        if real in above:
            raise InputError(f"{folder} is a link to a folder that it lies in; remove it")
        if len(above) == DEEPEST:
            raise InputError(f"{folder} lies in more than {DEEPEST} folders; move it up")
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise InputError(f"{folder} cannot be listed ({error}); mend it") from error
        for entry in entries:
            if not entry.name.startswith("."):
                if entry.is_dir():
                    yield from self._walk(entry, (*above, real))
                else:
                    yield entry

    def _halves(self, groups: Sequence[str]) -> list[int]:
        if len(groups) < 2:
            raise InputError(
                f"{self.path} holds one image; give at least two, one to mine concepts from and "
                "one to compare masks on"
            )
        if self.group_pattern is None and self.groups_csv is None:
            return two_halves(groups)
        if len(set(groups)) > 1:
            return halves_of_groups(groups)
        log.warning(
            "%s: all images are of one group, %r, which is cut into blocks that go to train and "
            "test in turn, so that images of both may be alike; name at least two groups to "
            "keep them whole",
            *(self.name, groups[0]),
        )
        return two_halves(groups)


class ImagesSplit(FileSplit):
    """One split of `Images`: pictures as a viewer shows them, without concepts."""

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture as a viewer shows it."""
        return read_rgb(self.links.check(self.images[index]), upright_rgb)

    def labels(self, index: int) -> Labels:  # noqa: ARG002
        """None."""
        nothing = torch.zeros(0, 1, 1, dtype=torch.bool)
        return Labels(nothing, nothing)


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture as a viewer shows it, with 8 bits a channel.

    It is turned as its EXIF data say; of 16 bits the upper 8 are kept; what is transparent
    lets white through.

    Raises:
        ValueError: if its values are not of 8 or 16 bits.
    """
    image.load()  # Pillow turns a TIFF while it loads, and only then forgets the orientation
    turn = TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if deep(image):
        image = upper_8_bits(image)
    if "A" in image.getbands() or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _orientation(image: Image.Image) -> Any:  # noqa: ANN401
    """As the EXIF data say, which may be anything."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # at damaged data, Pillow raises nearly anything
        raise ValueError(f"its EXIF data cannot be read: {one_line(error)}") from error
