"""Ways of counting in how many pixels each of some masks meets each other, all of them exact.

    python -m benchmarks.counting

Of random masks, as many bits for each as there are pixels, on one core; all ways in turn. What
counts bits is given packed bits, products of matrices are given a byte or a float for each pixel.
`counts` is what comparing uses, with what is the fastest here. Ways of packages that are not
installed are left out; scikit-learn's, a loop over pairs, is timed on a few masks and scaled.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import pairwise_distances

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cores import keep_to
from benchmarks.in_turn import in_turn, print_ratios
from benchmarks.peers import peer
from cavalcade.cli import run
from cavalcade.similarity.counts import counted_by_product, fastest, meetings

WORDS_AT_A_TIME = 128  # of each mask, for what NumPy does not do in pieces of the cache's size
FEW = 20  # masks, of ways that take long

Way = Callable[[], np.ndarray]


def main() -> None:
    """Time all ways."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--masks", type=at_least_one, default=300, help="as many against as many")
    parser.add_argument(
        "--pixels", type=at_least_one, default=2**20, help="of each mask, a multiple of 64"
    )
    args = parser.parse_args()
    if args.pixels % 64:
        parser.error("--pixels must be a multiple of 64, as many as a word has bits")
    if args.masks < FEW:
        parser.error(f"--masks must be {FEW} or more")
    keep_to(1)
    distances: Any = pairwise_distances
    masks = np.random.default_rng(0).random((args.masks, args.pixels), dtype=np.float32) < 0.3
    floats = torch.from_numpy(masks.astype(np.float32))
    ways: dict[str, Way] = {"float32 product": lambda: product(floats)} | ways_of(masks)
    reference = ways["float32 product"]()
    for name, way in ways.items():
        assert np.array_equal(np.triu(way()), np.triu(reference)), name
    seconds = {name: list(own) for name, own in in_turn(ways, args.repeats).items()}
    few = in_turn({"few": lambda: distances(masks[:FEW], metric="jaccard")}, 1)["few"]
    scale = args.masks * (args.masks - 1) / (FEW * (FEW - 1))
    seconds["scikit-learn's Jaccard (scaled)"] = [few[0] * scale] * args.repeats
    title = f"{args.masks} masks of {args.pixels:,} pixels, used here: {fastest().__name__}"
    print_ratios(title, seconds, "float32 product")


def ways_of(masks: np.ndarray) -> dict[str, Way]:
    """All but the first."""
    bits, bytes_ = np.packbits(masks, axis=1), torch.from_numpy(masks.view(np.int8))
    ways: dict[str, Way] = {
        "int8 product (torch)": lambda: torch._int_mm(bytes_, bytes_.T).numpy(),
        "bitwise_count (NumPy)": lambda: counted_by_numpy(bits.view(np.uint64)),
        "counts": lambda: meetings(bits, bits),
        "counts, without numkong": lambda: meetings(bits, bits, counted_by_product),
    }
    if importlib.util.find_spec("numkong"):
        ways["numkong, half of the pairs"] = lambda: counted_by_numkong(bits)
    if importlib.util.find_spec("simsimd"):
        ways["simsimd, in pieces"] = lambda: counted_by_simsimd(bits)
    return ways


def product(masks: torch.Tensor) -> np.ndarray:
    """What all are measured against: a sum of at most 2^24 is exact in float32."""
    return (masks @ masks.T).numpy().astype(np.int64)


def counted_by_numpy(words: np.ndarray) -> np.ndarray:
    """Each mask with all others, a piece at a time."""
    counts = np.zeros((len(words), len(words)), dtype=np.int64)
    for first in range(0, words.shape[1], WORDS_AT_A_TIME):
        part = words[:, first : first + WORDS_AT_A_TIME]
        for i, row in enumerate(part):
            counts[i] += np.bitwise_count(part & row).sum(axis=1, dtype=np.int64)
    return counts


def counted_by_numkong(bits: np.ndarray) -> np.ndarray:
    """Each pair once, which pairs of different networks do not allow."""
    import numkong

    step, counts = 4096, np.zeros((len(bits), len(bits)), dtype=np.int64)
    for first in range(0, bits.shape[1], step):
        part = bits[:, first : first + step]
        tensor = numkong.from_pointer(
            part.ctypes.data, part.shape, "uint1", strides=part.strides, owner=part
        )
        counts += np.triu(np.asarray(numkong.dots_symmetric(tensor)))
    return counts


def counted_by_simsimd(bits: np.ndarray) -> np.ndarray:
    """From the distances, |A| + |B| - 2 |A and B|."""
    simsimd = peer("simsimd")
    step, apart = 4096, np.zeros((len(bits), len(bits)))
    for first in range(0, bits.shape[1], step):
        part = np.ascontiguousarray(bits[:, first : first + step])
        apart += np.asarray(simsimd.cdist(part, part, metric="hamming", dtype="bin8"))
    areas = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return ((areas[:, None] + areas - apart) / 2).astype(np.int64)


if __name__ == "__main__":
    run(main)
