"""What two masks would share by area and position alone, or by having learnt the same labels."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Real

from cavalcade.similarity.estimates import Estimate

MOST_PRODUCTS = 2**23  # of two masks at a pixel, held at a time


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
        self._thinned: dict[int, Fired] = {}

    def part(self, rows: slice) -> "Fired":
        """The same of some masks."""
        return Fired(self.fired[:, rows], self.seen)

    def thinned(self, every: int) -> "Fired":
        """The same on one of so many pixels; made once."""
        if every not in self._thinned:
            few = some_pixels(self.seen.shape[1], every)
            self._thinned[every] = Fired(self.fired[..., few], self.seen[..., few])
        return self._thinned[every]

    @cached_property
    def total(self) -> Float[np.ndarray, "rows pixels"]:
        """Images of all blocks."""
        return self.fired.sum(axis=0)

    @cached_property
    def by_pixel(self) -> Float[np.ndarray, "pixels rows blocks"]:
        """The same counts, in the order of a product over blocks."""
        return np.ascontiguousarray(self.fired.transpose(2, 1, 0))


Stratum = tuple[Fired, Fired, Real[np.ndarray, "blocks _"]]


def expected_intersection(strata: Sequence[Stratum], every: int = 1) -> Estimate:
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
        every: the change that leaving out a block makes is judged by one of so many pixels.

    Returns:
        E[I] (rows_a, rows_b), also without each block of images; to the precision of float32.
    """
    if every == 1:
        exact = np.sum([_within_stratum(*stratum) for stratum in strata], axis=0)
        return Estimate(exact[0], exact[1:])
    value = np.sum([_of_all_blocks(*stratum) for stratum in strata], axis=0)
    changes = np.sum([_changes(thinned(stratum, every), stratum) for stratum in strata], axis=0)
    return Estimate(value, value + changes)


def some_pixels(num_pixels: int, every: int) -> Int[np.ndarray, " some"]:
    """One of so many pixels, drawn once and for all: even spaces would make columns of a grid."""
    if every == 1:
        return np.arange(num_pixels)
    return np.sort(np.random.default_rng(0).permutation(num_pixels)[: -(-num_pixels // every)])


def thinned(stratum: Stratum, every: int) -> Stratum:
    """One of so many pixels of a stratum."""
    a, b, joint = stratum
    return a.thinned(every), b.thinned(every), joint[..., some_pixels(joint.shape[1], every)]


def _changes(some: Stratum, all_pixels: Stratum) -> Float[np.ndarray, "blocks rows_a rows_b"]:
    """By how much leaving out each block changes E[I] of a stratum, judged by some pixels."""
    pixels, used = all_pixels[2].shape[1], some[2].shape[1]
    expected = _within_stratum(*some)
    return (expected[1:] - expected[0]) * (pixels / max(used, 1))


def _of_all_blocks(
    a: Fired, b: Fired, joint: Real[np.ndarray, "blocks pixels"]
) -> Float[np.ndarray, "rows_a rows_b"]:
    """E[I] of one stratum."""
    weight = _weights(a.seen, b.seen, joint)[0]
    if np.isnan(weight).any():
        return np.where(a.total @ b.total.T > 0, np.nan, 0.0)
    weight = weight.astype(np.float32)
    one, two = ((weight * a.fired).transpose(1, 0, 2), b.fired.transpose(1, 0, 2))
    inside = one.reshape(one.shape[0], -1) @ two.reshape(two.shape[0], -1).T
    return ((weight * a.total) @ b.total.T - inside).astype(np.float64)


def _within_stratum(
    a: Fired, b: Fired, joint: Real[np.ndarray, "blocks pixels"]
) -> Float[np.ndarray, "1+blocks rows_a rows_b"]:
    """E[I] of one stratum, first from all blocks, then without each; some masks at a time."""
    step = max(1, MOST_PRODUCTS // max(b.total.size, 1))
    rows = a.fired.shape[1]
    parts = [slice(first, first + step) for first in range(0, rows, step)]
    wholes = [a] if len(parts) < 2 else [a.part(some) for some in parts]
    return np.concatenate([_of_some_masks(some, b, joint) for some in wholes], axis=1)


def _of_some_masks(
    a: Fired, b: Fired, joint: Real[np.ndarray, "blocks pixels"]
) -> Float[np.ndarray, "1+blocks rows_a rows_b"]:
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
    joint: Real[np.ndarray, "blocks pixels"],
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
