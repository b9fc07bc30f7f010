"""CelebAMask-HQ, portraits with the parts of the face, as published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from cavalcade.data.files import FileData, FileSplit, ImageFile
from cavalcade.data.links import Links
from cavalcade.data.names import brief
from cavalcade.data.pictures import LOSSLESS, read_values
from cavalcade.data.sample import SPLITS, Labels, check_room
from cavalcade.data.tables import read_lines, whole_number
from cavalcade.errors import InputError

BACKGROUND = "background"
PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
SIDES = {
    f"{side}_{part}": part for side in ("l", "r") for part in ("eye", "brow", "ear")
}  # l_lip is the lower lip and ear_r an earring
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION, IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"
CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
IMAGES_PER_FOLDER = 2000


@dataclass(kw_only=True)
class CelebAMaskHQ(FileData):
    """CelebAMask-HQ (Lee et al. 2020): 30,000 portraits, 18 parts of a face and the background.

    `root` is the folder that its archive unpacks to: `CelebA-HQ-img/<i>.jpg`,
    `CelebAMask-HQ-mask-anno/<i // 2000>/<i, five digits>_<part>.png` and
    `CelebA-HQ-to-CelebA-mapping.txt`. A part without a picture is absent; where a picture is
    not black, the part is, and parts may overlap. Masks (512 pixels) are used as they are over
    images (1024 pixels). The last concept is `background`, where none of the parts is.

    Splits are those of CelebA (Liu et al. 2015), whose `list_eval_partition.txt` must be put
    into `root`. A group is a subject where CelebA's `identity_CelebA.txt` is there too and no
    other groups are asked for, else each image its own. An image is called `<i>.jpg`.

    Attributes:
        merge_sides: make one concept of left and right: `eye`, `brow` and `ear` instead of
            `l_eye`, `r_eye` and so on. All else stays: `l_lip` is the lower lip, `ear_r` an
            earring, `neck_l` a necklace, `eye_g` glasses.
    """

    merge_sides: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for folder in ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"):
            if not (self.path / folder).is_dir():
                raise InputError(
                    f"{self.path / folder} is no folder; data.root must be the folder "
                    "CelebAMask-HQ that the data set's archive unpacks to"
                )

    def open(self, split: str) -> "CelebAMaskSplit":
        """List the images of one split.

        Raises:
            InputError: if a list is missing or wrong, or the split is empty.
        """
        home = self.path / "CelebA-HQ-img"
        paths = [home / f"{i}.jpg" for i, own in self._splits.items() if own == split]
        if not paths:
            raise InputError(f"{self.path / PARTITION} puts no image of {MAPPING} into {split}")
        concepts = parts_of_concepts(self.merge_sides)
        names = self.wanted(list(concepts))
        return CelebAMaskSplit(
            self.in_groups(paths, home),
            {name: concepts[name] for name in names},
            self.path / "CelebAMask-HQ-mask-anno",
            self.links,
        )

    def _groups(self, paths: Sequence[Path], names: Sequence[str]) -> list[str]:
        asked = self.group_pattern is not None or self.groups_csv is not None
        identity = self.links.check(self.path / IDENTITY)
        if asked or not (identity.exists() or identity.is_symlink()):  # a link may lead nowhere
            return super()._groups(paths, names)
        originals = [self._originals[path.stem] for path in paths]
        return _look_up(identity, originals)

    @cached_property
    def _originals(self) -> dict[str, str]:
        """The file in CelebA of each image."""
        path = self.links.check(self.path / MAPPING)
        lines = _words(
            path, "it comes with the data set: unpack the archive of CelebAMask-HQ again"
        )
        header = "idx orig_idx orig_file"
        if not lines or lines[0] != header.split():
            raise InputError(f"{path} must start with the line {header!r}; unpack it again")
        originals: dict[str, str] = {}
        for number, fields in enumerate(lines[1:], start=2):
            i = fields[0] if fields else ""
            number_of = whole_number(i)
            if len(fields) != 3 or number_of is None or str(number_of) != i or i in originals:
                raise InputError(
                    f"{path}, line {number}: {brief(' '.join(fields))} is not the number of an "
                    "image, each once, and two words; unpack it again"
                )
            originals[i] = fields[2]
        return originals

    @cached_property
    def _splits(self) -> dict[str, str]:
        """The split of each image."""
        path = self.links.check(self.path / PARTITION)
        numbers = _look_up(path, list(self._originals.values()))
        for original, number in zip(self._originals.values(), numbers, strict=True):
            if number not in ("0", "1", "2"):
                raise InputError(
                    f"{path} puts {original} into {brief(number)}; there are 0 (train), 1 (val) "
                    "and 2 (test)"
                )
        return {i: SPLITS[int(n)] for i, n in zip(self._originals, numbers, strict=True)}


class CelebAMaskSplit(FileSplit):
    """One split of `CelebAMaskHQ`; of an image, only the masks that concepts need are read."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        parts: Mapping[str, Sequence[str]],
        masks: Path,
        links: Links,
    ) -> None:
        super().__init__(files, list(parts), links)
        self.parts, self.mask_folder = dict(parts), masks
        self.numbers = [int(file.path.stem) for file in files]

    def named_in(self, index: int) -> str:  # noqa: ARG002
        """The list of all images."""
        return MAPPING

    def labels(self, index: int) -> Labels:
        """The truth at the resolution of the masks; all of it is labelled.

        Raises:
            InputError: if no part has a mask, or masks differ in size or cannot be read.
        """
        files = self._mask_files(index)
        needed = {part for parts in self.parts.values() for part in parts} & set(files)
        # of an image with none of them, any other tells the size
        read = {part: _read_mask(files[part]) for part in files if part in (needed or [*files][:1])}
        shapes = {part: mask.shape for part, mask in read.items()}
        first = next(iter(shapes))
        for part, shape in shapes.items():
            if shape != shapes[first]:
                raise InputError(
                    f"{files[part]} is {_size(shape)} but {files[first].name} is "
                    f"{_size(shapes[first])}; give all masks of an image one size"
                )
        check_room(files[first], (len(self.concepts), *shapes[first]))
        masks = torch.zeros(len(self.concepts), *shapes[first], dtype=torch.bool)
        for k, (name, parts) in enumerate(self.parts.items()):
            for part in parts:
                if part in read:
                    masks[k] |= torch.from_numpy(read[part])
            if name == BACKGROUND:
                masks[k].logical_not_()
        return Labels(masks, torch.ones(1, *shapes[first], dtype=torch.bool).expand_as(masks))

    def _mask_files(self, index: int) -> dict[str, Path]:
        """The mask of each part that is there."""
        number = self.numbers[index]
        folder = self.mask_folder / str(number // IMAGES_PER_FOLDER)
        files = {part: folder / f"{number:05d}_{part}.png" for part in PARTS}
        files = {part: path for part, path in files.items() if self.links.check(path).is_file()}
        if not files:
            raise InputError(
                f"image {self.images[index]} has no mask {folder}/{number:05d}_<part>.png; unpack "
                "the archive again, or remove the image's line from the mapping"
            )
        return files


def parts_of_concepts(merge_sides: bool) -> dict[str, tuple[str, ...]]:
    """The parts that each concept is the union of; that of the background is its complement.

    >>> list(parts_of_concepts(merge_sides=True).items())[3]
    ('eye', ('l_eye', 'r_eye'))
    """
    concepts: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        name = SIDES.get(part, part) if merge_sides else part
        concepts[name] = (*concepts.get(name, ()), part)
    return {**concepts, BACKGROUND: PARTS}


def _look_up(path: Path, originals: Sequence[str]) -> list[str]:
    """What one of CelebA's lists says about some files."""
    lines = _words(path, f"get it from CelebA ({CELEBA}), where it is in the folder Eval")
    known: dict[str, str] = {}
    for number, fields in enumerate(lines, start=1):
        if len(fields) != 2 or not fields[1].isdecimal() or fields[0] in known:
            raise InputError(
                f"{path}, line {number}: {brief(' '.join(fields))} is not a file, each once, and a "
                "whole number, like '000001.jpg 0'; take the published list"
            )
        known[fields[0]] = fields[1]
    for original in originals:
        if original not in known:
            raise InputError(
                f"{path} does not name {brief(original)}, which {MAPPING} refers to; add it"
            )
    return [known[original] for original in originals]


def _words(path: Path, way_out: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in read_lines(path, way_out)]


def _read_mask(path: Path) -> Bool[np.ndarray, "rows columns"]:
    """Where a black and white picture, of whatever mode, is not black."""
    return read_values(path, lambda image: image.convert("RGB"), LOSSLESS).max(axis=2) > 0


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
