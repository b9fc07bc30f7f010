"""COCO: everyday photographs with the outlines of objects and the keypoints of persons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cavalcade.data.coco_concepts import MEANINGS, Meaning
from cavalcade.data.coco_json import CocoImage, CocoJson
from cavalcade.data.files import FileData, FileSplit, ImageFile
from cavalcade.data.links import Links
from cavalcade.data.pictures import image_shape
from cavalcade.data.sample import Labels, check_room
from cavalcade.errors import InputError, check_choice, check_whole


class Indexed(NamedTuple):
    """What is kept of a file: the chosen concepts, and what is told of these in each image."""

    meaning: Meaning
    chosen: tuple[str, ...]
    images: list[CocoImage]


@dataclass(kw_only=True)
class Coco(FileData):
    """The segmentations and keypoints of COCO (Lin et al., ECCV 2014), or data in its format.

    `root` holds the folders `train<year>`, `val<year>` and `annotations`. The published
    validation images are `test`; `val` is one group in ten of the published training images,
    see `held_out`, whatever concepts are chosen. An image is a group of its own where the user
    names none.

    A concept is the union of its objects. A crowd is void for its concept, and so is a person
    for a part of the body that is not known, except where another object is known to be.

    Attributes:
        labels: what a concept is: `categories`, `supercategories`, or `body_parts` of persons.
        year: of the annotations.
        containing: keep only the images that show one of the chosen concepts, crowds aside.
    """

    labels: str = "categories"
    year: int = 2017
    containing: bool = False
    name: str = "coco"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.labels", self.labels, MEANINGS)
        check_whole("data.year", self.year, 1)
        self._indexed: dict[str, Indexed] = {}

    def open(self, split: str) -> "CocoSplit":
        """List the images of one split and what is told of them; none is read.

        Raises:
            InputError: if the JSON file cannot be used, an image that it lists is missing, or
                the split is empty.
        """
        part = f"{'val' if split == 'test' else 'train'}{self.year}"
        indexed = self._index(part)
        folder = self.path / part
        images = {folder / image.name: image for image in indexed.images}
        files = self.part(self.in_groups(list(images), folder), split)
        if self.containing:
            files = [file for file in files if _shows(images[file.path], indexed)]
        self._check_files(files, split, folder, indexed)
        annotated = [images[file.path] for file in files]
        return CocoSplit(files, annotated, indexed, self.links)

    def _index(self, part: str) -> Indexed:
        """Read a JSON file once for all splits, and keep what is told of the chosen concepts."""
        if part not in self._indexed:
            kind = "person_keypoints" if self.labels == "body_parts" else "instances"
            path = self.path / "annotations" / f"{kind}_{part}.json"
            source = CocoJson.read(self.links.check(path))
            meaning = MEANINGS[self.labels](source)
            for other in self._indexed.values():
                if other.meaning.concepts != meaning.concepts:
                    raise InputError(
                        f"{source.path} and {other.meaning.path} differ in their "
                        f"{self.labels}; give files with the same"
                    )
            chosen = self.wanted(meaning.concepts)
            images = [_about(image, meaning, chosen) for image in source.images]
            self._indexed[part] = Indexed(meaning, chosen, images)
        return self._indexed[part]

    def _check_files(
        self, files: Sequence[ImageFile], split: str, folder: Path, indexed: Indexed
    ) -> None:
        if not files:
            of = " that shows one of the chosen concepts" if self.containing else ""
            raise InputError(
                f"{indexed.meaning.path} lists no image{of} for the split {split!r}, which needs "
                "at least one image, or two groups of training images to hold one of them out"
            )
        if self.on_error == "skip":  # each is left out when it is read
            return
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing = [f for f in files if f.name not in there and not f.path.is_file()]
        if missing:
            raise InputError(
                f"{missing[0].path} is missing, and with it {len(missing)} of the {len(files)} "
                f"images that {indexed.meaning.path} lists for the split {split!r}; unpack "
                f"{folder.name}.zip of https://cocodataset.org/#download in data.root"
            )


class CocoSplit(FileSplit):
    """Some images, and what is told of the chosen concepts in each of them."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        annotated: Sequence[CocoImage],
        indexed: Indexed,
        links: Links,
    ) -> None:
        super().__init__(files, indexed.chosen, links)
        self.annotated, self.meaning = annotated, indexed.meaning

    def labels(self, index: int) -> Labels:
        """Where concepts are, and where that is known: all over an image without voids.

        Raises:
            InputError: if the picture has another size than the JSON says, or an annotation is
                malformed.
        """
        image = self.annotated[index]
        self._check_size(index)
        shape = (len(self.concepts), image.height, image.width)
        check_room(self.images[index], shape)
        present = np.zeros(shape, dtype=bool)
        void: dict[int, np.ndarray] = {}
        for annotation in image.annotations:
            for told in self.meaning.told(image, annotation):
                if told.concept in self.concepts:
                    row = self.concepts.index(told.concept)
                    present[row] |= told.present
                    if told.unknown.any():
                        void[row] = void.get(row, False) | told.unknown
        labelled = torch.ones(1, *shape[1:], dtype=torch.bool).expand(shape)
        if void:
            labelled = labelled.clone()
            for row, unknown in void.items():
                labelled[row] = torch.from_numpy(present[row] | ~unknown)
        return Labels(torch.from_numpy(present), labelled)

    def _check_size(self, index: int) -> None:
        path, image = self.links.check(self.images[index]), self.annotated[index]
        height, width = image_shape(path)
        if (height, width) != (image.height, image.width):
            raise InputError(
                f"{path} is {width}x{height} pixels but {self.meaning.path} says "
                f"{image.width}x{image.height} pixels; get both as they were published"
            )


def _about(image: CocoImage, meaning: Meaning, chosen: Sequence[str]) -> CocoImage:
    """An image without the annotations that tell of no chosen concept."""
    kept = [a for a in image.annotations if not set(chosen).isdisjoint(meaning.about(a))]
    return image._replace(annotations=kept)


def _shows(image: CocoImage, indexed: Indexed) -> bool:
    shown = map(indexed.meaning.shown, image.annotations)
    return any(not set(indexed.chosen).isdisjoint(concepts) for concepts in shown)
