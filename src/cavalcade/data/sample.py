"""What a data set is: samples, their splits, and how a split is thinned."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from cavalcade.errors import InputError, check_whole, closest

SPLITS = ("train", "val", "test")


class ConceptSample(NamedTuple):
    """One image and the truth about each concept at each of its pixels."""

    image: UInt8[Tensor, "3 height width"]
    masks: Bool[Tensor, "concepts height width"]
    labelled: Bool[Tensor, "concepts height width"]
    """Where the truth of a concept is known; False for void, crowd, not annotated."""
    id: str
    group: str
    """What must not be torn apart by a split or a block: a video, a subject, a scene."""


class ConceptDataset(Dataset[ConceptSample], ABC):
    """One split of a data set, its samples in order within their groups.

    Attributes:
        concepts: names, in the order of the masks.
        ids: one per sample, unique; the order of a video is the order of its ids here.
        groups: one per sample; samples of a group follow each other.
    """

    concepts: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __getitem__(self, index: int) -> ConceptSample: ...

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest of the content: equal exactly where images and truth are."""


class Thinned(ConceptDataset):
    """At most `limit` samples of a data set, spread evenly over its order."""

    def __init__(self, dataset: ConceptDataset, limit: int) -> None:
        self.dataset = dataset
        kept = min(limit, len(dataset))
        self.indices = [i * len(dataset) // kept for i in range(kept)]
        self.concepts = dataset.concepts
        self.ids = tuple(dataset.ids[i] for i in self.indices)
        self.groups = tuple(dataset.groups[i] for i in self.indices)

    def __getitem__(self, index: int) -> ConceptSample:
        return self.dataset[self.indices[index]]

    def fingerprint(self) -> str:
        """Digest of the whole split and of what is kept of it."""
        kept = f"{self.dataset.fingerprint()} {self.indices}"
        return hashlib.sha256(kept.encode()).hexdigest()


@dataclass(kw_only=True)
class ConceptData(ABC):
    """A data set: its splits, and the grid on which all masks are compared.

    Attributes:
        name: how the data set is called in folders and plots.
        grid: height and width of the common grid over the unit square of each test image.
        limit: for a split, the number of samples to keep, spread evenly over its order.
        test_images: a cap on the test split, which every run keeps masks of.
        thumbnails: longer side in pixels of the small pictures of test images that are kept for
            galleries; None keeps none, for private data.
    """

    name: str
    grid: Sequence[int] = (64, 64)
    limit: Mapping[str, int | None] = field(default_factory=dict)
    test_images: int = 1000
    thumbnails: int | None = 192

    def __post_init__(self) -> None:
        for split in self.limit:
            if split not in SPLITS:
                raise InputError(f"data.limit has no split {split!r}; {closest(split, SPLITS)}")
        limits = {f"limit.{split}": n for split, n in self.limit.items() if n is not None}
        for what, count in {**limits, "test_images": self.test_images}.items():
            check_whole(f"data.{what}", count, 1)
        if self.thumbnails is not None:
            check_whole("data.thumbnails (null for none)", self.thumbnails, 16)
        if len(self.grid) != 2 or not all(isinstance(n, int) and n > 0 for n in self.grid):
            raise InputError(f"data.grid is {self.grid!r}; give a height and a width in pixels")

    @abstractmethod
    def open(self, split: str) -> ConceptDataset:
        """The whole of one split."""

    def split(self, split: str) -> ConceptDataset:
        """One split, thinned as asked."""
        dataset = self.open(split)
        limit = self.limit.get(split) or len(dataset)
        if split == "test":
            limit = min(limit, self.test_images)
        return dataset if limit >= len(dataset) else Thinned(dataset, limit)
