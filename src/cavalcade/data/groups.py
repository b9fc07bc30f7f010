"""Groups of samples that belong together, and the blocks of images that errors rest on."""

from collections.abc import Hashable, Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Int

MIN_BLOCKS = 20
RESAMPLES = 1000


def contiguous_blocks(groups: Sequence[str], min_blocks: int = MIN_BLOCKS) -> list[int]:
    """Give each sample the number of its block; blocks are contiguous, never shuffled.

    Neighbouring frames of a video are alike, so errors come from blocks of frames. A group
    larger than a block is cut along its order; small groups share a block and are never cut.
    There are at least `min_blocks` blocks where there are as many samples.

    >>> contiguous_blocks(["a", "a", "a", "a", "b", "c"], min_blocks=3)
    [0, 0, 1, 1, 2, 2]
    """
    size = max(1, len(groups) // min_blocks)
    blocks: list[int] = []
    block, filled = 0, 0
    for _, members in groupby(groups):
        count = len(list(members))
        if filled and (count > size or filled + count > size):
            block, filled = block + 1, 0
        pieces = max(1, -(-count // size))
        blocks += [block + i * pieces // count for i in range(count)]
        if pieces > 1:
            block, filled = block + pieces, 0
        else:
            filled += count
    return blocks


def two_halves(groups: Sequence[str]) -> list[int]:
    """Give each sample its half, 0 or 1: each block joins the half with fewer samples so far.

    Blocks of one size alternate. Halves are of blocks, not of whole groups: with three videos
    they would differ as the videos do. So a group is cut only where it is larger than a block.
    The halves differ in size by at most a block; both have samples if there are two.

    >>> two_halves(["a", "b", "c", "d", "e"])
    [0, 1, 0, 1, 0]
    """
    return halves_of_groups(contiguous_blocks(groups))


def halves_of_groups(groups: Sequence[Hashable]) -> list[int]:
    """Give each sample its half, 0 or 1: each group joins the half with fewer samples so far.

    Unlike `two_halves`, it cuts no group: the halves differ in size by at most the largest,
    and both have samples if there are two groups.

    >>> halves_of_groups(["a", "a", "a", "b", "c", "d", "d"])
    [0, 0, 0, 1, 1, 1, 1]
    """
    sizes = [0, 0]
    halves: list[int] = []
    for _, members in groupby(groups):
        count = len(list(members))
        half = 0 if sizes[0] <= sizes[1] else 1
        sizes[half] += count
        halves += [half] * count
    return halves


def held_out(groups: Sequence[Hashable], every: int = 10) -> list[bool]:
    """Whether each sample is held out of training: those of one group in `every`.

    For data sets that label two splits only. No group is cut, and the groups held out are
    spread evenly; one at least is, where there are two.

    >>> held_out(["a", "a", "b", "c", "d"], every=2)
    [False, False, True, False, True]
    """
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    every = min(every, max(2, len(number)))
    return [number[group] % every == every - 1 for group in groups]


def block_weights(
    num_blocks: int, resamples: int = RESAMPLES, seed: int = 0
) -> Int[np.ndarray, "resamples blocks"]:
    """How often each block is drawn in each resample; the same for all pairs of networks.

    Equal weights for all pairs make differences between pairs paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=resamples)
