"""What two masks would share by area and position alone."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def expected_intersection(
    fired_a: Int[Tensor, "blocks groups rows_a pixels"],
    fired_b: Int[Tensor, "blocks groups rows_b pixels"],
    seen_a: Int[Tensor, "blocks pixels"],
    seen_b: Int[Tensor, "blocks pixels"],
    joint: Int[Tensor, " pixels"],
) -> Float[Tensor, "groups rows_a rows_b"]:
    """Mean intersection when images are re-paired with images of other blocks.

    With A(p), B(p) the counts of images in which each mask holds pixel p, V(p) those in which
    its run saw it, n(p) the images in which both did, and blocks g:

        E[I] = sum_p n (A B - sum_g A_g B_g) / (V_a V_b - sum_g V_a,g V_b,g)

    Exact: the mean over all pairs of images of different blocks, at each pixel over those
    that both runs see. NaN where both masks fire at a pixel that is seen in one block only,
    since then no re-pairing exists.

    Args:
        fired_a: images of each block in which each mask holds each pixel, of the first run.
        fired_b: the same of the second.
        seen_a: images of each block in which the first run saw each pixel.
        seen_b: the same of the second.
        joint: images in which both runs saw each pixel.
    """
    pairs = _over_different_blocks(seen_a, seen_b)
    weight = torch.where(pairs > 0, joint.double() / pairs, 0.0)
    total_a, total_b = fired_a.sum(dim=0).double(), fired_b.sum(dim=0).double()
    expected = (total_a * weight) @ total_b.transpose(1, 2)
    for block_a, block_b in zip(fired_a, fired_b, strict=True):
        expected -= (block_a.double() * weight) @ block_b.double().transpose(1, 2)
    alone = (joint > 0) & (pairs == 0)
    unknown = total_a[..., alone].sum(-1)[:, :, None] * total_b[..., alone].sum(-1)[:, None, :]
    return expected.masked_fill(unknown > 0, torch.nan)


def _over_different_blocks(
    a: Int[Tensor, "blocks pixels"], b: Int[Tensor, "blocks pixels"]
) -> Float[Tensor, " pixels"]:
    a, b = a.double(), b.double()
    return a.sum(dim=0) * b.sum(dim=0) - (a * b).sum(dim=0)


def adjusted_jaccard(
    jaccard: Float[Tensor, "*pairs"],
    expected: Float[Tensor, "*pairs"],
    area_sums: Float[Tensor, "*pairs"],
) -> Float[Tensor, "*pairs"]:
    """Jaccard index with chance removed, (J - E) / (1 - E) with E = E[I] / E[U].

    1 for equal masks, 0 on average for masks that agree by area and position alone, below 0
    for masks that avoid each other. NaN where J is, and where chance alone gives 1.

    Args:
        jaccard: J.
        expected: E[I], see `expected_intersection`.
        area_sums: |A| + |B| over jointly seen pixels, so that E[U] = |A| + |B| - E[I].
    """
    chance = expected / (area_sums - expected)
    room = 1 - chance
    return torch.where(room > 1e-9, (jaccard - chance) / room, torch.nan)
