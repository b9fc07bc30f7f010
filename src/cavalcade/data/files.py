"""Images in the files of a folder, in groups that the user names, with labels or without."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from cavalcade.data.groups import held_out
from cavalcade.data.sample import ConceptData, ConceptDataset
from cavalcade.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# What Pillow raises at a file that is damaged, in its pixels or in what it says about them.
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Convert = Callable[[Image.Image], Image.Image]


class ImageFile(NamedTuple):
    """Where an image lies, and what it is called."""

    path: Path
    name: str
    """Its path below the folder that ids start from, with "/" and with the suffix."""
    group: str

    @property
    def id(self) -> str:
        """The name without its suffix."""
        return _without_suffix(self.name)


@dataclass(kw_only=True)
class FileData(ConceptData):
    """A data set of image files below one folder.

    Attributes:
        root: the folder.
        group_pattern: a regular expression on the name of each image; its first group, or the
            whole match, names the group of the image. Each image is its own group without one.
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
        if self.group_pattern is not None and self.groups_csv is not None:
            raise InputError("data.group_pattern and data.groups_csv exclude each other; keep one")

    def in_groups(self, paths: Sequence[Path], home: Path) -> list[ImageFile]:
        """The images in the order of their groups and, within these, of their names.

        Args:
            paths: the images.
            home: the folder above them that names start from.

        Raises:
            InputError: if an image has no group, or two share an id.
        """
        names = [path.relative_to(home).as_posix() for path in paths]
        files = list(map(ImageFile, paths, names, self._groups(paths, names)))
        files.sort(key=lambda file: (file.group, file.name))
        twins = {file.id: file.path for file in files}
        for file in files:
            twin = twins[file.id]
            if twin != file.path:
                raise InputError(f"{file.path} and {twin} share a name; rename one of them")
        return files

    def part(self, files: Sequence[ImageFile], split: str) -> list[ImageFile]:
        """The files of one split, of a publisher who labels two: `val` is held out of training.

        Args:
            files: those of the published split, all of them if `split` is `test`.
            split: `train`, `val` or `test`.
        """
        if split == "test":
            return list(files)
        held = held_out([file.group for file in files])
        return [file for file, out in zip(files, held, strict=True) if out == (split == "val")]

    def _groups(self, paths: Sequence[Path], names: Sequence[str]) -> list[str]:
        ids = [_without_suffix(name) for name in names]
        if self.groups_csv is not None:
            known = _read_groups(Path(self.groups_csv).expanduser())
            groups = []
            for path, own, name in zip(paths, ids, names, strict=True):
                group = known.get(own) or known.get(name)
                if group is None:
                    raise InputError(f"{self.groups_csv} names no group for {path}; add a row")
                groups.append(group)
            return groups
        if self.group_pattern is not None:
            return [_group_of(name, self.group_pattern) for name in names]
        return ids


class FileSplit(ConceptDataset):
    """A split whose images are files; nothing is read before it is asked for."""

    def __init__(self, files: Sequence[ImageFile], concepts: Sequence[str]) -> None:
        self.images = [file.path for file in files]
        self.ids = tuple(file.id for file in files)
        self.groups = tuple(file.group for file in files)
        self.concepts = tuple(concepts)

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture in RGB, whatever its file holds.

        Raises:
            InputError: if there is none, or it cannot be read.
        """
        path = self.images[index]
        if not path.is_file():
            raise InputError(
                f"{self.named_in(index)} names the image {path}, which is not there; unpack the "
                "archive again, or remove the line"
            )
        return read_rgb(path, lambda image: image.convert("RGB"))

    def named_in(self, index: int) -> str:  # noqa: ARG002
        """Where the name of an image comes from."""
        return "the data set"


def images_among(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The images among the paths in a folder, sorted.

    Raises:
        InputError: if there are none.
    """
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InputError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return images


def read_rgb(path: Path, convert: Convert) -> UInt8[Tensor, "3 height width"]:
    """Read a picture that `convert` brings to RGB.

    Raises:
        InputError: if it cannot be read.
    """
    return torch.from_numpy(read_values(path, convert)).permute(2, 0, 1).contiguous()


def read_values(path: Path, convert: Convert | None = None) -> np.ndarray:
    """Read a picture, as it is or converted: values (height, width) or (height, width, channels).

    Raises:
        InputError: if it cannot be read.
    """
    with _readable(path), Image.open(path) as image:
        return np.array(convert(image) if convert else image)


def image_shape(path: Path) -> tuple[int, int]:
    """Rows and columns of a picture as it is stored; only its header is read.

    Raises:
        InputError: if it cannot be read.
    """
    with _readable(path), Image.open(path) as image:
        return image.height, image.width


def read_lines(path: Path, way_out: str) -> list[str]:
    """The lines of a text, those at its end that are empty left out.

    Raises:
        InputError: if it is missing or cannot be read; `way_out` says what to do.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {way_out}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {way_out}") from error


def read_json(path: Path, *, missing: str, damaged: str) -> Any:  # noqa: ANN401
    """The contents of a JSON file.

    Raises:
        InputError: if it is `missing` or `damaged`, which say what to do then.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {missing}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {damaged}") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise InputError(
            f"{path} cannot be read as an image ({error}); mend or remove it"
        ) from error


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


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


def _group_of(name: str, pattern: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise InputError(
            f"data.group_pattern {pattern!r} is no regular expression: {error}"
        ) from error
    group = match and (match.group(1) if match.re.groups else match.group(0))
    if group is None:
        raise InputError(
            f"data.group_pattern {pattern!r} does not match the file name {name}; "
            "give one that matches every name"
        )
    return group
