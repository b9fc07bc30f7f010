"""How often masks of two networks meet, counted exactly, per block of images."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

EXACT_IN_FLOAT32 = 2**24


class JointCounts(Metric):
    """Intersections and areas of the masks of two runs over the pixels that both saw.

    Layers are compared with layers, separately for each concept group: for probed runs a
    group is a concept. Masks must be false where their network did not look.

    State, for B blocks, G groups, M and N rows: intersections (B, G, M, N), areas (B, G, M)
    and (B, G, N), and joint (B, P): in how many images both runs saw each pixel.
    """

    full_state_update = False
    intersection: Tensor
    area_a: Tensor
    area_b: Tensor
    joint: Tensor

    def __init__(
        self, num_blocks: int, num_groups: int, rows_a: int, rows_b: int, num_pixels: int
    ) -> None:
        super().__init__()
        for name, shape in (
            ("intersection", (num_blocks, num_groups, rows_a, rows_b)),
            ("area_a", (num_blocks, num_groups, rows_a)),
            ("area_b", (num_blocks, num_groups, rows_b)),
            ("joint", (num_blocks, num_pixels)),
        ):
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        block: int,
        masks_a: Bool[Tensor, "images groups rows_a pixels"],
        masks_b: Bool[Tensor, "images groups rows_b pixels"],
        seen_a: Bool[Tensor, "images pixels"],
        seen_b: Bool[Tensor, "images pixels"],
    ) -> None:
        """Add images of one block; all counts come from matrix products."""
        step = EXACT_IN_FLOAT32 // masks_a.shape[3]  # integers up to 2^24 are exact in float32
        for first in range(0, len(masks_a), step):
            part = slice(first, first + step)
            a, b = _flat(masks_a[part]), _flat(masks_b[part])
            both_a, both_b = seen_a[part].flatten().float(), seen_b[part].flatten().float()
            self.intersection[block] += (a @ b.transpose(1, 2)).long()
            self.area_a[block] += (a @ both_b).long()
            self.area_b[block] += (b @ both_a).long()
        self.joint[block] += (seen_a & seen_b).sum(dim=0)

    def compute(self) -> Float[Tensor, "groups rows_a rows_b"]:
        """The Jaccard index; see `jaccard`."""
        return self.jaccard()

    def jaccard(self) -> Float[Tensor, "groups rows_a rows_b"]:
        """Jaccard index of every pair of rows, counts pooled over all images.

        From 0 to 1; NaN where both masks are empty everywhere.
        """
        intersection = self.intersection.sum(dim=0).double()
        union = self.area_sums() - intersection
        return intersection / union

    def area_sums(self) -> Float[Tensor, "groups rows_a rows_b"]:
        """Area of the one mask plus that of the other, for every pair of rows."""
        area_a, area_b = (area.sum(dim=0).double() for area in (self.area_a, self.area_b))
        return area_a[:, :, None] + area_b[:, None, :]


class PixelCounts(Metric):
    """In how many images of each block a run's masks hold each pixel, and it saw that pixel.

    State, for B blocks, G groups, M rows and P pixels: fired (B, G, M, P) and seen (B, P).
    """

    full_state_update = False
    fired: Tensor
    seen: Tensor

    def __init__(self, num_blocks: int, num_groups: int, rows: int, num_pixels: int) -> None:
        super().__init__()
        fired = torch.zeros(num_blocks, num_groups, rows, num_pixels, dtype=torch.int32)
        seen = torch.zeros(num_blocks, num_pixels, dtype=torch.int32)
        self.add_state("fired", fired, dist_reduce_fx="sum")
        self.add_state("seen", seen, dist_reduce_fx="sum")

    def update(
        self,
        block: int,
        masks: Bool[Tensor, "images groups rows pixels"],
        seen: Bool[Tensor, "images pixels"],
    ) -> None:
        """Add images of one block."""
        self.fired[block] += masks.sum(dim=0, dtype=torch.int32)
        self.seen[block] += seen.sum(dim=0, dtype=torch.int32)

    def compute(
        self,
    ) -> tuple[Int[Tensor, "blocks groups rows pixels"], Int[Tensor, "blocks pixels"]]:
        """The counts themselves."""
        return self.fired, self.seen


def _flat(masks: Tensor) -> Float[Tensor, "groups rows pixels"]:
    """Images side by side: (images, groups, rows, pixels) to (groups, rows, images·pixels)."""
    return masks.permute(1, 2, 0, 3).flatten(2).float()
