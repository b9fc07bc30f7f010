"""Images in the files of a folder, in groups that the user names, with labels or without."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from cavalcade.data.groups import held_out
from cavalcade.data.links import Links
from cavalcade.data.names import brief, check_plain
from cavalcade.data.pictures import IMAGE_SUFFIXES, as_rgb, read_rgb
from cavalcade.data.sample import ConceptData, ConceptDataset
from cavalcade.data.tables import read_rows
from cavalcade.errors import InputError, check_switch


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
        follow_links: read what links lead to outside of the folder, which is refused else.
        name: defaults to the name of the folder.
    """

    root: str
    group_pattern: str | None = None
    groups_csv: str | None = None
    follow_links: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switch("data.follow_links", self.follow_links)
        self.path = Path(os.path.expanduser(self.root))  # noqa: PTH111  # ~ may be nobody's
        if not os.path.isdir(self.path):  # noqa: PTH112  # whatever its length
            raise InputError(f"data.root is {self.root!r}, which is not a folder; give its path")
        self.name = self.name or self.path.resolve().name
        check_plain("data.root or data.name is", (self.root, self.name), "give another")
        self.links = Links(self.path, follow=self.follow_links)
        if self.group_pattern is not None and self.groups_csv is not None:
            raise InputError("data.group_pattern and data.groups_csv exclude each other; keep one")

    def in_groups(self, paths: Sequence[Path], home: Path) -> list[ImageFile]:
        """The images in the order of their groups and, within these, of their names.

        Args:
            paths: the images.
            home: the folder above them that names start from.

        Raises:
            InputError: if an image has no group, two share an id, or a name has a control
                character or is not UTF-8; `LeadsOutError` if the folder lies elsewhere.
        """
        self.links.check(home)
        names = [path.relative_to(home).as_posix() for path in paths]
        check_plain(f"{home} holds the name", names, "rename the file")
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
            known = _read_groups(Path(os.path.expanduser(self.groups_csv)))  # noqa: PTH111
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
    """A split whose images are files; nothing is read before it is asked for.

    Where links lead is looked at then too: only of the files that are read, for on the disk of
    another machine a look at every file that is listed takes long.
    """

    def __init__(self, files: Sequence[ImageFile], concepts: Sequence[str], links: Links) -> None:
        self.images, self.links = [file.path for file in files], links
        self.ids = tuple(file.id for file in files)
        self.groups = tuple(file.group for file in files)
        self.concepts = tuple(concepts)

    def image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """A picture in RGB, whatever its file holds.

        Raises:
            InputError: if there is none, or it cannot be read; `LeadsOutError` if it lies
                elsewhere.
        """
        path = self.links.check(self.images[index])
        if not path.is_file():
            raise InputError(
                f"{self.named_in(index)} names the image {path}, which is not there; unpack the "
                "archive again, or remove the line"
            )
        return read_rgb(path, as_rgb)

    def named_in(self, index: int) -> str:  # noqa: ARG002
        """Where the name of an image comes from."""
        return "the data set"


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, sorted.

    Raises:
        InputError: if there are none, or it is no folder.
    """
    try:
        return images_among(folder.iterdir(), folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error}); mend it") from error


def images_among(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The images among the paths in a folder, sorted.

    Raises:
        InputError: if there are none.
    """
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InputError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return images


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _read_groups(path: Path) -> dict[str, str]:
    groups: dict[str, str] = {}
    where = f"data.groups_csv {path}"
    for line, (own, group) in read_rows(path, ("id", "group"), "mend the path", where):
        check_plain(f"{where}, line {line} has the group", (group,), "rename it")
        if group and groups.setdefault(own, group) != group:
            raise InputError(
                f"{where}, line {line} puts {brief(own)} into a second group; name each image once"
            )
    return groups


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
