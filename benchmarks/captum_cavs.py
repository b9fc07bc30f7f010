"""CAVs of captum's TCAV, a classifier for each concept and layer, from activations on the disk."""

import random
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import peer
from benchmarks.quiet import quiet
from benchmarks.tapped import TappedModule


def captum_cavs(
    module: TappedModule, examples: Mapping[str, Sequence[Tensor]], others: Sequence[Tensor]
) -> list[Tensor]:
    """CAVs of each layer, (concepts, numbers in an activation), by captum's default classifier.

    It tells images of a concept from others, by whole activations, a third of which it keeps to
    test. Activations go through a folder that is gone in the end.

    Args:
        module: whose layers by `names` are looked at.
        examples: batches of images that show each concept.
        others: batches of those that it is told from, the same for all concepts.

    Raises:
        InputError: if captum is not installed.
    """
    tcav = peer("captum.concept")
    concepts = [tcav.Concept(i, name, examples[name]) for i, name in enumerate(examples)]
    against = tcav.Concept(len(concepts), "others", others)
    random.seed(0)
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as place, quiet():
        found = tcav.TCAV(module, list(module.names), save_path=place)
        cavs = found.compute_cavs([[concept, against] for concept in concepts])
    return [
        torch.stack(
            [
                # the first row points to the first of the two
                torch.as_tensor(cavs[f"{concept.id}-{against.id}"][layer].stats["weights"][0])
                for concept in concepts
            ]
        ).float()
        for layer in module.names
    ]
