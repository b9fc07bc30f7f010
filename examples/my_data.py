"""A data set of one's own: photographs, and boxes around things in a CSV file."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from cavalcade.data import Labels
from cavalcade.data.files import FileData, FileSplit, ImageFile, images_in
from cavalcade.data.links import Links
from cavalcade.data.pictures import image_shape
from cavalcade.errors import InputError, closest

SIDES = ("left", "top", "right", "bottom")


class Box(NamedTuple):
    """A thing on an image; its sides are in pixels."""

    concept: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(kw_only=True)
class Boxes(FileData):
    """`root/<split>/` holds the images, `root/boxes.csv` a row for each thing on any of them.

    Its columns: image (as `train/a.jpg`), concept, left, top, right, bottom (in pixels).
    """

    def open(self, split: str) -> "BoxesSplit":
        """List the images of one split; none of them is read."""
        folder = self.path / split
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist; a data set has train/, val/ and test/")
        files = self.in_groups(images_in(folder), self.path)
        boxes = read_boxes(self.links.check(self.path / "boxes.csv"))
        names = {file.name for file in files}
        for name in boxes:
            if name.startswith(f"{split}/") and name not in names:
                raise InputError(f"boxes.csv names {name}, no image here; {closest(name, names)}")
        concepts = sorted({box.concept for own in boxes.values() for box in own})
        return BoxesSplit(files, self.wanted(concepts), self.links, boxes)


class BoxesSplit(FileSplit):
    """One split of `Boxes`; its images are read by the class that it extends."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        concepts: Sequence[str],
        links: Links,
        boxes: Mapping[str, Sequence[Box]],
    ) -> None:
        super().__init__(files, concepts, links)
        self.boxes = [boxes.get(file.name, ()) for file in files]

    def labels(self, index: int) -> Labels:
        """A thing fills the ellipse in its box; whether it fills the corners is not known."""
        rows, columns = image_shape(self.images[index])
        masks = torch.zeros(len(self.concepts), rows, columns, dtype=torch.bool)
        corners = torch.zeros_like(masks)
        for concept, left, top, right, bottom in self.boxes[index]:
            if concept not in self.concepts:  # data.concepts= left it out
                continue
            # from -1 to 1 within the box, at the centres of pixels
            y = 2 * (torch.arange(rows)[:, None] + 0.5 - top) / (bottom - top) - 1
            x = 2 * (torch.arange(columns) + 0.5 - left) / (right - left) - 1
            ellipse, k = x**2 + y**2 <= 1, self.concepts.index(concept)
            masks[k] |= ellipse
            corners[k] |= (x.abs() <= 1) & (y.abs() <= 1) & ~ellipse
        return Labels(masks, masks | ~corners)


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """The boxes of each image, by its name."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                box = Box(row["concept"], *(float(row[side]) for side in SIDES))
                if box.right <= box.left or box.bottom <= box.top:
                    raise ValueError(f"a box of {row['image']} is empty")
                boxes[row["image"]].append(box)
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it needs a header and the "
            f"columns image, concept, {', '.join(SIDES)}"
        ) from error
    return boxes
