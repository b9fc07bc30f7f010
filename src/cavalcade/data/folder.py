"""A user's own labelled images: `images/<split>/`, `masks/<split>/` and `classes.json`."""

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cavalcade.data.sample import SPLITS, ConceptData, ConceptDataset, ConceptSample
from cavalcade.errors import InputError, closest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Classes:
    """The contents of `classes.json`: names by index, indices without truth, and of no concept."""

    names: tuple[str, ...]
    void: tuple[int, ...]
    background: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Classes":
        """Read and check `classes.json`.

        Raises:
            InputError: if the file is missing, is not JSON, or a field has another type.
        """
        content = _read_json(path)
        names = content.get("names") if isinstance(content, dict) else None
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise InputError(f'{path}: "names" must be a list of concept names')
        if len(set(names)) < len(names) or any(not name or "/" in name for name in names):
            raise InputError(
                f'{path}: "names" must differ from each other, be no empty words and hold no "/"'
            )
        others = {}
        for key in ("void", "background"):
            value = content.get(key, [])
            others[key] = value if isinstance(value, list) else [value]
            if not all(isinstance(index, int) for index in others[key]):
                raise InputError(f'{path}: "{key}" must be an index or a list of indices')
        return cls(tuple(names), tuple(others["void"]), tuple(others["background"]))


@dataclass(kw_only=True)
class Folder(ConceptData):
    """Labelled images in a folder.

    `root/images/<split>/*` are the images; `root/masks/<split>/<name>.png` an index map whose
    values count through `names` of `root/classes.json` (`{"names": [...], "void": 255}`), or
    `root/masks/<split>/<name>/<concept>.png` one black-and-white picture for each concept, a
    missing one meaning that the concept is absent. Masks have the size of their image.

    Attributes:
        root: the folder.
        group_pattern: a regular expression on the file name; its first group, or the whole
            match, names the group of the image. Each image is its own group without one.
        groups_csv: instead, a file with the columns `id` and `group`.
        name: defaults to the name of the folder.
    """

    root: str
    group_pattern: str | None = None
    groups_csv: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = Path(self.root).expanduser()
        if not self.path.is_dir():
            raise InputError(f"data.root is {self.root!r}, which is not a folder; give its path")
        self.name = self.name or self.path.resolve().name
        self.classes = Classes.read(self.path / "classes.json")
        if self.group_pattern is not None and self.groups_csv is not None:
            raise InputError("data.group_pattern and data.groups_csv exclude each other; keep one")

    def open(self, split: str) -> "FolderSplit":
        """List, read once and check all files of one split."""
        folder = self.path / "images" / split
        if not folder.is_dir():
            raise InputError(
                f"{folder} does not exist; a data set has images/{{{','.join(SPLITS)}}}"
            )
        images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise InputError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        groups = self._groups(images)
        order = sorted(range(len(images)), key=lambda i: (groups[i], images[i].name))
        return FolderSplit(
            [images[i] for i in order],
            [groups[i] for i in order],
            self.path / "masks" / split,
            self.classes,
        )

    def _groups(self, images: Sequence[Path]) -> list[str]:
        if self.groups_csv is not None:
            known = _read_groups(Path(self.groups_csv).expanduser())
            missing = [p for p in images if p.stem not in known and p.name not in known]
            if missing:
                raise InputError(f"{self.groups_csv} names no group for {missing[0]}; add a row")
            return [known.get(p.stem) or known[p.name] for p in images]
        if self.group_pattern is not None:
            return [_group_of(path, self.group_pattern) for path in images]
        return [p.stem for p in images]


class FolderSplit(ConceptDataset):
    """One split of a `Folder`, every file read and checked once."""

    def __init__(
        self, images: Sequence[Path], groups: Sequence[str], masks: Path, classes: Classes
    ) -> None:
        self.images, self.mask_folder, self.classes = list(images), masks, classes
        self.concepts = classes.names
        self.ids = tuple(path.stem for path in images)
        self.groups = tuple(groups)
        twins = {path.stem: path for path in images}
        if len(twins) < len(images):
            twin = next(path for path in images if twins[path.stem] != path)
            raise InputError(f"{twin} and {twins[twin.stem]} share a name; rename one of them")
        with ThreadPoolExecutor() as pool:
            self._digests = list(pool.map(self._check, range(len(images))))

    def __getitem__(self, index: int) -> ConceptSample:
        path = self.images[index]
        image = _read_rgb(path)
        masks, labelled = self._truth(path)
        if masks.shape[1:] != image.shape[1:]:
            raise InputError(
                f"{self._mask_path(path)} is {_size(masks)} but its image {path} is "
                f"{_size(image)}; give the mask the size of the image"
            )
        return ConceptSample(image, masks, labelled, self.ids[index], self.groups[index])

    def fingerprint(self) -> str:
        """Digest of concepts, names, groups, pixels and truth."""
        content = json.dumps([self.concepts, self.ids, self.groups, self._digests])
        return hashlib.sha256(content.encode()).hexdigest()

    def _check(self, index: int) -> str:
        sample = self[index]
        digest = hashlib.sha256(repr(tuple(sample.image.shape)).encode())
        digest.update(sample.image.numpy().tobytes())
        digest.update(np.packbits(sample.masks.numpy()).tobytes())
        digest.update(np.packbits(sample.labelled[:1].numpy()).tobytes())
        return digest.hexdigest()

    def _mask_path(self, image: Path) -> Path:
        folder = self.mask_folder / image.stem
        return folder if folder.is_dir() else self.mask_folder / f"{image.stem}.png"

    def _truth(
        self, image: Path
    ) -> tuple[Bool[Tensor, "concepts height width"], Bool[Tensor, "concepts height width"]]:
        path = self._mask_path(image)
        if not path.exists():
            raise InputError(
                f"image {image} has no mask; put one at {path}, or a folder {path.stem}/"
            )
        if path.is_dir():
            masks = self._boolean_masks(path)
            return masks, torch.ones(1, *masks.shape[1:], dtype=torch.bool).expand_as(masks)
        indices = _read_grey(path)
        self._check_indices(indices, path)
        masks = torch.stack([indices == k for k in range(len(self.concepts))])
        labelled = ~torch.isin(indices, torch.tensor(self.classes.void, dtype=indices.dtype))
        return masks, labelled[None].expand_as(masks)

    def _boolean_masks(self, folder: Path) -> Bool[Tensor, "concepts height width"]:
        files = {path.stem: path for path in folder.glob("*.png")}
        unknown = sorted(set(files) - set(self.concepts))
        if unknown:
            raise InputError(
                f"{files[unknown[0]]} is a mask of no concept in classes.json; "
                f"{closest(unknown[0], self.concepts)}"
            )
        if not files:
            raise InputError(f"{folder} holds no mask; put <concept>.png files into it")
        read = {name: _read_grey(path) > 0 for name, path in files.items()}
        shapes = {tuple(mask.shape) for mask in read.values()}
        if len(shapes) > 1:
            raise InputError(f"the masks in {folder} differ in size; give all that of the image")
        absent = torch.zeros(shapes.pop(), dtype=torch.bool)
        return torch.stack([read.get(name, absent) for name in self.concepts])

    def _check_indices(self, indices: Tensor, path: Path) -> None:
        allowed = [*range(len(self.concepts)), *self.classes.void, *self.classes.background]
        outside = indices[~torch.isin(indices, torch.tensor(allowed, dtype=indices.dtype))]
        if outside.numel():
            raise InputError(
                f"{path} holds the index {int(outside[0])}, but classes.json names "
                f"{len(self.concepts)} concepts (0 to {len(self.concepts) - 1}); name it, or "
                "list it as background (none of them) or void (not known)"
            )


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]} pixels"


def _open_image(path: Path, mode: str | None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} cannot be read as an image ({error}); mend or remove it"
        ) from error


def _read_rgb(path: Path) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(_open_image(path, "RGB")).permute(2, 0, 1).contiguous()


def _read_grey(path: Path) -> Tensor:
    """Values (height, width) of a one-channel picture; of a palette picture, its indices."""
    values = _open_image(path, None)
    if values.ndim != 2:
        raise InputError(f"{path} has {values.shape[2]} channels; a mask has one, with indices")
    return torch.from_numpy(values.astype(np.int32))


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f'{path} is missing; write {{"names": ["sky", …], "void": 255}}'
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); mend it") from error


def _read_groups(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"data.groups_csv {path} cannot be read ({error}); mend it") from error
    if not {"id", "group"} <= set(columns):
        raise InputError(f"data.groups_csv {path} needs a header with the columns id and group")
    return {row["id"]: row["group"] for row in rows if row["group"]}


def _group_of(path: Path, pattern: str) -> str:
    try:
        match = re.search(pattern, path.name)
    except re.error as error:
        raise InputError(
            f"data.group_pattern {pattern!r} is no regular expression: {error}"
        ) from error
    group = match and (match.group(1) if match.re.groups else match.group(0))
    if group is None:
        raise InputError(
            f"data.group_pattern {pattern!r} does not match the file name {path.name}; "
            "give one that matches every name"
        )
    return group
