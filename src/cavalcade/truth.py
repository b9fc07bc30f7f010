"""What is true on the test images of a data set, shared by all runs on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.concepts.encoding import pack, unpack
from cavalcade.data.batches import ConceptDataModule
from cavalcade.data.geometry import at_cell_centres
from cavalcade.data.groups import contiguous_blocks
from cavalcade.errors import InputError, counted
from cavalcade.file_versions import file_version, unchanged
from cavalcade.folders import META, digest_of, read_meta, write_meta, written_whole
from cavalcade.meta_fields import WAY_OUT, Fields
from cavalcade.stored_masks import all_pixels, check_bits
from cavalcade.tensor_files import check_tensor, read_tensors
from cavalcade.thumbnails import FILE as THUMBNAILS
from cavalcade.thumbnails import Thumbnails, thumbnail

MASKS = "masks.safetensors"
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Truth:
    """What is true on the test images, shared by all runs of a data set.

    Attributes:
        data: name of the data set.
        fingerprint: of the test split.
        grid: height and width of the common grid.
        concepts: their names.
        ids: of the test images, in order.
        groups: one per image.
        blocks: number of the block of each image; see `contiguous_blocks`.
        masks: bits, where each concept is.
        labelled: bits, where its truth is known.
        thumbnail_size: longer side of the thumbnails, in pixels; None without any.
        thumbnails: of the test images; none for private data.
    """

    data: str
    fingerprint: str
    grid: tuple[int, int]
    concepts: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    blocks: tuple[int, ...]
    masks: UInt8[Tensor, "images concepts bytes"]
    labelled: UInt8[Tensor, "images concepts bytes"]
    thumbnail_size: int | None
    thumbnails: Thumbnails

    @classmethod
    def of(cls, data: ConceptDataModule) -> "Truth":
        """The truth of the test split, in the order of its images."""
        test, grid = data.splits["test"], data.data.grid
        size = data.data.thumbnails
        masks, labelled, thumbnails = [], [], []
        for index in range(len(test)):
            labels = test.labels(index)
            masks.append(pack(at_cell_centres(labels.masks, grid)))
            labelled.append(pack(at_cell_centres(labels.labelled, grid)))
            thumbnails += [] if size is None else [thumbnail(test.image(index), size)]
        return cls(
            data=data.data.name,
            fingerprint=data.fingerprints["test"],
            grid=(grid[0], grid[1]),
            concepts=test.concepts,
            ids=test.ids,
            groups=test.groups,
            blocks=tuple(contiguous_blocks(test.groups)),
            masks=torch.stack(masks),
            labelled=torch.stack(labelled),
            thumbnail_size=size,
            thumbnails=Thumbnails(tuple(thumbnails)),
        )

    def save(self, place: Path) -> None:
        """Write the truth folder."""
        with written_whole(place, kind="truth") as folder:
            tensors = {"masks": self.masks, "labelled": self.labelled}
            save_file(tensors, folder / MASKS)
            if self.thumbnail_size is not None:
                self.thumbnails.save(folder / THUMBNAILS)
            named = {k: v for k, v in vars(self).items() if k not in (*tensors, "thumbnails")}
            write_meta(folder, "truth", named)

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read a truth folder.

        Raises:
            InputError: if it is missing or damaged, or is made again meanwhile.
        """
        with unchanged(folder / META, file_version(folder / META)):
            return cls._read(folder)

    @classmethod
    def _read(cls, folder: Path) -> "Truth":
        fields = Fields(read_meta(folder, "truth"), folder / META)
        grid, concepts = fields.size("grid"), fields.texts("concepts", distinct=True)
        ids, size = fields.texts("ids"), fields.content.get("thumbnail_size")
        num_bytes = -(-grid[0] * grid[1] // 8)
        masks, labelled = _bits(fields, (len(ids), len(concepts), num_bytes), grid)
        return cls(
            data=fields.plain_name("data"),
            fingerprint=fields.text("fingerprint"),
            grid=grid,
            concepts=concepts,
            ids=ids,
            groups=_one_each(fields, "groups", ids, fields.texts("groups")),
            blocks=_one_each(fields, "blocks", ids, _blocks(fields)),
            masks=masks,
            labelled=labelled,
            thumbnail_size=None if size is None else fields.whole("thumbnail_size", 1),
            thumbnails=_thumbnails(fields, len(ids)),
        )

    def strata_bits(self, concept: int) -> UInt8[np.ndarray, "images strata bytes"]:
        """See `strata`; as bits."""
        masks, labelled = (bits[:, concept].numpy() for bits in (self.masks, self.labelled))
        every = all_pixels(self.grid[0] * self.grid[1])
        strata = np.stack([masks & labelled, labelled & ~masks, every & ~labelled], axis=1)
        return strata[:, strata.any(axis=(0, 2))]

    def strata(self, concept: int) -> Bool[Tensor, "images strata pixels"]:
        """Pixels of the same true label: with a concept, without it, and of unknown label."""
        labelled = unpack(self.labelled[:, concept], self.grid)
        present = unpack(self.masks[:, concept], self.grid) & labelled
        strata = torch.stack([present, labelled & ~present, ~labelled], dim=1)
        return strata[:, strata.any(dim=2).any(dim=0)]


def _bits(
    fields: Fields, shape: tuple[int, int, int], grid: tuple[int, int]
) -> list[UInt8[Tensor, "images concepts bytes"]]:
    """`masks` and `labelled`, of which no bit lies beyond the grid."""
    path = _listed(fields, MASKS)
    tensors, found = read_tensors(path, "masks", "labelled"), []
    for name in ("masks", "labelled"):
        bits = check_tensor(path, name, tensors[name], torch.uint8, shape)
        if bits.numel():
            check_bits(path, name, bits.numpy(), all_pixels(grid[0] * grid[1]))
        found.append(bits)
    return found


def _one_each(
    fields: Fields, name: str, ids: Sequence[str], found: tuple[Entry, ...]
) -> tuple[Entry, ...]:
    if not ids or len(found) != len(ids):
        raise fields.wrong(name, f"one for each of {counted(len(ids), 'image')}")
    return found


def _blocks(fields: Fields) -> tuple[int, ...]:
    """Numbers of blocks, which are contiguous and counted from 0."""
    blocks = fields.wholes("blocks", 0)
    if blocks[:1] != (0,) or any(
        after - before not in (0, 1) for before, after in pairwise(blocks)
    ):
        raise fields.wrong("blocks", "0, 1, … in their order")
    return blocks


def _thumbnails(fields: Fields, num_images: int) -> Thumbnails:
    """One of each image, or none."""
    if THUMBNAILS not in fields.content["files"]:
        return Thumbnails(())
    thumbnails = Thumbnails.load(fields.path.with_name(THUMBNAILS))
    if len(thumbnails) not in (0, num_images):
        raise InputError(
            f"{fields.path.with_name(THUMBNAILS)} has {counted(len(thumbnails), 'picture')} of "
            f"{counted(num_images, 'image')}; {WAY_OUT}"
        )
    return thumbnails


def _listed(fields: Fields, name: str) -> Path:
    if name not in fields.content["files"]:
        raise InputError(f"{fields.path} does not list {name}; {WAY_OUT}")
    return fields.path.with_name(name)


def data_folder(runs: Path, data: ConceptDataModule) -> Path:
    """Where runs on these test images, concepts and grid lie."""
    identity = {
        "test": data.fingerprints["test"],
        "grid": list(data.data.grid),
        "concepts": data.splits["test"].concepts,
    }
    return runs / f"{data.data.name}-{digest_of(identity)[:8]}"
