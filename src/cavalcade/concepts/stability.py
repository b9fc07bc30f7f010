"""How reproducible mined concepts are: found again on bootstraps of blocks of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cavalcade.data.groups import block_weights, contiguous_blocks


@dataclass(frozen=True)
class Reproducibility:
    """Best-match cosines of each concept with the concepts of some refits.

    Attributes:
        mean: over refits; 1 for a concept that is found again exactly.
        low: the smallest.
        high: the largest.
        next_best: cosine with the nearest other concept of the same fit: a concept is told apart
            only where it is found again at more than that. NaN for a single concept.
    """

    mean: Float[Tensor, " concepts"]
    low: Float[Tensor, " concepts"]
    high: Float[Tensor, " concepts"]
    next_best: Float[Tensor, " concepts"]

    @classmethod
    def of(
        cls,
        directions: Float[Tensor, "concepts channels"],
        again: Sequence[Float[Tensor, "_ channels"]],
    ) -> "Reproducibility":
        """Of one fit and its refits.

        Refits without a concept are left out; all NaN without any other, and for concepts
        without a direction of their own.
        """
        own = _cosines(directions, directions).fill_diagonal_(-torch.inf)
        next_best = own.amax(dim=1)
        next_best = torch.where(next_best.isinf(), torch.nan, next_best)
        again = [refit for refit in again if len(refit)]
        if not again:
            nothing = torch.full((len(directions),), torch.nan)
            return cls(nothing, nothing, nothing, next_best)
        matches = torch.stack([_cosines(directions, refit).amax(dim=1) for refit in again])
        return cls(matches.mean(dim=0), matches.amin(dim=0), matches.amax(dim=0), next_best)


def _cosines(
    a: Float[Tensor, "rows channels"], b: Float[Tensor, "others channels"]
) -> Float[Tensor, "rows others"]:
    """NaN for a direction of length 0."""
    unit_a, unit_b = (x.cpu() / x.cpu().norm(dim=1, keepdim=True) for x in (a, b))
    return unit_a @ unit_b.T


def bootstrap_weights(groups: Sequence[str], restarts: int, seed: int) -> Int[Tensor, "_ images"]:
    """How often each image is drawn when blocks of images are drawn with replacement.

    Blocks are contiguous within groups, see `contiguous_blocks`: neighbouring frames of a video
    are drawn together. No row for a single block, of which every draw is the same.
    """
    blocks = np.array(contiguous_blocks(groups))
    count = int(blocks.max()) + 1
    draws = block_weights(count, restarts if count > 1 else 0, seed)
    return torch.from_numpy(draws[:, blocks].astype(np.int64))
