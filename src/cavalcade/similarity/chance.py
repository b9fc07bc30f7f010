"""What two masks would share by area and position alone, or by having learnt the same labels."""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Real

from cavalcade.similarity.estimates import Estimate, combined

MOST_PRODUCTS = 2**18  # of two masks at a pixel, held at a time: they stay in the cache
SIDE = 80  # masks of either side at a time
PIXELS = 256  # at a time; part of the definition: what they contribute is rounded together
LANES = 4  # of such parts, which may be summed at the same time; part of the definition, too
EXACT_IN_FLOAT32 = 2**24  # the largest product over blocks of two counts of images
EXACT = 2.0**53  # sums of whole numbers up to that are exact in float64
MOST_IMAGES = 2**20  # with more, products of two counts leave weights no bits
PRECISE = 2.0**-23  # the largest share of a weight that may be left over: as in float32

Rectangle = tuple[slice, slice]
Run = Callable[[Callable[[int], np.ndarray], Iterable[int]], Iterator[np.ndarray]]


class Fired:
    """Where some masks fire on the pixels of one stratum, per block of images.

    The masks may be those of several networks that saw the same.

    Attributes:
        by_pixel: images of each block in which each mask holds each pixel.
        seen: images of each block in which the network saw each pixel.
    """

    def __init__(
        self,
        fired: Real[np.ndarray, "blocks rows pixels"],
        seen: Real[np.ndarray, "blocks pixels"],
    ) -> None:
        # no copy of what lies in that order in memory
        self.by_pixel = np.ascontiguousarray(fired.transpose(2, 0, 1))
        self.seen = seen.astype(np.float64)
        self._thinned: dict[int, Fired] = {}

    @property
    def num_rows(self) -> int:
        """The masks."""
        return self.by_pixel.shape[2]

    @cached_property
    def images(self) -> Float[np.ndarray, " pixels"]:
        """Images of all blocks in which the network saw each pixel."""
        return self.seen.sum(axis=0)

    def thinned(self, every: int) -> "Fired":
        """The same on one of so many pixels; made once."""
        if every not in self._thinned:
            few = some_pixels(self.seen.shape[1], every)
            fired = self.by_pixel[few].transpose(1, 2, 0)
            self._thinned[every] = Fired(fired, self.seen[:, few])
        return self._thinned[every]

    def anywhere(self, gone: int | None) -> Float[np.ndarray, "rows pixels"]:
        """Images in which each mask holds each pixel, of all blocks, or of all but one."""
        total = self.by_pixel.sum(axis=1, dtype=np.float64)
        return (total if gone is None else total - self.by_pixel[:, gone]).T


Stratum = tuple[Fired, Fired, Real[np.ndarray, "blocks _"]]


def expected_intersection(
    strata: Sequence[Stratum],
    every: int = 1,
    wanted: Sequence[Rectangle] = ((slice(None), slice(None)),),
    run: Run = map,
) -> Estimate:
    """Mean intersection when images are re-paired with images of other blocks, within strata.

    With A(p), B(p) the counts of images in which each mask holds pixel p, V(p) those in which
    its network saw it, n(p) the images in which both did, and blocks g:

        E[I] = sum_p n (A B - sum_g A_g B_g) / (V_a V_b - sum_g V_a,g V_b,g)

    summed over strata. Exact: the mean over all pairs of images of different blocks, at each
    pixel over those that both networks see. A pixel whose stratum occurs in one block only
    has no such pair; it takes the mean rate of the other pixels of its stratum. NaN where no
    pixel of a stratum can be re-paired in which both masks fire.

    The factor n / (...) is rounded to a whole number of small parts, so that the products of
    matrices are sums of whole numbers, which float64 holds exactly: two masks have the same
    number, to the last bit, whichever others they are counted beside. Products grow with the
    square of the images, so that of many the factor is a sum of several such numbers.

    Args:
        strata: for each the counts of the first and of the second network, and in how many
            images of each block both saw each pixel.
        every: the change that leaving out a block makes is judged by one of so many pixels.
        wanted: rows and columns that are asked for; elsewhere it is 0.
        run: `map`, or what does the same on several cores.

    Returns:
        E[I] (rows_a, rows_b), also without each block of images; to the precision of float32.
    """
    found = [expected_with_some_pixels(stratum, every, wanted, run)[0] for stratum in strata]
    return combined(lambda *parts: functools.reduce(operator.add, parts), *found)


def expected_with_some_pixels(
    stratum: Stratum, every: int, wanted: Sequence[Rectangle], run: Run
) -> tuple[Estimate, Float[np.ndarray, "rows_a rows_b"]]:
    """The same of one stratum, and its value on one of so many pixels alone."""
    some = _within_stratum(thinned(stratum, every), wanted, run)
    if every == 1:
        return Estimate(some[0], some[1:]), some[0]
    pixels, used = (part.shape[1] for part in (stratum[2], thinned(stratum, every)[2]))
    value = _within_stratum(stratum, wanted, run, leave_out=False)
    changes = (some[1:] - some[0]) * (pixels / max(used, 1))
    return Estimate(value[0], value + changes), some[0]


def some_pixels(num_pixels: int, every: int) -> Int[np.ndarray, " some"]:
    """One of so many pixels, drawn once and for all: even spaces would make columns of a grid."""
    if every == 1:
        return np.arange(num_pixels)
    return np.sort(np.random.default_rng(0).permutation(num_pixels)[: -(-num_pixels // every)])


def thinned(stratum: Stratum, every: int) -> Stratum:
    """One of so many pixels of a stratum."""
    a, b, joint = stratum
    if every == 1:
        return stratum
    return a.thinned(every), b.thinned(every), joint[..., some_pixels(joint.shape[1], every)]


def _within_stratum(
    stratum: Stratum, wanted: Sequence[Rectangle], run: Run, *, leave_out: bool = True
) -> Float[np.ndarray, "_ rows_a rows_b"]:
    """E[I] of one stratum, first from all blocks, then, if asked for, without each."""
    a, b, joint = stratum
    weights = _weights(a.seen, b.seen, joint)[: None if leave_out else 1]
    none_left = np.flatnonzero(np.isnan(weights).any(axis=1))
    weights = np.nan_to_num(weights)
    firsts = range(0, joint.shape[1], PIXELS)

    def lane(number: int) -> np.ndarray:
        total = np.zeros((len(weights), a.num_rows, b.num_rows))
        for first in firsts[number::LANES]:
            _add_pixels(total, a, b, weights, slice(first, first + PIXELS), wanted)
        return total

    lanes = run(lane, range(max(1, min(LANES, len(firsts)))))
    expected = functools.reduce(operator.iadd, lanes)
    for index in none_left.tolist():
        one, other = (fired.anywhere(index - 1 if index else None) for fired in (a, b))
        expected[index] = np.where(one @ other.T > 0, np.nan, 0.0)
    return expected


def _add_pixels(
    total: Float[np.ndarray, "_ rows_a rows_b"],
    a: Fired,
    b: Fired,
    weights: Float[np.ndarray, "_ pixels"],
    pixels: slice,
    wanted: Sequence[Rectangle],
) -> None:
    """Add what some pixels contribute."""
    parts = _whole_parts(weights[:, pixels], (a.images * b.images)[pixels])
    if not parts:
        return
    left, right = (_and_total(fired.by_pixel[pixels]) for fired in (a, b))
    signed = _negative(left)
    if len(weights) == 1:
        other = right.reshape(-1, b.num_rows)
        for weight, places in parts:
            found = (weight[0][:, None, None] * signed).reshape(-1, a.num_rows)
            for rows, columns in wanted:
                total[0, rows, columns] += np.ldexp(found[:, rows].T @ other[:, columns], -places)
        return
    largest = left.max(initial=0) * right.max(initial=0)
    exact = np.float32 if largest <= EXACT_IN_FLOAT32 else np.float64
    products = signed.astype(exact), right.astype(exact, copy=False)
    every = np.concatenate([weight for weight, _ in parts])
    for rows, columns in wanted:
        sums = _over_blocks(products[0][..., rows], products[1][..., columns], every)
        for (weight, places), found in zip(parts, np.split(sums, len(parts)), strict=True):
            found[1:] -= _of_blocks(left[..., rows], right[..., columns], weight[1:])
            total[:, rows, columns] += np.ldexp(found, -places)


def _whole_parts(
    weights: Float[np.ndarray, "parts pixels"], products: Float[np.ndarray, " pixels"]
) -> list[tuple[Float[np.ndarray, "parts pixels"], int]]:
    """Whole numbers and their binary places, which added up are the weights; none for zeros.

    As few as leave over less of each weight than float32 would, each as large as is exact.

    Args:
        weights: of all blocks, then without each.
        products: the largest that each weight is multiplied with.
    """
    parts, rest = [], weights
    # what is taken from a sum may be twice as large, and rounding adds half a part to a weight
    room = EXACT / 2 - products.sum()
    while (np.abs(rest) > PRECISE * weights).any():
        largest = (np.abs(rest) * products).sum(axis=1).max()
        places = int(np.frexp(room / largest)[1]) - 1
        whole = np.rint(np.ldexp(rest, places))
        parts.append((whole, places))
        rest = rest - np.ldexp(whole, -places)
    return parts


Counts = Float[np.ndarray, "pixels parts _"]


def _and_total(fired: Real[np.ndarray, "pixels blocks rows"]) -> Counts:
    """The sum over blocks, then each block."""
    total = fired.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.concatenate([total, fired.astype(np.float64)], axis=1)


def _negative(counts: Counts) -> Counts:
    """The same with blocks below 0, so that products over them are those of different blocks."""
    return np.concatenate([counts[:, :1], -counts[:, 1:]], axis=1)


def _of_blocks(
    a: Counts, b: Counts, weight: Float[np.ndarray, "blocks pixels"]
) -> Float[np.ndarray, "blocks rows_a rows_b"]:
    """What the products over blocks hold of each block, weighted and summed over pixels."""
    each = weight.T[..., None]
    own, rest = each * a[:, 1:], each * (a[:, :1] - 2 * a[:, 1:])
    found: np.ndarray = own.transpose(1, 2, 0) @ b[:, 0]
    found += rest.transpose(1, 2, 0) @ b[:, 1:].transpose(1, 0, 2)
    return found


def _over_blocks(
    a: Float[np.ndarray, "pixels parts rows_a"],
    b: Float[np.ndarray, "pixels parts rows_b"],
    weight: Float[np.ndarray, "weights pixels"],
) -> Float[np.ndarray, "weights rows_a rows_b"]:
    """The sum over pixels of products over blocks, with all weights; some masks at a time."""
    found = np.empty((len(weight), a.shape[2], b.shape[2]))
    for i in range(0, a.shape[2], SIDE):
        for j in range(0, b.shape[2], SIDE):
            part = a[..., i : i + SIDE].transpose(0, 2, 1), b[..., j : j + SIDE]
            found[:, i : i + SIDE, j : j + SIDE] = _summed(*part, weight)
    return found


def _summed(
    a: Float[np.ndarray, "pixels rows_a parts"],
    b: Float[np.ndarray, "pixels parts rows_b"],
    weight: Float[np.ndarray, "weights pixels"],
) -> Float[np.ndarray, "weights rows_a rows_b"]:
    """Products of two masks over blocks, weighted and summed over pixels, a few at a time."""
    shape = len(weight), a.shape[1], b.shape[2]
    step, total = max(1, MOST_PRODUCTS // max(shape[1] * shape[2], 1)), np.zeros(shape)
    for first in range(0, len(a), step):
        part = slice(first, first + step)
        products = (a[part] @ b[part]).astype(np.float64, copy=False)
        total += (weight[:, part] @ products.reshape(len(products), -1)).reshape(shape)
    return total


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
