"""What a data set is: samples, their splits, and which of its samples and concepts are kept."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from cavalcade.data.names import brief, check_plain
from cavalcade.errors import InputError, check_choice, check_whole, closest

SPLITS = ("train", "val", "test")
SMALLEST_THUMBNAIL, LARGEST_THUMBNAIL = 16, 8192  # pixels along the longer side
MAX_CELLS = 2**32  # pixels of all masks of one image, each a byte
ON_ERROR = ("stop", "skip")


class WholeError(InputError):
    """What concerns more than one sample: it stops even where `on_error` is `skip`."""


class Labels(NamedTuple):
    """The truth about each concept over one image, at a resolution of its own."""

    masks: Bool[Tensor, "concepts rows columns"]
    labelled: Bool[Tensor, "concepts rows columns"]
    """Where the truth of a concept is known; False for void, crowd, not annotated."""

    @property
    def shared(self) -> bool:
        """Whether one map, expanded, says where the truth is known of every concept."""
        return self.labelled.stride(0) == 0

    def chosen(self, rows: Sequence[int]) -> "Labels":
        """The truth about some of the concepts."""
        if self.shared:
            return Labels(self.masks[rows], self.labelled[:1].expand(len(rows), -1, -1))
        return Labels(self.masks[rows], self.labelled[rows])


class ConceptSample(NamedTuple):
    """One image and the truth about each concept; both cover the whole frame."""

    image: UInt8[Tensor, "3 height width"]
    masks: Bool[Tensor, "concepts rows columns"]
    labelled: Bool[Tensor, "concepts rows columns"]
    id: str
    group: str
    """What must not be torn apart by a split or a block: a video, a subject, a scene."""


def check_room(where: Path | str, shape: Sequence[int]) -> None:
    """Raise if the masks of one image would take more than `MAX_CELLS` bytes.

    Raises:
        InputError: naming what they are of.
    """
    if math.prod(shape) > MAX_CELLS:
        raise InputError(
            f"{where} asks for masks of {shape[0]} concepts with {shape[1]}x{shape[2]} pixels "
            f"each, more than {MAX_CELLS:,} in all; make it smaller, or name fewer concepts by "
            "data.concepts"
        )


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
    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture."""

    @abstractmethod
    def labels(self, index: int) -> Labels:
        """The truth about it. Where one map of what is labelled serves all concepts, expand it."""

    def __getitem__(self, index: int) -> ConceptSample:
        return ConceptSample(
            self.image(index), *self.labels(index), self.ids[index], self.groups[index]
        )


class Part(ConceptDataset):
    """Some samples of a data set."""

    def __init__(self, dataset: ConceptDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.concepts = dataset.concepts
        self.ids = tuple(dataset.ids[i] for i in self.indices)
        self.groups = tuple(dataset.groups[i] for i in self.indices)

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture that was kept."""
        return self.dataset.image(self.indices[index])

    def labels(self, index: int) -> Labels:
        """The truth about it."""
        return self.dataset.labels(self.indices[index])


class Thinned(Part):
    """At most `limit` samples of a data set, spread evenly over its order."""

    def __init__(self, dataset: ConceptDataset, limit: int) -> None:
        kept = min(limit, len(dataset))
        super().__init__(dataset, [i * len(dataset) // kept for i in range(kept)])


class Chosen(ConceptDataset):
    """A data set with some of its concepts."""

    def __init__(self, dataset: ConceptDataset, concepts: Sequence[str]) -> None:
        self.dataset, self.concepts = dataset, tuple(concepts)
        self.rows = [dataset.concepts.index(name) for name in concepts]
        self.ids, self.groups = dataset.ids, dataset.groups

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture."""
        return self.dataset.image(index)

    def labels(self, index: int) -> Labels:
        """The truth about it and the concepts that were chosen."""
        return self.dataset.labels(index).chosen(self.rows)


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
        concepts: names of those to keep, or shell patterns such as `hair*`; None keeps all.
        min_pixels: a concept is kept that has as many labelled pixels in the training images.
        min_images: and that as many training images show.
        on_error: what to do about a sample that cannot be read: `stop`, or `skip` it and say so.
    """

    name: str
    grid: Sequence[int] = (64, 64)
    limit: Mapping[str, int | None] = field(default_factory=dict)
    test_images: int = 1000
    thumbnails: int | None = 192
    concepts: Sequence[str] | None = None
    min_pixels: int = 0
    min_images: int = 0
    on_error: str = "stop"

    def __post_init__(self) -> None:
        if not isinstance(self.limit, Mapping):
            raise InputError(
                f"data.limit is {self.limit!r}; give one for each split, as data.limit.train=100"
            )
        for split in self.limit:
            if split not in SPLITS:
                raise InputError(f"data.limit has no split {split!r}; {closest(split, SPLITS)}")
        limits = {f"limit.{split}": n for split, n in self.limit.items() if n is not None}
        for what, count in {**limits, "test_images": self.test_images}.items():
            check_whole(f"data.{what}", count, 1)
        if self.thumbnails is not None:
            what = "data.thumbnails (null for none)"
            check_whole(what, self.thumbnails, SMALLEST_THUMBNAIL)
            if self.thumbnails > LARGEST_THUMBNAIL:
                raise InputError(f"{what} is {self.thumbnails}; give at most {LARGEST_THUMBNAIL}")
        whole = isinstance(self.grid, Sequence) and len(self.grid) == 2
        if not whole or not all(isinstance(n, int) and n > 0 for n in self.grid):
            raise InputError(f"data.grid is {self.grid!r}; give a height and a width in pixels")
        check_whole("data.min_pixels", self.min_pixels, 0)
        check_whole("data.min_images", self.min_images, 0)
        check_choice("data.on_error", self.on_error, ON_ERROR)
        if isinstance(self.concepts, str):
            self.concepts = (self.concepts,)
        if self.concepts is not None and not (
            self.concepts and all(isinstance(entry, str) and entry for entry in self.concepts)
        ):
            raise InputError(
                f"data.concepts is {self.concepts!r}; give names or patterns such as 'hair*', or "
                "null for all concepts"
            )

    @abstractmethod
    def open(self, split: str) -> ConceptDataset:
        """The whole of one split. No sample is read."""

    def split(self, split: str) -> ConceptDataset:
        """One split, thinned, with the concepts that are named. No sample is read.

        Raises:
            InputError: if it is none of `SPLITS`, or a concept, image or group has a name that a
                table cannot hold, or that another one has.
        """
        check_choice("the split", split, SPLITS)
        dataset = self.open(split)
        self._check_names(dataset)
        limit = self.limit.get(split) or len(dataset)
        if split == "test":
            limit = min(limit, self.test_images)
        if limit < len(dataset):
            dataset = Thinned(dataset, limit)
        wanted = self.wanted(dataset.concepts)
        return dataset if wanted == dataset.concepts else Chosen(dataset, wanted)

    def _check_names(self, dataset: ConceptDataset) -> None:
        for what, names in (("concept", dataset.concepts), ("image", dataset.ids)):
            twins = Counter(names) - Counter(set(names))
            for name in twins:
                raise InputError(
                    f"{self.name} has two {what}s called {brief(name)}; rename one of them"
                )
            check_plain(f"{self.name} has the {what}", names, "rename it")
        check_plain(f"{self.name} has the group", dataset.groups, "rename it")

    def wanted(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those that `concepts` chooses, in their own order.

        Where there are many, `open` can ask for this itself, so that no other is ever decoded.

        Raises:
            InputError: if an entry of `concepts` matches none.
        """
        if self.concepts is None:
            return tuple(names)
        if not names:
            raise InputError(f"data.concepts chooses among labels, and {self.name} has none")
        for entry in self.concepts:
            if not any(_matches(name, entry) for name in names):
                raise InputError(
                    f"data.concepts has {entry!r}, which no concept of {self.name} matches; "
                    f"{closest(entry, names)}"
                )
        return tuple(n for n in names if any(_matches(n, entry) for entry in self.concepts))


def _matches(name: str, entry: str) -> bool:
    """A name may hold what a pattern would read otherwise, such as brackets."""
    return name == entry or fnmatchcase(name, entry)
