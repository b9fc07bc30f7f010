"""How often masks meet, and where they fire, counted exactly per block of images."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torchmetrics import Metric

MOST_PIXELS = 2**24  # at a time: integers up to that are exact in float32


class MeetingCounts(Metric):
    """In how many pixels each of some rows of masks meets each of others, per block of images.

    A row is what one layer says about a concept, or what a network saw. State: meetings
    (blocks, rows_a, rows_b).
    """

    full_state_update = False
    meetings: Tensor

    def __init__(self, num_blocks: int, rows_a: int, rows_b: int) -> None:
        super().__init__(sync_on_compute=False)  # one process has the masks of all images
        empty = torch.zeros(num_blocks, rows_a, rows_b, dtype=torch.int64)
        self.add_state("meetings", empty, dist_reduce_fx="sum")

    def update(
        self,
        block: int,
        masks_a: Bool[Tensor, "images rows_a pixels"],
        masks_b: Bool[Tensor, "images rows_b pixels"],
    ) -> None:
        """Add images of one block; all counts come from one matrix product."""
        step = MOST_PIXELS // masks_a.shape[2]
        for first in range(0, len(masks_a), step):
            part = slice(first, first + step)
            a = _flat(masks_a[part])
            b = a if masks_a is masks_b else _flat(masks_b[part])
            self.meetings[block] += meetings(a, b)

    def compute(self) -> Int[Tensor, "blocks rows_a rows_b"]:
        """The counts themselves."""
        return self.meetings


class PixelCounts(Metric):
    """In how many images of each block the masks of one network hold each pixel.

    Pixels of different strata, say of different true labels, are counted apart. State, for B
    blocks, S strata, M rows and P pixels: fired (B, S, M, P) and seen (B, S, P).
    """

    full_state_update = False
    fired: Tensor
    seen: Tensor

    def __init__(self, num_blocks: int, num_strata: int, rows: int, num_pixels: int) -> None:
        super().__init__(sync_on_compute=False)  # one process has the masks of all images
        # a block holds a twentieth of the test images
        fired = torch.zeros(num_blocks, num_strata, rows, num_pixels, dtype=torch.int16)
        seen = torch.zeros(num_blocks, num_strata, num_pixels, dtype=torch.int16)
        self.add_state("fired", fired, dist_reduce_fx="sum")
        self.add_state("seen", seen, dist_reduce_fx="sum")

    def update(
        self,
        block: int,
        masks: Bool[Tensor, "images rows pixels"],
        seen: Bool[Tensor, "images pixels"],
        strata: Bool[Tensor, "images strata pixels"],
    ) -> None:
        """Add images of one block."""
        for index, stratum in enumerate(strata.unbind(dim=1)):
            fired = (masks & stratum[:, None]).sum(dim=0, dtype=torch.int16)
            self.fired[block, index] += fired
            self.seen[block, index] += (seen & stratum).sum(dim=0, dtype=torch.int16)

    def compute(
        self,
    ) -> tuple[Int[Tensor, "blocks strata rows pixels"], Int[Tensor, "blocks strata pixels"]]:
        """The counts themselves."""
        return self.fired, self.seen


def meetings(
    a: Bool[Tensor, "rows_a pixels"], b: Bool[Tensor, "rows_b pixels"]
) -> Int[Tensor, "rows_a rows_b"]:
    """In how many pixels each row of one meets each row of the other, exactly."""
    if torch.backends.mkldnn.is_available():  # integers: four times as fast as floats
        return torch._int_mm(a.view(torch.int8), b.view(torch.int8).T).long()
    return (a.float() @ b.float().T).long()


def _flat(masks: Bool[Tensor, "images rows pixels"]) -> Bool[Tensor, "rows all_pixels"]:
    """Images side by side: (images, rows, pixels) to (rows, images·pixels)."""
    return masks.transpose(0, 1).flatten(1)
