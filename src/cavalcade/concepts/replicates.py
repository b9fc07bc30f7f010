"""Replicates of every probe: one learns from all training images, two from a half of them each.

How alike the two halves' probes fire at one layer is the yardstick for the most that two networks
can be expected to reach: the ceiling of their similarity. No bound: halves have fewer images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.data.groups import two_halves
from cavalcade.errors import InputError


@dataclass(frozen=True)
class Found:
    """What a method found in a network.

    Attributes:
        concepts: those of all training images.
        halves: those of the first and of the second half of them; empty if not asked for.
        losses: on the validation images, a row for each epoch and layer.
    """

    concepts: ConceptSet
    halves: tuple[ConceptSet, ...]
    losses: pd.DataFrame


def replicate_members(
    groups: Sequence[str], *, split_half: bool
) -> Bool[Tensor, "replicates images"]:
    """Which training images each replicate learns from: the first from all of them.

    Args:
        groups: one per training image.
        split_half: add two replicates, each for a half; see `two_halves`.

    Raises:
        InputError: if there is no image for one of the halves.
    """
    everything = torch.ones(1, len(groups), dtype=torch.bool)
    if not split_half:
        return everything
    if len(groups) < 2:
        raise InputError(
            "the training split has fewer than two images, which cannot be halved; give more, or "
            "set concepts.split_half=false"
        )
    second = torch.tensor(two_halves(groups), dtype=torch.bool)
    return torch.cat([everything, ~second[None], second[None]])
