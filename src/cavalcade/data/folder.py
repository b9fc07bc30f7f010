"""A user's own labelled images: `images/<split>/`, `masks/<split>/` and `classes.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cavalcade.data.files import FileData, ImageFile, images_in
from cavalcade.data.index_maps import IndexMapSplit, Legend, check_size, read_index_map
from cavalcade.data.links import Links
from cavalcade.data.names import brief, check_plain, is_plain
from cavalcade.data.pictures import IMAGE_SUFFIXES, image_shape
from cavalcade.data.sample import SPLITS, Labels, check_room
from cavalcade.data.tables import read_json_list
from cavalcade.errors import InputError, closest

KEYS = ("names", "void", "background")
MAX_INDEX = 2**16 - 1


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
            InputError: if the file is missing, is not JSON, has a field of no meaning, or one of
                another type.
        """
        content = read_json_list(
            path,
            missing="data.root must be the folder of it, images/ and masks/; write "
            '{"names": ["sky", …], "void": 255}',
            damaged="mend it",
        )
        names = content.get("names") if isinstance(content, dict) else None
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise InputError(f'{path}: "names" must be a list of concept names')
        if len(set(names)) < len(names) or any(not name or "/" in name for name in names):
            raise InputError(
                f'{path}: "names" must differ from each other, be no empty words and hold no "/"'
            )
        check_plain(f'{path}: "names" has', names, "rename it")
        for key in content:
            if key not in KEYS:
                raise InputError(
                    f"{path} has the field {brief(key)} of no meaning; {closest(key, KEYS)}"
                )
        others = {}
        for key in ("void", "background"):
            value = content.get(key, [])
            others[key] = value if isinstance(value, list) else [value]
            if not all(type(index) is int and index <= MAX_INDEX for index in others[key]):
                raise InputError(
                    f'{path}: "{key}" must be an index or a list of indices, up to {MAX_INDEX}'
                )
        return cls(tuple(names), tuple(others["void"]), tuple(others["background"]))

    @property
    def legend(self) -> Legend:
        """What the values of an index map mean: a name's place in the list is its value."""
        return Legend(
            concepts={name: (index,) for index, name in enumerate(self.names)},
            void=self.void,
            background=self.background,
            otherwise=(
                f"but classes.json names {len(self.names)} concepts (0 to {len(self.names) - 1}); "
                "name it, or list it as background (none of them) or void (not known)"
            ),
        )


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
        self.classes = Classes.read(self.links.check(self.path / "classes.json"))

    def open(self, split: str) -> "FolderSplit":
        """List the files of one split; none of them is read."""
        folder = self.path / "images" / split
        if not folder.is_dir():
            raise InputError(
                f"{folder} does not exist; a data set has images/{{{','.join(SPLITS)}}}"
            )
        files = self.in_groups(images_in(folder), folder)
        legend = self.classes.legend.only(self.wanted(self.classes.names))
        masks = self.path / "masks" / split
        return FolderSplit(files, masks, legend, self.classes.names, self.links)


class FolderSplit(IndexMapSplit):
    """One split of a `Folder`; each image has an index map or a folder of boolean masks."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        masks: Path,
        legend: Legend,
        names: Sequence[str],
        links: Links,
    ) -> None:
        """`names` are those of all concepts, of which the legend may hold a few."""
        index_maps = {file.path: masks / f"{file.path.stem}.png" for file in files}
        super().__init__(files, index_maps, legend, links)
        self.names = tuple(names)

    def labels(self, index: int) -> Labels:
        """The truth about each pixel.

        Raises:
            InputError: if there is no mask, or one is damaged, of another size or of no concept.
        """
        path, image = self.index_maps[index], self.links.check(self.images[index])
        folder = path.parent / image.stem
        if self.links.check(folder).is_dir():
            return self._boolean_masks(folder, image)
        if not path.exists():
            raise InputError(
                f"image {image} has no mask; put one at {path}, or a folder {folder.name}/"
            )
        return super().labels(index)

    def _boolean_masks(self, folder: Path, image: Path) -> Labels:
        files = {name: self.links.check(path) for name, path in _masks_in(folder).items()}
        unknown = sorted(set(files) - set(self.names))
        if unknown:
            file = f"{files[unknown[0]]}" if is_plain(unknown[0]) else f"{folder}/{unknown[0]!r}"
            raise InputError(
                f"{file} is a mask of no concept in classes.json; {closest(unknown[0], self.names)}"
            )
        if not files:
            raise InputError(f"{folder} holds no mask; put <concept>.png files into it")
        shown = [name for name in self.concepts if name in files]
        shapes = {image_shape(files[name]) for name in shown}
        if len(shapes) > 1:
            raise InputError(f"the masks in {folder} differ in size; give all that of the image")
        for shape in shapes:
            check_size(folder, shape, image)
        room = (len(self.concepts), *image_shape(image))
        check_room(folder, room)
        masks = np.zeros(room, bool)
        for name in shown:
            masks[self.concepts.index(name)] = read_index_map(files[name]) > 0
        return Labels(torch.from_numpy(masks), torch.tensor(True).expand(masks.shape))


def _masks_in(folder: Path) -> dict[str, Path]:
    """The masks of one image by concept; other pictures than PNG, which may be lossy, are refused.

    Raises:
        InputError: naming one that is no PNG, or one of two of a concept.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            continue
        if suffix != ".png":
            raise InputError(f"{path} is no PNG file; give masks as <concept>.png")
        if path.stem in files:
            raise InputError(f"{path} is a second mask of its concept; remove one of the two")
        files[path.stem] = path
    return files
