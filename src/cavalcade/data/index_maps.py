"""Index maps: pictures whose values say what each pixel of an image is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer

from cavalcade.data.files import FileSplit, ImageFile
from cavalcade.data.links import Links
from cavalcade.data.pictures import LOSSLESS, image_shape, read_values
from cavalcade.data.sample import Labels, check_room
from cavalcade.errors import InputError

# Codes of what is no concept, counted from the number of concepts.
BACKGROUND, VOID, UNKNOWN = range(3)


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What the values of index maps mean; where a value is given twice, void goes first.

    Attributes:
        concepts: for each concept, the values that are it, in the order of the masks.
        void: values of pixels of which nothing is known.
        background: values of pixels that are known to be none of the concepts.
        otherwise: what is wrong with any other value and the way out, to end an error message.
    """

    concepts: Mapping[str, Sequence[int]]
    void: Sequence[int] = ()
    background: Sequence[int] = ()
    otherwise: str

    def only(self, names: Sequence[str]) -> "Legend":
        """The legend of some concepts; the others become background."""
        others = [v for name, own in self.concepts.items() if name not in names for v in own]
        return replace(
            self,
            concepts={name: self.concepts[name] for name in names},
            background=[*self.background, *others],
        )

    def labels(self, values: Integer[np.ndarray, "rows columns"], path: Path) -> Labels:
        """The truth that an index map, read from a path, holds.

        Raises:
            InputError: if a value is not in the legend, or there are too many masks.
        """
        count = len(self.concepts)
        check_room(path, (count, *values.shape))
        codes = np.take(self._codes, values, mode="clip")
        if values.dtype.kind == "i":  # where indices may be negative, which are in no legend
            codes[values < 0] = count + UNKNOWN
        unknown = codes == count + UNKNOWN
        if unknown.any():
            raise InputError(f"{path} holds the index {values[unknown][0]}, {self.otherwise}")
        # NumPy compares bytes many at a time, ten times as fast as PyTorch
        masks = torch.from_numpy(codes == np.arange(count, dtype=codes.dtype)[:, None, None])
        return Labels(masks, torch.from_numpy(codes != count + VOID).expand(masks.shape))

    @cached_property
    def _codes(self) -> Integer[np.ndarray, " values"]:
        """For each value the number of its concept or what else it is; unknown at the end."""
        count = len(self.concepts)
        codes = dict.fromkeys(self.background, count + BACKGROUND)
        for number, values in enumerate(self.concepts.values()):
            codes |= dict.fromkeys(values, number)
        codes |= dict.fromkeys(self.void, count + VOID)
        codes = {value: code for value, code in codes.items() if value >= 0}
        smallest = np.min_scalar_type(count + UNKNOWN)
        table = np.full(max(codes, default=-1) + 2, count + UNKNOWN, smallest)
        table[list(codes)] = list(codes.values())
        return table


class IndexMapSplit(FileSplit):
    """A split with one index map for each image, of the image's size."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        index_maps: Mapping[Path, Path],
        legend: Legend,
        links: Links,
    ) -> None:
        """`index_maps` says where that of each image lies."""
        super().__init__(files, tuple(legend.concepts), links)
        self.index_maps = [index_maps[path] for path in self.images]
        self.legend = legend

    def labels(self, index: int) -> Labels:
        """The truth about each pixel.

        Raises:
            InputError: if there is no index map, or it is damaged, of another size or holds
                what the legend does not; `LeadsOutError` if it lies elsewhere.
        """
        path, image = map(self.links.check, (self.index_maps[index], self.images[index]))
        if not path.exists():
            raise InputError(f"image {image} has no mask; put one at {path}")
        values = read_index_map(path)
        check_size(path, values.shape, image)
        return self.legend_of(index).labels(values, path)

    def legend_of(self, index: int) -> Legend:  # noqa: ARG002
        """What the values of one index map mean; all are read by the same legend by default."""
        return self.legend


def read_index_map(path: Path) -> Integer[np.ndarray, "rows columns"]:
    """The values of a one-channel picture; of a palette picture, its indices.

    Raises:
        InputError: if it cannot be read, has several channels, values that are not whole, or a
            format that does not keep values as they are.
    """
    values = read_values(path, formats=LOSSLESS)
    if values.ndim != 2:
        raise InputError(f"{path} has {values.shape[2]} channels; a mask has one, with indices")
    if values.dtype.kind not in "biu":
        raise InputError(f"{path} holds numbers of kind {values.dtype}; a mask holds whole ones")
    return values if values.dtype.kind in "ui" else values.astype(np.int32)


def check_size(mask: Path, shape: Sequence[int], image: Path) -> None:
    """Raise unless a mask has the size of its image.

    Raises:
        InputError: naming both files and both sizes.
    """
    own = image_shape(image)
    if tuple(shape) != own:
        raise InputError(
            f"{mask} is {_size(shape)} but its image {image} is {_size(own)}; "
            "give the mask the size of the image"
        )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
