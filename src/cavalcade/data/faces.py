"""Faces drawn from a seed: a labelled data set that needs no download."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from cavalcade.data.face_canvas import NOTHING, Canvas
from cavalcade.data.face_parts import (
    FACE_CONCEPTS,
    THING,
    Person,
    back_hair,
    background,
    brows,
    clothes,
    ears,
    eyes,
    glasses,
    hair,
    hat,
    mouth,
    neck,
    nose,
    skull,
    someone,
    strands,
)
from cavalcade.data.sample import SPLITS, ConceptData, ConceptDataset, Labels
from cavalcade.errors import InputError, check_whole, closest


def light(canvas: Canvas, person: Person, rng: Generator) -> UInt8[np.ndarray, "size size 3"]:
    """The picture at its final size, lit from one side, the head as something round."""
    picture = np.asarray(canvas.picture.reduce(2), np.float32)
    lit = Image.fromarray(np.asarray(canvas.parts) != NOTHING).convert("L").reduce(2)
    head, angle = person.head, rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: canvas.side : 2, : canvas.side : 2]
    x, y = (x - head.centre[0]) / head.scale / head.width, (y - head.centre[1]) / head.scale
    beam = np.cos(angle) * x + np.sin(angle) * y
    relief = (0.25 + 0.35 * beam) / np.sqrt(1 + x**2 + y**2) - 0.15
    shading = (1 + np.asarray(lit) / 255 * relief) * (1 + rng.uniform(0, 0.15) * beam)
    tint = rng.uniform(0.82, 1.04) * rng.normal(1, 0.04, 3)
    return np.clip(picture * (shading[..., None] * tint), 0, 255).astype(np.uint8)


# From back to front: each hides what it covers of those before it.
BACK = (background, back_hair, clothes, neck, ears, skull)
FRONT = (nose, mouth, eyes, brows, glasses, hair, strands, hat)


def portrait(
    rng: Generator, size: int
) -> tuple[UInt8[np.ndarray, "3 size size"], UInt8[np.ndarray, "size size"]]:
    """A picture of a face, and the index of the concept at each pixel (255 for none)."""
    canvas = Canvas(size)
    person = someone(rng, canvas.side)
    for paint in BACK + FRONT:
        paint(canvas, person, rng)
    picture, parts = light(canvas, person, rng), np.asarray(canvas.parts)[::2, ::2]
    return picture.transpose(2, 0, 1), np.where(parts == THING, np.uint8(NOTHING), parts)


class FacesSplit(ConceptDataset):
    """Faces held in memory; the i-th is the same however many are asked for."""

    concepts = FACE_CONCEPTS

    def __init__(self, split: str, count: int, size: int, seed: int) -> None:
        self.ids = self.groups = tuple(f"{split}-{i:04d}" for i in range(count))
        seeds = ((seed, SPLITS.index(split), i) for i in range(count))
        drawn = [portrait(np.random.default_rng(each), size) for each in seeds]
        self.images = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
        self.parts = torch.from_numpy(np.stack([parts for _, parts in drawn]))

    def image(self, index: int) -> UInt8[Tensor, "3 size size"]:
        """A picture of a face."""
        return self.images[index]

    def labels(self, index: int) -> Labels:
        """Its parts, known everywhere."""
        masks = self.parts[index] == torch.arange(len(self.concepts))[:, None, None]
        return Labels(masks, torch.tensor(True).expand(masks.shape))


@dataclass(kw_only=True)
class Faces(ConceptData):
    """Faces drawn when a split is opened, labelled at each pixel, every one a subject of its own.

    Attributes:
        num_images: for each split, how many faces to draw.
        size: height and width of an image in pixels.
        seed: the same seed draws the same faces.
    """

    name: str = "faces"
    grid: Sequence[int] = (72, 72)
    num_images: Mapping[str, int] = field(
        default_factory=lambda: {"train": 400, "val": 100, "test": 200}
    )
    size: int = 144
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for split, count in self.num_images.items():
            if split not in SPLITS:
                raise InputError(
                    f"data.num_images has no split {split!r}; {closest(split, SPLITS)}"
                )
            check_whole(f"data.num_images.{split}", count, 1)
        check_whole("data.size", self.size, 32)
        check_whole("data.seed", self.seed, 0)

    def open(self, split: str) -> ConceptDataset:
        """Draw the whole of one split.

        Raises:
            InputError: if `num_images` does not say how many faces the split has.
        """
        if split not in self.num_images:
            known = closest(split, self.num_images)
            raise InputError(f"data.num_images has no split {split!r}; {known}")
        return FacesSplit(split, self.num_images[split], self.size, self.seed)
