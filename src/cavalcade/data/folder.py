"""A user's own labelled images: `images/<split>/`, `masks/<split>/` and `classes.json`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cavalcade.data.files import (
    FileData,
    FileSplit,
    ImageFile,
    images_among,
    read_rgb,
    read_values,
)
from cavalcade.data.sample import SPLITS, ConceptSample
from cavalcade.errors import InputError, closest


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
class Folder(FileData):
    """Labelled images in a folder.

    `root/images/<split>/*` are the images; `root/masks/<split>/<name>.png` an index map whose
    values count through `names` of `root/classes.json` (`{"names": [...], "void": 255}`), or
    `root/masks/<split>/<name>/<concept>.png` one black-and-white picture for each concept, a
    missing one meaning that the concept is absent. Masks have the size of their image.

    An image is called by its file name; its id is that without the suffix.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = Classes.read(self.path / "classes.json")

    def open(self, split: str) -> "FolderSplit":
        """List, read once and check all files of one split."""
        folder = self.path / "images" / split
        if not folder.is_dir():
            raise InputError(
                f"{folder} does not exist; a data set has images/{{{','.join(SPLITS)}}}"
            )
        files = self.in_groups(images_among(folder.iterdir(), folder), folder)
        return FolderSplit(files, self.path / "masks" / split, self.classes)


class FolderSplit(FileSplit):
    """One split of a `Folder`, every file read and checked once."""

    def __init__(self, files: Sequence[ImageFile], masks: Path, classes: Classes) -> None:
        self.mask_folder, self.classes = masks, classes
        self.concepts = classes.names
        super().__init__(files)

    def __getitem__(self, index: int) -> ConceptSample:
        path = self.images[index]
        image = read_rgb(path, lambda image: image.convert("RGB"))
        masks, labelled = self._truth(path)
        if masks.shape[1:] != image.shape[1:]:
            raise InputError(
                f"{self._mask_path(path)} is {_size(masks)} but its image {path} is "
                f"{_size(image)}; give the mask the size of the image"
            )
        return ConceptSample(image, masks, labelled, self.ids[index], self.groups[index])

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


def _read_grey(path: Path) -> Tensor:
    """Values (height, width) of a one-channel picture; of a palette picture, its indices."""
    values = read_values(path)
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
