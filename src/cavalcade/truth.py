"""What is true on the test images of a data set, shared by all runs on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.concepts.encoding import pack, unpack
from cavalcade.data.batches import ConceptDataModule
from cavalcade.data.geometry import at_cell_centres
from cavalcade.data.groups import contiguous_blocks
from cavalcade.folders import digest_of, read_meta, read_tensors, write_meta, written_whole
from cavalcade.thumbnails import Thumbnails, thumbnail

THUMBNAILS = "thumbnails.safetensors"


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
            save_file(tensors, folder / "masks.safetensors")
            if self.thumbnail_size is not None:
                self.thumbnails.save(folder / THUMBNAILS)
            named = {k: v for k, v in vars(self).items() if k not in (*tensors, "thumbnails")}
            write_meta(folder, "truth", named)

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read a truth folder.

        Raises:
            InputError: if it is missing or damaged.
        """
        meta = read_meta(folder, "truth")
        tensors = read_tensors(folder / "masks.safetensors")
        rows, columns = meta["grid"]
        has_thumbnails = THUMBNAILS in meta["files"]
        return cls(
            data=meta["data"],
            fingerprint=meta["fingerprint"],
            grid=(rows, columns),
            concepts=tuple(meta["concepts"]),
            ids=tuple(meta["ids"]),
            groups=tuple(meta["groups"]),
            blocks=tuple(meta["blocks"]),
            masks=tensors["masks"],
            labelled=tensors["labelled"],
            thumbnail_size=meta.get("thumbnail_size"),
            thumbnails=Thumbnails.load(folder / THUMBNAILS) if has_thumbnails else Thumbnails(()),
        )

    def strata_bits(self, concept: int) -> UInt8[np.ndarray, "images strata bytes"]:
        """See `strata`; as bits."""
        masks, labelled = (bits[:, concept].numpy() for bits in (self.masks, self.labelled))
        every = np.packbits(np.ones(self.grid[0] * self.grid[1], dtype=bool))
        strata = np.stack([masks & labelled, labelled & ~masks, every & ~labelled], axis=1)
        return strata[:, strata.any(axis=(0, 2))]

    def strata(self, concept: int) -> Bool[Tensor, "images strata pixels"]:
        """Pixels of the same true label: with a concept, without it, and of unknown label."""
        labelled = unpack(self.labelled[:, concept], self.grid)
        present = unpack(self.masks[:, concept], self.grid) & labelled
        strata = torch.stack([present, labelled & ~present, ~labelled], dim=1)
        return strata[:, strata.any(dim=2).any(dim=0)]


def data_folder(runs: Path, data: ConceptDataModule) -> Path:
    """Where runs on these test images, concepts and grid lie."""
    identity = {
        "test": data.fingerprints["test"],
        "grid": list(data.data.grid),
        "concepts": data.splits["test"].concepts,
    }
    return runs / f"{data.data.name}-{digest_of(identity)[:8]}"
