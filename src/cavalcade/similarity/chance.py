"""What two masks would share by area and position alone, or by having learnt the same labels."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Real

from cavalcade.similarity.estimates import Estimate


class Fired:
    """Where the masks of one network fire on the pixels of one stratum, per block of images.

    Attributes:
        fired: images of each block in which each mask holds each pixel.
        seen: images of each block in which the network saw each pixel.
    """

    def __init__(
        self,
        fired: Real[np.ndarray, "blocks rows pixels"],
        seen: Real[np.ndarray, "blocks pixels"],
    ) -> None:
        self.fired, self.seen = fired.astype(np.float32), seen.astype(np.float64)

    @cached_property
    def total(self) -> Float[np.ndarray, "rows pixels"]:
        """Images of all blocks."""
        return self.fired.sum(axis=0)

    @cached_property
    def by_pixel(self) -> Float[np.ndarray, "pixels rows blocks"]:
        """The same counts, in the order of a product over blocks."""
        return np.ascontiguousarray(self.fired.transpose(2, 1, 0))


def expected_intersection(
    strata: Sequence[tuple[Fired, Fired, Int[np.ndarray, "blocks _"]]],
) -> Estimate:
    """Mean intersection when images are re-paired with images of other blocks, within strata.

    With A(p), B(p) the counts of images in which each mask holds pixel p, V(p) those in which
    its network saw it, n(p) the images in which both did, and blocks g:

        E[I] = sum_p n (A B - sum_g A_g B_g) / (V_a V_b - sum_g V_a,g V_b,g)

    summed over strata. Exact: the mean over all pairs of images of different blocks, at each
    pixel over those that both networks see. A pixel whose stratum occurs in one block only
    has no such pair; it takes the mean rate of the other pixels of its stratum. NaN where no
    pixel of a stratum can be re-paired in which both masks fire.

    Args:
        strata: for each the counts of the first and of the second network, and in how many
            images of each block both saw each pixel.

    Returns:
        E[I] (rows_a, rows_b), also without each block of images; to the precision of float32.
    """
    total = np.sum([_within_stratum(*stratum) for stratum in strata], axis=0)
    return Estimate(total[0], total[1:])


def _within_stratum(
    a: Fired, b: Fired, joint: Int[np.ndarray, "blocks pixels"]
) -> Float[np.ndarray, "1+blocks rows_a rows_b"]:
    """E[I] of one stratum, first from all blocks, then without each."""
    weight = _weights(a.seen, b.seen, joint)
    none_left = np.isnan(weight).any(axis=1)
    weight = np.nan_to_num(weight).astype(np.float32)
    pairs = a.total.T[:, :, None] * b.total.T[:, None, :]  # (pixels, rows_a, rows_b)
    pairs -= a.by_pixel @ b.by_pixel.transpose(0, 2, 1)
    expected = (weight @ pairs.reshape(len(pairs), -1)).reshape(len(weight), *pairs.shape[1:])
    # without block g: (A - A_g)(B - B_g) - sum_h A_h B_h + A_g B_g
    left = weight[1:, None]
    expected[1:] -= (left * a.fired) @ (b.total - 2 * b.fired).transpose(0, 2, 1)
    expected[1:] -= (left * a.total) @ b.fired.transpose(0, 2, 1)
    for index in np.flatnonzero(none_left):
        gone = index - 1  # the first is without none
        fire_a, fire_b = (n.total - n.fired[gone] if index else n.total for n in (a, b))
        expected[index] = np.where(fire_a @ fire_b.T > 0, np.nan, 0.0)
    return expected.astype(np.float64)


def _weights(
    seen_a: Float[np.ndarray, "blocks pixels"],
    seen_b: Float[np.ndarray, "blocks pixels"],
    joint: Int[np.ndarray, "blocks pixels"],
) -> Float[np.ndarray, "1+blocks pixels"]:
    """N / (V_a V_b - sum_g V_a,g V_b,g), first of all blocks, then without each.

    Scaled up for the pixels that cannot be re-paired; NaN where none can.
    """
    sum_a, sum_b = seen_a.sum(axis=0), seen_b.sum(axis=0)
    pairs = sum_a * sum_b - (seen_a * seen_b).sum(axis=0)
    without = pairs - seen_a * (sum_b - seen_b) - (sum_a - seen_a) * seen_b
    pairs = np.concatenate([pairs[None], without])
    images = np.concatenate([joint.sum(axis=0)[None], joint.sum(axis=0) - joint])
    paired = np.where(pairs > 0, images, 0)
    total, found = images.sum(axis=1), paired.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(found > 0, total / found, np.where(total > 0, np.nan, 1.0))
    return paired / np.maximum(pairs, 1) * scale[:, None]


def adjusted_jaccard(
    jaccard: Float[np.ndarray, "*#cells"],
    expected: Float[np.ndarray, "*#cells"],
    area_sums: Real[np.ndarray, "*#cells"],
) -> Float[np.ndarray, "*cells"]:
    """Jaccard index with chance removed, (J - E) / (1 - E) with E = E[I] / E[U].

    1 for equal masks, 0 on average for masks that agree by area and position alone, below 0
    for masks that avoid each other. NaN where J is, and where chance alone gives 1.

    Args:
        jaccard: J.
        expected: E[I], see `expected_intersection`.
        area_sums: |A| + |B| over jointly seen pixels, so that E[U] = |A| + |B| - E[I].
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = expected / (area_sums - expected)
        room = 1 - chance
        return np.where(room > 1e-9, (jaccard - chance) / room, np.nan)
