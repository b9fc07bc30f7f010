"""The test images on which a report shows masks, and the masks."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cavalcade.report.page import Rounded, picture, written_size
from cavalcade.runs import ProbedRun, Run
from cavalcade.truth import Truth

MOST_IMAGES, FEWEST_IMAGES = 16, 4
MASK_BYTES = 20_000_000  # about, as they are written
SAMPLED = 12  # layers whose masks tell how well masks can be compressed


def shown_images(runs: Sequence[Run]) -> list[int]:
    """The test images on which masks are shown: those that show the most concepts strongly.

    None without thumbnails.
    """
    truth = runs[0].truth
    if not len(truth.thumbnails):
        return []
    layers = [(run, layer.name) for run in runs for layer in run.layers]
    best = torch.cat([run.relative_strengths(layer) for run, layer in layers], dim=1)
    room = int(MASK_BYTES / (best.shape[1] * _mask_size(layers)))
    return sorted(_covering(best, truth, min(max(room, FEWEST_IMAGES), MOST_IMAGES)))


def _mask_size(layers: Sequence[tuple[Run, str]]) -> float:
    """Bytes that a mask takes as it is written: of noise ten times as many as of large shapes."""
    sampled = layers[:: -(-len(layers) // SAMPLED)]
    bits = [run.bits(layer)[:MOST_IMAGES] for run, layer in sampled]
    masks = sum(part.shape[0] * part.shape[1] for part in bits)
    return sum(written_size(part.numpy()) for part in bits) / masks


def pictures(run: Run, images: Sequence[int]) -> dict[str, Any]:
    """These images, and of a probed run where the labels are in them."""
    files = (run.truth.thumbnails.pictures[image] for image in images)
    found: dict[str, Any] = {"pictures": [picture(file.numpy().tobytes()) for file in files]}
    if isinstance(run, ProbedRun):
        found |= {
            "names": list(run.truth.concepts),
            "bits": run.truth.masks[list(images)].numpy(),
        }
    return found


def masks(run: Run, layer: str, images: Sequence[int]) -> dict[str, Any]:
    """Where the concepts of a layer fire on these images, and how strongly."""
    chosen = list(images)
    return {
        "names": list(run.concept_set.layers[layer].names),
        "bits": run.bits(layer)[chosen].numpy(),
        "strengths": Rounded(run.relative_strengths(layer)[chosen].numpy()),
    }


def _covering(strengths: Float[Tensor, "images concepts"], truth: Truth, count: int) -> list[int]:
    """Images of which each adds the most to how strongly concepts are shown at all.

    No two are of the same block while there are others.
    """
    shown, blocks = torch.zeros(strengths.shape[1]), torch.tensor(truth.blocks)
    left = torch.ones(len(strengths), dtype=torch.bool)
    other_blocks, chosen = left.clone(), list[int]()
    while len(chosen) < min(count, len(strengths)):
        if not (left & other_blocks).any():
            other_blocks[:] = True
        gains = torch.maximum(strengths, shown).sum(dim=1)
        image = int(torch.where(left & other_blocks, gains, -torch.inf).argmax())
        chosen.append(image)
        left[image] = False
        other_blocks &= blocks != blocks[image]
        shown = torch.maximum(shown, strengths[image])
    return chosen
