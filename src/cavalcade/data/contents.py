"""What the splits of a data set hold: every sample is read and checked before anything starts."""

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from cavalcade.data.compact import CompactLabels, bit_rows, compressed
from cavalcade.data.left_out import LeftOut, check_agreed, say_left_out
from cavalcade.data.pictures import is_shortage
from cavalcade.data.sample import (
    Chosen,
    ConceptData,
    ConceptDataset,
    Labels,
    Part,
    WholeError,
)
from cavalcade.errors import InputError, listed, one_line
from cavalcade.progress import progress

READERS = 4  # threads, each with all masks of an image
CAPACITY = 2**30  # bytes of compact labels that are kept of a split
DIGEST = 8  # bytes of a digest of the truth about one concept in one image

log = logging.getLogger(__name__)


class Contents(ConceptDataset):
    """A split whose every sample was read once, and whose labels are at hand since then.

    Labels are kept compactly, those of the first samples that fit into `capacity` bytes.
    Other labels, and all pictures, are read again when they are asked for.

    Attributes:
        left_out: the samples that could not be read, which are not among the others.
        present: number of labelled pixels of each image that show each concept.
        labelled: number of pixels of each image where the truth of each concept is known.
        shapes: height and width of each image.
        compact: the labels at hand.
    """

    present: Int[Tensor, "images concepts"]
    labelled: Int[Tensor, "images concepts"]
    shapes: Int[Tensor, "images 2"]

    def __init__(
        self, dataset: ConceptDataset, *, capacity: int = CAPACITY, skip: bool = False
    ) -> None:
        """Read all samples; `skip` leaves out those that cannot be read."""
        self.concepts = dataset.concepts
        images, concepts = len(dataset), len(self.concepts)
        self.present = torch.zeros(images, concepts, dtype=torch.int32)
        self.labelled = torch.zeros_like(self.present)
        self.shapes = torch.zeros(images, 2, dtype=torch.int64)
        self.compact = CompactLabels(concepts)
        self._rows = list(range(concepts))  # of the compact labels
        self._pictures: list[str] = []
        self._truth = np.zeros((images, concepts, DIGEST), np.uint8)
        failed: dict[int, LeftOut] = {}
        with ThreadPoolExecutor(READERS) as pool:
            # In order, so that of the samples that cannot be read the first is named.
            readings = pool.map(
                lambda index: _read_or_skip(dataset, index, skip=skip), range(images)
            )
            for index, reading in enumerate(progress(readings, "reading images", images)):
                if isinstance(reading, LeftOut):
                    failed[index] = reading
                else:
                    self._note(reading, capacity)
        self._keep(dataset, failed)

    @property
    def num_pixels(self) -> Int[Tensor, " images"]:
        """Of each image."""
        return self.shapes.prod(dim=1)

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture, read again."""
        return self.dataset.image(index)

    def labels(self, index: int) -> Labels:
        """The truth about it."""
        if index < len(self.compact):
            return self.compact.read(index, self._rows)
        return self.dataset.labels(index)

    def fingerprint(self) -> str:
        """Hexadecimal digest: equal exactly where concepts, names, groups, images and truth are."""
        content = json.dumps([self.concepts, self.ids, self.groups, self._pictures])
        return hashlib.sha256(content.encode() + self._truth.tobytes()).hexdigest()

    def pictures_fingerprint(self) -> str:
        """The same of pictures alone, in their order, whatever is labelled on them."""
        return hashlib.sha256(json.dumps(self._pictures).encode()).hexdigest()

    def chosen(self, concepts: Sequence[str]) -> "Contents":
        """The same with some of the concepts. Nothing is read."""
        rows = [self.concepts.index(name) for name in concepts]
        other = copy.copy(self)
        other.dataset, other.concepts = Chosen(self.dataset, concepts), tuple(concepts)
        other.present, other.labelled = self.present[:, rows], self.labelled[:, rows]
        other._rows, other._truth = [self._rows[row] for row in rows], self._truth[:, rows]
        return other

    def _keep(self, dataset: ConceptDataset, failed: Mapping[int, LeftOut]) -> None:
        """Have no place for samples that were left out."""
        kept = [index for index in range(len(dataset)) if index not in failed]
        self.dataset = Part(dataset, kept) if failed else dataset
        self.ids, self.groups = self.dataset.ids, self.dataset.groups
        self.left_out = tuple(failed.values())
        self.present, self.labelled = self.present[: len(kept)], self.labelled[: len(kept)]
        self.shapes, self._truth = self.shapes[: len(kept)], self._truth[: len(kept)]

    def _note(self, reading: "_Reading", capacity: int) -> None:
        index = len(self._pictures)
        self._pictures.append(reading.picture)
        self._truth[index] = reading.truth
        self.present[index], self.labelled[index] = reading.present, reading.labelled
        self.shapes[index] = torch.tensor(reading.shape)
        size = self.compact.num_bytes + sum(map(len, reading.rows))
        if index == len(self.compact) and size <= capacity:
            self.compact.append(reading.shape, reading.rows)


class _Reading(NamedTuple):
    """What is noted of a sample; neither its picture nor its masks."""

    picture: str
    truth: UInt8[np.ndarray, "concepts digest"]
    present: Int[Tensor, " concepts"]
    labelled: Int[Tensor, " concepts"]
    shape: tuple[int, int]
    rows: list[bytes]


def _read(dataset: ConceptDataset, index: int) -> _Reading:
    try:
        sample = dataset[index]
    except (OSError, RuntimeError, MemoryError) as error:
        said = f"image {dataset.ids[index]} cannot be read"
        reason = one_line(error) or type(error).__name__
        if is_shortage(error):
            raise WholeError(
                f"{said}, for lack of memory or open files ({reason}); free some, or choose fewer "
                "concepts"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"{said} ({reason}); mend that") from error
        raise
    rows, columns = sample.masks.shape[1:]
    masks, unknown = bit_rows(Labels(sample.masks, sample.labelled))
    maps = list(zip(sample.masks.numpy(), sample.labelled.numpy(), strict=True))
    return _Reading(
        picture=_digest_of_picture(sample.image),
        truth=_digests_of_truth((rows, columns), masks, unknown),
        present=torch.tensor([np.count_nonzero(m & known) for m, known in maps], dtype=torch.int32),
        labelled=torch.tensor([np.count_nonzero(known) for _, known in maps], dtype=torch.int32),
        shape=(rows, columns),
        rows=compressed([*masks, *unknown]),
    )


def _read_or_skip(dataset: ConceptDataset, index: int, *, skip: bool) -> "_Reading | LeftOut":
    try:
        return _read(dataset, index)
    except WholeError:
        raise
    except InputError as error:
        if skip:
            return LeftOut(dataset.ids[index], str(error))
        raise InputError(f"{error}, or leave out such images with data.on_error=skip") from error


def _digest_of_picture(image: UInt8[Tensor, "3 height width"]) -> str:
    digest = hashlib.sha256(repr(tuple(image.shape)).encode())
    digest.update(image.contiguous().numpy().data)
    return digest.hexdigest()


def _digests_of_truth(
    shape: tuple[int, int], masks: Sequence[bytes], unknown: Sequence[bytes]
) -> UInt8[np.ndarray, "concepts digest"]:
    """One digest for each concept, so that it does not depend on which others there are."""
    context = [hashlib.sha256(repr(shape).encode() + row).digest() for row in unknown]
    if len(unknown) == 1:
        context *= len(masks)
    digests = [
        hashlib.sha256(own + row).digest()[:DIGEST] for own, row in zip(context, masks, strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(masks), DIGEST)


def read_splits(data: ConceptData, splits: Sequence[str]) -> dict[str, Contents]:
    """Read and check some splits of a data set, and keep the concepts that it asks for.

    Which concepts are shown often enough rests on the training images alone, so that all splits
    have the same ones, whichever are read.

    Raises:
        InputError: if a sample cannot be used, no concept is left, or all samples of a split were
            left out since `on_error` is `skip`.
    """
    skip = data.on_error == "skip"
    choosy = data.min_pixels > 0 or data.min_images > 0
    try:
        opened = {
            s: data.split(s) for s in dict.fromkeys([*splits, *(["train"] if choosy else [])])
        }
    except OSError as error:  # a folder that may not be looked into, a disk that is gone
        raise InputError(f"{data.name} cannot be read ({one_line(error)}); mend that") from error
    contents = {}
    for split, dataset in opened.items():
        log.info("%s: reading and checking %d %s images", data.name, len(dataset), split)
        contents[split] = Contents(dataset, skip=skip)
        say_left_out(data.name, split, contents[split].left_out, dataset)
    if skip:
        check_agreed(data, {split: own.left_out for split, own in contents.items()})
    if not choosy:
        return contents
    frequent = _frequent(data, contents["train"])
    return {split: contents[split].chosen(frequent) for split in splits}


def _frequent(data: ConceptData, train: Contents) -> list[str]:
    """The concepts that enough training images show, on enough of their pixels."""
    if not train.concepts:
        raise InputError(
            f"data.min_pixels and data.min_images choose among labels, and {data.name} has none"
        )
    pixels, images = train.present.sum(dim=0), (train.present > 0).sum(dim=0)
    enough = (pixels >= data.min_pixels) & (images >= data.min_images)
    frequent = [name for name, kept in zip(train.concepts, enough, strict=True) if kept]
    if not frequent:
        largest = ", ".join(
            f"{train.concepts[k]} ({pixels[k]} pixels of {images[k]} images)"
            for k in pixels.argsort(descending=True, stable=True)[:3]
        )
        raise InputError(
            f"no concept of {data.name} has {data.min_pixels} labelled pixels in the training "
            f"images and is shown by {data.min_images} of them: the largest are {largest}; "
            "lower data.min_pixels or data.min_images"
        )
    rare = [name for name in train.concepts if name not in frequent]
    if rare:
        log.info(
            "%s: %d of %d concepts are left out, for data.min_pixels or data.min_images: %s",
            *(data.name, len(rare), len(train.concepts), listed(rare)),
        )
    return frequent


def concept_table(contents: Mapping[str, Contents]) -> pd.DataFrame:
    """How often each concept is shown in each split.

    A row for each `concept`; for each split, the number of `images` that show it and the
    `percent` that it has of the pixels where its truth is known (NaN where it is nowhere).
    """
    first = next(iter(contents.values()))
    columns: dict[str, Sequence[object]] = {"concept": first.concepts}
    for split, own in contents.items():
        share = own.present.sum(dim=0).double() / own.labelled.sum(dim=0)
        columns[f"{split} images"] = (own.present > 0).sum(dim=0).tolist()
        columns[f"{split} percent"] = (100 * share).tolist()
    return pd.DataFrame(columns)
