"""The JSON files of COCO: read, checked and indexed, and what their segmentations mean."""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cavalcade.data.names import brief, is_plain, stays_below
from cavalcade.data.tables import read_json_list
from cavalcade.errors import InputError

Entry = Mapping[str, Any]
LONGEST_OUTLINE = 2**22  # pixels of an annotation, for each of which pycocotools takes 130 bytes
LETTERS = 12  # of a run in COCO's text: 60 bits

# What every entry of a list must hold, and of which type.
FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": str, "height": int, "width": int},
    "categories": {"id": (int, str), "name": str},
    "annotations": {"id": (int, str), "image_id": (int, str), "category_id": (int, str)},
}


class Annotation(NamedTuple):
    """One object, or one crowd of them."""

    id: Hashable
    category: Hashable
    crowd: bool
    segmentation: object
    keypoints: object


class CocoImage(NamedTuple):
    """An image as the JSON describes it."""

    name: str
    height: int
    width: int
    annotations: list[Annotation]


@dataclass(frozen=True)
class CocoJson:
    """One JSON file: its images, and its categories by their ids."""

    path: Path
    images: list[CocoImage]
    categories: Mapping[Hashable, Entry]

    @classmethod
    def read(cls, path: Path) -> "CocoJson":
        """Read, check and index a file.

        Raises:
            InputError: if it is missing, is no JSON, or an entry lacks a field, names no image
                or category of the file, or shares its id.
        """
        content = _read(path)
        ids = {name: _check_entries(path, name, content[name]) for name in FIELDS}
        for entry in content["annotations"]:
            for field, name in {"image_id": "images", "category_id": "categories"}.items():
                if entry[field] not in ids[name]:
                    must = f'is {brief(entry[field])}, which is the id of no entry of "{name}"'
                    raise wrong(path, f"annotation {brief(entry['id'])}", field, must)
        index = COCO()
        index.dataset = content
        with redirect_stdout(StringIO()):
            index.createIndex()
        images = [
            CocoImage(
                *(image["file_name"], image["height"], image["width"]),
                [_annotation(entry) for entry in index.imgToAnns.get(key, ())],
            )
            for key, image in index.imgs.items()
        ]
        return cls(path, images, index.cats)

    def names(self, field: str) -> dict[Hashable, str]:
        """The name, or supercategory, of each category.

        Raises:
            InputError: if a category has none.
        """
        names = {}
        for key, category in self.categories.items():
            name = category.get(field)
            if not isinstance(name, str) or not name or "/" in name or not is_plain(name):
                raise wrong(
                    self.path, f"category {brief(key)}", field, 'must be a word without "/"'
                )
            names[key] = name
        return names


def wrong(path: Path, entry: str, field: str, must: str) -> InputError:
    """What to raise where a field of an entry is not as it must be."""
    return InputError(f'{path}: "{field}" of {entry} {must}; mend the file or get it anew')


def pixels_of(
    annotation: Annotation, image: CocoImage, path: Path
) -> Bool[np.ndarray, "rows columns"]:
    """The pixels of an annotation, from polygons or run lengths, compressed or not.

    Raises:
        InputError: if they do not describe pixels of the image.
    """
    content = annotation.segmentation
    try:
        if isinstance(content, list):
            return _from_polygons(content, image.height, image.width)
        return _from_runs(content, image.height, image.width)
    except ValueError as error:
        raise wrong(
            path, f"annotation {brief(annotation.id)}", "segmentation", str(error)
        ) from error


def keypoints_of(annotation: Annotation, path: Path) -> Float[np.ndarray, "17 3"]:
    """x, y and visibility of the keypoints of a person; all 0 where there are none.

    Raises:
        InputError: if these are not 17 triples, or a visibility is none of 0, 1, 2.
    """
    if annotation.keypoints is None:
        return np.zeros((17, 3))
    try:
        values = _points(annotation.keypoints, 3)
    except ValueError as error:
        raise wrong(path, f"annotation {brief(annotation.id)}", "keypoints", str(error)) from error
    if len(values) != 17 or not np.isin(values[:, 2], (0, 1, 2)).all():
        must = "must be 17 times x, y and a visibility of 0, 1 or 2"
        raise wrong(path, f"annotation {brief(annotation.id)}", "keypoints", must)
    return values


def _annotation(entry: Entry) -> Annotation:
    return Annotation(
        *(entry["id"], entry["category_id"], bool(entry.get("iscrowd", 0))),
        *(entry.get("segmentation"), entry.get("keypoints")),
    )


def _read(path: Path) -> dict[str, Any]:
    content = read_json_list(
        path,
        missing="unpack annotations_trainval<year>.zip of https://cocodataset.org/#download in "
        "data.root, or set data.year",
        damaged="get it anew",
    )
    for name in FIELDS:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise InputError(f'{path} has no list "{name}"; give annotations in the format of COCO')
    return content


def _check_entries(path: Path, name: str, entries: Sequence[Any]) -> set[Hashable]:
    """Check the fields of one list, and return its ids."""
    taken: dict[str, set[Hashable]] = {"id": set(), "file_name": set()}
    for i, entry in enumerate(entries):
        for field, kind in FIELDS[name].items():
            value = entry.get(field) if isinstance(entry, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise wrong(path, f'entry {i} of "{name}"', field, f"is {brief(value)}")
            if field == "file_name" and not (stays_below(str(value)) and is_plain(str(value))):
                must = f"is {brief(value)}, which is no plain path below the folder of the images"
                raise wrong(path, f'entry {i} of "{name}"', field, must)
            if field in taken:
                if value in taken[field]:
                    must = f"is {brief(value)}, which an entry before has too"
                    raise wrong(path, f'entry {i} of "{name}"', field, must)
                taken[field].add(value)
        if name == "annotations" and entry.get("iscrowd", 0) not in (0, 1):
            must = f"is {brief(entry['iscrowd'])}; it must be 0 or 1"
            raise wrong(path, f'entry {i} of "{name}"', "iscrowd", must)
    return taken["id"]


def _from_polygons(
    content: Sequence[Any], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    polygons = [_points(polygon, 2) for polygon in content]
    if not polygons:
        raise ValueError("has no polygon")
    size = np.array([width, height])
    for polygon in polygons:
        # pycocotools walks along every edge, wherever it leads
        if not ((polygon >= -size) & (polygon <= 2 * size)).all():
            raise ValueError(f"reaches far out of its image of {width}x{height} pixels")
    # it takes four numbers for a box; two points enclose nothing
    rings = [polygon.ravel().tolist() for polygon in polygons if len(polygon) > 2]
    if not rings:
        return np.zeros((height, width), dtype=bool)
    if sum(map(_outline, polygons)) > LONGEST_OUTLINE:
        raise ValueError(f"has an outline of more than {LONGEST_OUTLINE:,} pixels")
    return _from_runs(coco_mask.merge(coco_mask.frPyObjects(rings, height, width)), height, width)


def _outline(polygon: Float[np.ndarray, "points 2"]) -> float:
    """How many pixels lie along the edges of a polygon."""
    return float(np.abs(polygon - np.roll(polygon, 1, axis=0)).max(axis=1).sum())


def _from_runs(content: object, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """Pixels from run lengths, down the columns, the first run being of what is not set.

    Not by pycocotools, which reads past the end of its memory where runs are too few.
    """
    if not isinstance(content, dict) or content.get("size") != [height, width]:
        raise ValueError(f"must be polygons, or run lengths of the size [{height}, {width}]")
    counts = content.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str | bytes) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("must have counts that are whole numbers from 0 up")
    if sum(runs) != height * width:
        raise ValueError(
            f"has counts that add up to {brief(sum(runs))}, not to {height}x{width} pixels"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(width, height).T


def _uncompressed(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits a letter, from the fourth run on as differences."""
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode() if isinstance(text, str) else text:
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError("has counts with letters of no meaning")
        value |= (bits & 31) << shift
        shift += 5
        if shift > 5 * LETTERS:  # far above any image; without end they would take ever longer
            raise ValueError("has counts that are too large")
        if not bits & 32:  # the last letter of a run, and its fifth bit the sign
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("has counts that are cut off")
    return runs


def _points(values: object, columns: int) -> Float[np.ndarray, "points {columns}"]:
    try:
        numbers = np.array(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("must be lists of numbers") from error
    if numbers.dtype.kind not in "iuf":  # texts, for one, would be read as numbers
        raise ValueError("must be lists of numbers")
    numbers = numbers.astype(np.float64)
    if numbers.ndim != 1 or not len(numbers) or len(numbers) % columns:
        raise ValueError(f"must be lists of numbers, {columns} for each point")
    if not np.isfinite(numbers).all():
        raise ValueError("must be lists of finite numbers")
    return numbers.reshape(-1, columns)
