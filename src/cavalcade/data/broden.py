"""Broden, the broadly and densely labelled data set of Network Dissection, as published."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32
from PIL import Image

from cavalcade.data.files import FileData, FileSplit, ImageFile
from cavalcade.data.links import Links
from cavalcade.data.names import brief, check_plain, is_plain, stays_below
from cavalcade.data.pictures import LOSSLESS, MAX_PIXELS, read_values
from cavalcade.data.sample import Labels, check_room
from cavalcade.data.tables import read_rows, whole_number
from cavalcade.errors import InputError, check_choice

CATEGORY = re.compile(r"\s*(\w+)\(\d+\)\s*")  # and in how many images
CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
# The word in index.csv for what each split is taken from.
PUBLISHED = {"train": "train", "val": "train", "test": "val"}
NUMBERS = 256 * 256  # what the red and the green channel of a label map can hold
# In a table from numbers to concepts: a number that is known but not asked for, and one that
# label.csv does not list under the category.
OTHER, UNLISTED = -1, -2
MISSING = (
    "data.root must be the folder that Broden's archive unpacks to, with index.csv, label.csv and "
    "images/"
)

Table = Int32[np.ndarray, "65536"]


class Label(NamedTuple):
    """A row of label.csv: one concept, under all categories that it occurs in."""

    number: int
    name: str
    categories: tuple[str, ...]


class Row(NamedTuple):
    """A row of index.csv: one image, and by category what labels it."""

    line: int
    image: str
    split: str
    size: tuple[int, int]
    """Height and width of its label maps."""
    cells: Mapping[str, str]


@dataclass(kw_only=True)
class Broden(FileData):
    """Network Dissection's data set (Bau et al. 2017): six categories of concepts, few per image.

    `root` is the folder that its archive unpacks to, with `index.csv`, `label.csv` and
    `images/`. An image is labelled for the concepts of those categories that its row in
    index.csv has an entry for; of the others nothing is known there, and they are not taken to
    be absent. An entry is one or more label maps, laid over each other, whose pixels hold
    label numbers as red + 256 * green (0: labelled, of no concept), or the numbers of what
    holds for the whole image. Label maps have a resolution of their own, by default half that
    of the images. A concept of several categories is labelled where any of them is.

    The published split `val` is the test split; of `train`, one group in ten is held out.
    An image is called by its path below `images/`; its id is that without the suffix.

    Attributes:
        categories: which to take concepts from, of color, object, part, material, scene and
            texture; all where None. A concept is known by these categories alone, and images
            without an entry in any of them are left out.
    """

    categories: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chosen = CATEGORIES if self.categories is None else tuple(self.categories)
        for category in self.chosen:
            check_choice("data.categories", category, CATEGORIES)
        if not self.chosen:
            raise InputError(f"data.categories is empty; give some of {', '.join(CATEGORIES)}")

    def open(self, split: str) -> "BrodenSplit":
        """Read the two tables, and list one split.

        Raises:
            InputError: if a table is missing or wrong, or the split is empty.
        """
        names = self.wanted([label.name for label in self._labels])
        home = self.path / "images"
        rows = {home / row.image: row for row in self._index if row.split == PUBLISHED[split]}
        files = self.part(self.in_groups(list(rows), home), split)
        if not files:
            raise InputError(
                f"{self.path / 'index.csv'} leaves the split {split} empty: test is what it calls "
                "val, and val is one group in ten, but at least one of two, of what it calls "
                "train; images without an entry in data.categories do not count"
            )
        tables = number_tables(self._labels, names, self.chosen)
        own = [rows[file.path] for file in files]
        return BrodenSplit(files, names, own, tables, self.links)

    @cached_property
    def _labels(self) -> list[Label]:
        return read_labels(self.links.check(self.path / "label.csv"), self.chosen)

    @cached_property
    def _index(self) -> list[Row]:
        return read_index(self.links.check(self.path / "index.csv"), self.chosen)


class BrodenSplit(FileSplit):
    """One split of `Broden`; of an image, only the maps of categories that matter are read."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        concepts: Sequence[str],
        rows: Sequence[Row],
        tables: Mapping[str, Table],
        links: Links,
    ) -> None:
        super().__init__(files, concepts, links)
        self.rows, self.tables, self.root = list(rows), dict(tables), links.root
        self.of_category = {
            name: np.isin(np.arange(len(concepts)), t) for name, t in tables.items()
        }

    def labels(self, index: int) -> Labels:
        """The truth at the resolution of the label maps.

        Raises:
            InputError: if an entry is no label number and no label map, or names what
                label.csv does not list.
        """
        row = self.rows[index]
        check_room(self.named_in(index), (len(self.concepts), *row.size))
        masks = np.zeros((len(self.concepts), *row.size), dtype=bool)
        known = np.zeros(len(self.concepts), dtype=bool)
        for category in self.tables:
            items = [item.strip() for item in row.cells[category].split(";") if item.strip()]
            known |= self.of_category[category] & bool(items)
            for item in items:
                self._mark(masks, index, category, item)
        if known.all() or not known.any():
            known = known[:1]  # one map serves all concepts
        labelled = torch.from_numpy(known)[:, None, None].expand(masks.shape)
        return Labels(torch.from_numpy(masks), labelled)

    def _mark(
        self, masks: Bool[np.ndarray, "concepts rows columns"], index: int, category: str, item: str
    ) -> None:
        """Set the masks as one item of an entry says."""
        table, line = self.tables[category], self.named_in(index)
        if item.isdecimal():
            number = whole_number(item)
            concept = table[number] if number is not None and number < NUMBERS else UNLISTED
            if concept == UNLISTED:
                raise _unlisted(line, item, category)
            if concept >= 0:
                masks[concept] = True
            return
        if not stays_below(item) or not is_plain(item):
            raise InputError(
                f"{line}, {category}: {brief(item)} is no label number, nor a path below images/; "
                "correct the entry"
            )
        path = self.links.check(self.root / "images" / item)
        numbers = self._read_map(path, index, category)
        concepts = table[numbers]
        if concepts.min() == UNLISTED:
            raise _unlisted(str(path), numbers[concepts == UNLISTED][0], category)
        rows, columns = np.nonzero(concepts >= 0)
        masks[concepts[rows, columns], rows, columns] = True

    def _read_map(self, path: Path, index: int, category: str) -> Int32[np.ndarray, "rows columns"]:
        """The label number of each pixel."""
        if not path.is_file():
            raise InputError(
                f"{self.named_in(index)}, {category}: {brief(path.name)} is no label number, nor "
                f"is there a label map {path}; unpack the archive again, or correct the entry"
            )
        values = read_values(path, _as_rgb, LOSSLESS).astype(np.int32)
        height, width = self.rows[index].size
        if values.shape[:2] != (height, width):
            raise InputError(
                f"{path} is {values.shape[1]}x{values.shape[0]} pixels, but {self.named_in(index)} "
                f"gives all its label maps {width}x{height} pixels (sw x sh); correct one of them"
            )
        return values[..., 0] + 256 * values[..., 1]

    def named_in(self, index: int) -> str:
        """The line of index.csv that an image stands in."""
        return f"{self.root / 'index.csv'}, line {self.rows[index].line}"


def _unlisted(where: str, number: object, category: str) -> InputError:
    return InputError(
        f"{where} holds the label number {number}, which label.csv does not list under {category}; "
        "correct one of them"
    )


def number_tables(
    labels: Iterable[Label], names: Sequence[str], categories: Iterable[str]
) -> dict[str, Table]:
    """For each category with a concept among `names`: from a label number to its concept."""
    concepts = {name: k for k, name in enumerate(names)}
    tables = {}
    for category in categories:
        table = np.full(NUMBERS, UNLISTED, dtype=np.int32)
        table[0] = OTHER
        for label in labels:
            if category in label.categories:
                table[label.number] = concepts.get(label.name, OTHER)
        if table.max() >= 0:
            tables[category] = table
    return tables


def read_labels(path: Path, categories: Iterable[str]) -> list[Label]:
    """The concepts of label.csv that occur in some of the categories, by number.

    Raises:
        InputError: if the file is missing or wrong, or two concepts share a number or a name.
    """
    labels: dict[int, Label] = {}
    names: set[str] = set()
    for line, (digits, name, category) in read_rows(path, ("number", "name", "category"), MISSING):
        where = f"{path}, line {line}"
        number = _whole(where, "number", digits)
        own = [m[1] for m in map(CATEGORY.fullmatch, category.split(";")) if m]
        if number == 0:  # what is of no concept, if it is listed
            continue
        if number >= NUMBERS:
            raise InputError(f"{where}: number is {number}; label maps end at {NUMBERS - 1}")
        if not own:
            raise InputError(
                f"{where}: category is {brief(category)}; write it like 'object(20);part(3)'"
            )
        if number in labels or name in names or not name:
            raise InputError(
                f"{where}: the number {number} or the name {brief(name)} is taken or empty; "
                "give each concept one of its own"
            )
        check_plain(f"{where}: the name is", (name,), "rename it")
        names.add(name)
        labels[number] = Label(number, name, tuple(own))
    chosen = set(categories)
    found = [labels[number] for number in sorted(labels) if chosen & set(labels[number].categories)]
    if not found:
        wanted = ", ".join(sorted(chosen))
        raise InputError(f"{path} lists no concept of data.categories {wanted}; choose others")
    return found


def read_index(path: Path, categories: Sequence[str]) -> list[Row]:
    """The rows of index.csv that have an entry in some of the categories.

    Raises:
        InputError: if the file is missing or wrong, or names an image twice.
    """
    rows: dict[str, Row] = {}
    columns = ("image", "split", "sh", "sw", *categories)
    for line, (image, split, height, width, *entries) in read_rows(path, columns, MISSING):
        where = f"{path}, line {line}"
        if not stays_below(image) or not is_plain(image) or image in rows:
            raise InputError(
                f"{where}: image is {brief(image)}; name each image once, by its path below images/"
            )
        if split not in PUBLISHED.values():
            raise InputError(f"{where}: split is {brief(split)}; write train or val")
        size = (_whole(where, "sh", height, 1), _whole(where, "sw", width, 1))
        if size[0] * size[1] > MAX_PIXELS:
            raise InputError(
                f"{where}: sh and sw are {height} and {width}, more than {MAX_PIXELS:,} pixels; "
                "correct them"
            )
        cells = dict(zip(categories, entries, strict=True))
        rows[image] = Row(line, image, split, size, cells)
    return [row for row in rows.values() if any(row.cells.values())]


def _whole(where: str, column: str, value: str, least: int = 0) -> int:
    number = whole_number(value)
    if number is None or number < least:
        raise InputError(
            f"{where}: {column} is {brief(value)}; give a whole number from {least} up"
        )
    return number


def _as_rgb(image: Image.Image) -> Image.Image:
    """A label map as red and green hold it; a palette is looked up.

    Raises:
        ValueError: if it is grey, as the numbers of a map that was saved in another way would be.
    """
    if image.mode not in ("RGB", "RGBA", "P"):
        raise ValueError(f"a label map has colours, this is of Pillow's mode {image.mode}")
    return image.convert("RGB")
