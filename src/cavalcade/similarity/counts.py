"""How often masks meet, and where they fire, counted exactly from packed bits."""

import logging
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer, Shaped, UInt8

log = logging.getLogger(__name__)

CACHED_BYTES = 4096  # of each row at a time: rows of both sides stay in the cache
MOST_PIXELS = 2**24  # at a time: integers up to that are exact in float32

Bits = UInt8[np.ndarray, "_ bytes"]
_choosing = Lock()


def meetings(
    a: UInt8[np.ndarray, "rows_a bytes"],
    b: UInt8[np.ndarray, "rows_b bytes"],
    way: Callable[[Bits, Bits], np.ndarray] | None = None,
) -> Int[np.ndarray, "rows_a rows_b"]:
    """In how many bits each row of one meets each row of the other, exactly.

    Args:
        a: bits of some rows.
        b: bits of others.
        way: of counting a part of the bits; None for the fastest.
    """
    product, total = way or fastest(), np.zeros((len(a), len(b)), dtype=np.int64)
    parts = max(1, -(-a.shape[1] // CACHED_BYTES))
    ends = np.linspace(0, a.shape[1], parts + 1).astype(int)
    for part in map(slice, ends[:-1], ends[1:]):
        # the second is copied first: better the smaller
        if len(a) < len(b):
            total += product(b[:, part], a[:, part]).T
        else:
            total += product(a[:, part], b[:, part])
    return total


def fastest() -> Callable[[Bits, Bits], np.ndarray]:
    """The fastest way of counting that is right on this machine, of those below.

    Where that is not the first, a warning says so, once in a process.
    """
    with _choosing:  # threads ask at the same time
        return _chosen()


@cache
def _chosen() -> Callable[[Bits, Bits], np.ndarray]:
    try:
        if _is_right(counted_in_registers):
            return counted_in_registers
        reason = "it counts wrongly on this machine"
    except (ImportError, AttributeError, TypeError, ValueError, LookupError) as error:
        reason = str(error) or type(error).__name__
    log.warning(
        "numkong cannot be used (%s): bits are counted by products of matrices of %s, which takes "
        "about %d times as long; install numkong, or another version of it, to count faster",
        *((reason, "int8", 10) if _has_fast_integers() else (reason, "float32", 50)),
    )
    return counted_by_product


def _is_right(product: Callable[[Bits, Bits], np.ndarray]) -> bool:
    """Whether a way of counting gives the right numbers, also of rows apart in memory.

    Of few bytes, of as many as are counted at a time, and of more bits than 16 bits can count;
    some rows hold all of them, as masks of the sky may.
    """
    bits = np.random.default_rng(0).integers(0, 256, (2, 9, 2 * CACHED_BYTES + 2), dtype=np.uint8)
    bits[:, :2] = 255
    return all(
        np.array_equal(product(a, b), counted_by_product(a, b))
        for size in (75, CACHED_BYTES, 2 * CACHED_BYTES)
        for a, b in [(bits[0, :5, :size], bits[1, :, :size])]
    )


def counted_in_registers(
    a: UInt8[np.ndarray, "rows_a bytes"], b: UInt8[np.ndarray, "rows_b bytes"]
) -> Shaped[np.ndarray, "rows_a rows_b"]:
    """Bits of each row of one in each row of the other, by the processor's count of bits.

    Twenty times as fast as a product of float32; see `python -m benchmarks.counting`.
    """
    import numkong  # here, so that a machine that lacks it counts otherwise

    left, right = (
        numkong.from_pointer(x.ctypes.data, x.shape, "uint1", strides=x.strides, owner=x)
        for x in (a, b)
    )
    return np.asarray(numkong.dots_packed(left, numkong.dots_pack(right, "uint1")))


def counted_by_product(
    a: UInt8[np.ndarray, "rows_a bytes"], b: UInt8[np.ndarray, "rows_b bytes"]
) -> Shaped[np.ndarray, "rows_a rows_b"]:
    """The same by a product of matrices: of integers where they are faster than floats."""
    one, other = (torch.from_numpy(np.unpackbits(x, axis=1)) for x in (a, b))
    assert one.shape[1] <= MOST_PIXELS
    if _has_fast_integers():
        return torch._int_mm(one.view(torch.int8), other.view(torch.int8).T).numpy()
    return (one.float() @ other.float().T).long().numpy()


def _has_fast_integers() -> bool:
    return torch.backends.mkldnn.is_available()


def images_at_pixels(
    bits: UInt8[np.ndarray, "*rows images bytes"], num_pixels: int
) -> Integer[np.ndarray, "*rows pixels"]:
    """How many images hold each pixel, exactly; in the smallest type that holds all images."""
    ones = np.unpackbits(bits, axis=-1, count=num_pixels)
    return ones.sum(axis=-2, dtype=count_type(bits.shape[-2]))


def count_type(most: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type of whole numbers that holds a count of so many images or pixels."""
    types = (np.uint8, np.uint16, np.uint32, np.uint64)
    return next(kind for kind in types if most <= np.iinfo(kind).max)


def only_some_pixels(
    bits: UInt8[np.ndarray, "*rows bytes"], pixels: Int[np.ndarray, " some"]
) -> UInt8[np.ndarray, "*rows fewer_bytes"]:
    """The bits of some pixels, packed again."""
    own = np.take(bits, pixels // 8, axis=-1)
    own &= np.uint8(128) >> (pixels % 8).astype(np.uint8)
    return np.packbits(own, axis=-1)
