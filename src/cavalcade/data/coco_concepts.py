"""What the annotations of COCO mean: concepts from categories or from the keypoints of persons."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from cavalcade.data.body_parts import BODY_PARTS, KEYPOINTS, body_parts, shown_parts
from cavalcade.data.coco_json import (
    Annotation,
    CocoImage,
    CocoJson,
    keypoints_of,
    pixels_of,
    wrong,
)
from cavalcade.errors import InputError


class Told(NamedTuple):
    """What an annotation tells of one concept."""

    concept: str
    present: Bool[np.ndarray, "rows columns"]
    unknown: Bool[np.ndarray, "rows columns"]


class Meaning(ABC):
    """What the annotations of a file mean for concepts."""

    concepts: tuple[str, ...]

    def __init__(self, source: CocoJson) -> None:
        self.path = source.path

    @abstractmethod
    def about(self, annotation: Annotation) -> Sequence[str]:
        """The concepts that an annotation tells of."""

    @abstractmethod
    def shown(self, annotation: Annotation) -> Sequence[str]:
        """The concepts of which an annotation tells where they are."""

    @abstractmethod
    def told(self, image: CocoImage, annotation: Annotation) -> Iterator[Told]:
        """What it tells of each concept."""


class Categories(Meaning):
    """A concept is what has a name: its objects are present, its crowds unknown."""

    field = "name"

    def __init__(self, source: CocoJson) -> None:
        super().__init__(source)
        self._names = source.names(self.field)
        self.concepts = tuple(dict.fromkeys(self._names.values()))

    def about(self, annotation: Annotation) -> Sequence[str]:
        """The one concept of its category."""
        return (self._names[annotation.category],)

    def shown(self, annotation: Annotation) -> Sequence[str]:
        """The same, and none for a crowd."""
        return () if annotation.crowd else self.about(annotation)

    def told(self, image: CocoImage, annotation: Annotation) -> Iterator[Told]:
        """Present at all of its pixels, or unknown there."""
        pixels = pixels_of(annotation, image, self.path)
        nowhere = np.zeros_like(pixels)
        pair = (nowhere, pixels) if annotation.crowd else (pixels, nowhere)
        yield Told(self._names[annotation.category], *pair)


class Supercategories(Categories):
    """The same for the supercategories of the categories."""

    field = "supercategory"


class BodyParts(Meaning):
    """A concept is a part of persons; all parts of a crowd are unknown."""

    concepts = BODY_PARTS

    def __init__(self, source: CocoJson) -> None:
        super().__init__(source)
        persons = [key for key, name in source.names("name").items() if name == "person"]
        if len(persons) != 1:
            raise InputError(
                f'{self.path}: {len(persons)} categories are called "person", and body parts are '
                "those of one; set data.labels=categories"
            )
        self._person = persons[0]
        if source.categories[self._person].get("keypoints") != list(KEYPOINTS):
            must = f"must be the 17 of COCO, {', '.join(KEYPOINTS)}"
            raise wrong(self.path, 'category "person"', "keypoints", must)

    def about(self, annotation: Annotation) -> Sequence[str]:
        """All parts, of a person."""
        return self.concepts if annotation.category == self._person else ()

    def shown(self, annotation: Annotation) -> Sequence[str]:
        """Those whose keypoints are labelled."""
        if annotation.crowd or not self.about(annotation):
            return ()
        return shown_parts(keypoints_of(annotation, self.path))

    def told(self, image: CocoImage, annotation: Annotation) -> Iterator[Told]:
        """What its keypoints tell of each part, inside of its outline."""
        pixels = pixels_of(annotation, image, self.path)
        nothing = np.zeros((len(KEYPOINTS), 3))
        keypoints = nothing if annotation.crowd else keypoints_of(annotation, self.path)
        yield from map(Told, self.concepts, *body_parts(keypoints, pixels))


MEANINGS: dict[str, type[Meaning]] = {
    "categories": Categories,
    "supercategories": Supercategories,
    "body_parts": BodyParts,
}
