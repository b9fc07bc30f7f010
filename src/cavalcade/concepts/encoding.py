"""Where each concept fires on the images of a split: masks, strengths, pooled features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.passes import ConceptPass, joined, taken
from cavalcade.concepts.scoring import LabelCounts
from cavalcade.concepts.thresholds import RANGE
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.geometry import cells_inside, seen_cells, to_common_grid


def pack(masks: Bool[Tensor, "*leading rows columns"]) -> UInt8[Tensor, "*leading bytes"]:
    """Pack masks to bits, row by row, the last byte filled up with zeros.

    >>> pack(torch.ones(1, 3, 3, dtype=torch.bool))
    tensor([[255, 128]], dtype=torch.uint8)
    """
    return torch.from_numpy(np.packbits(masks.flatten(-2).cpu().numpy(), axis=-1))


def unpack(
    bits: UInt8[Tensor, "*leading bytes"], grid: Sequence[int]
) -> Bool[Tensor, "*leading pixels"]:
    """The inverse of `pack`, with the pixels of the grid in one dimension."""
    values = np.unpackbits(bits.numpy(), axis=-1, count=grid[0] * grid[1])
    return torch.from_numpy(values.view(bool))


def pooled(
    activations: Float[Tensor, "images channels rows columns"], frames: Float[Tensor, "images 4"]
) -> Float[Tensor, "images channels"]:
    """Mean of each channel over the cells whose centres lie in the image, not in its padding."""
    if bool((frames[:, :2] >= 0).all() and (frames[:, 2:] <= 1).all()):  # without padding
        return activations.mean(dim=(2, 3))
    inside = cells_inside(frames, activations.shape[2:])[:, None]
    return (activations * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))


@dataclass
class LayerEncoding:
    """What one layer says about a split.

    Attributes:
        masks: bits on the common grid, zero where the network did not look.
        strengths: by how much each map exceeds its threshold, or -16 where that is lower, averaged
            over the pixels that the network saw; 0 where it does not fire.
        features: activations averaged over the cells of the layer that lie in the image.
    """

    masks: UInt8[Tensor, "images concepts bytes"]
    strengths: Float[Tensor, "images concepts"]
    features: Float[Tensor, "images channels"]


@dataclass
class Encoded:
    """What the concepts of a network say about a split.

    Attributes:
        seen: bits on the common grid, where the network looked.
        layers: the encoding of each layer.
        halves: for the probes of each half, and each layer, masks as bits (images, concepts,
            bytes).
    """

    seen: UInt8[Tensor, "images bytes"]
    layers: Mapping[str, LayerEncoding]
    halves: Sequence[Mapping[str, Tensor]]


class Part(NamedTuple):
    """What the concepts say about some images.

    Attributes:
        positions: of the images in their split.
        encoded: masks, strengths and features.
        counts: for each layer how its masks meet the truth; empty where nobody asks.
    """

    positions: Int[Tensor, " images"]
    encoded: Encoded
    counts: Mapping[str, LabelCounts]


class Encoding(ConceptPass):
    """One pass over a split that records where each concept fires.

    Args:
        backbone: the frozen network.
        concepts: whose masks, strengths and features are recorded.
        grid: the common one.
        split: for the user.
        halves: whose masks alone are recorded.
        scored: hold the masks against the truth.
    """

    phase = "encoding"

    def __init__(
        self,
        backbone: FrozenBackbone,
        concepts: ConceptSet,
        grid: Sequence[int],
        split: str,
        *,
        halves: Sequence[ConceptSet] = (),
        scored: bool = False,
    ) -> None:
        super().__init__(backbone, (concepts, *halves), grid)
        self.phase = f"encoding {split} images"
        self.names, self.num_halves, self.scored = tuple(concepts.layers), len(halves), scored
        self.parts: list[Part] = []

    def test_step(self, batch: ConceptBatch) -> None:
        """Record one batch."""
        self.parts += (seen for _, seen in self.in_parts(batch, self._look))

    def _look(self, batch: ConceptBatch) -> Part:
        activations = self.activations(batch)
        seen = seen_cells(batch.frames, self.grid)
        concepts, *halves = self.replicates
        features = {name: pooled(maps, batch.frames) for name, maps in activations.items()}
        layers, counts = {}, {}
        for name, masks, excess in self._fired(concepts, activations, batch.frames, seen):
            strengths = (
                torch.where(masks, excess, 0).sum(dim=(2, 3)) / seen.sum(dim=(1, 2))[:, None]
            )
            layers[name] = LayerEncoding(
                pack(masks), strengths.float().cpu(), features[name].float().cpu()
            )
            if self.scored:
                known = batch.labelled & seen[:, None]
                counts[name] = LabelCounts.of(masks, batch.truth, known)
        again = [
            {
                name: pack(masks)
                for name, masks, _ in self._fired(half, activations, batch.frames, seen)
            }
            for half in halves
        ]
        return Part(batch.positions.cpu(), Encoded(pack(seen), layers, again), counts)

    def _fired(
        self, concepts: ConceptSet, activations: Mapping[str, Tensor], frames: Tensor, seen: Tensor
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """For each layer where its concepts fire, of what the network saw, and by how much."""
        for name, maps in concepts.encode(activations).items():
            on_grid = to_common_grid(maps, frames, self.grid)
            layer = concepts.layers[name]
            # what fires everywhere has no threshold to exceed: the lowest that there is, instead
            excess = (on_grid - layer.limits(on_grid).clamp(min=-RANGE)).clamp(min=0)
            yield name, layer.fires(on_grid) & seen[:, None], excess

    def result(self) -> Encoded | None:
        """What all processes saw, in the order of the split; None but in the first."""

        def layer(name: str) -> LayerEncoding:
            return self._all_images(lambda part: part.encoded.layers[name])

        def half(k: int, name: str) -> Tensor:
            return self._all_images(lambda part: part.encoded.halves[k][name])

        seen = self._all_images(lambda part: part.encoded.seen)
        layers = {name: layer(name) for name in self.names}
        halves = [{name: half(k, name) for name in self.names} for k in range(self.num_halves)]
        return Encoded(seen, layers, halves) if processes.is_first() else None

    def label_counts(self) -> dict[str, LabelCounts] | None:
        """How the masks of each layer meet the truth, likewise."""

        def layer(name: str) -> LabelCounts:
            return self._all_images(lambda part: part.counts[name])

        counts = {name: layer(name) for name in self.names}
        return counts if processes.is_first() else None

    def _all_images(self, what: Callable[[Part], Any]) -> Any:  # noqa: ANN401
        """Something of all parts of all processes, in the order of the split."""
        own = [(part.positions, what(part)) for part in self.parts]
        together = tuple(map(joined, zip(*own, strict=True))) if own else None
        everything = processes.gathered(together)
        if everything is None:
            return None
        seen = [each for each in everything if each is not None]
        positions, found = map(joined, zip(*seen, strict=True))
        return taken(found, positions.argsort(stable=True))
