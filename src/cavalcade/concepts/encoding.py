"""Where each concept fires on the images of a split: masks, strengths, pooled features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.passes import ConceptPass, joined
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
    inside = cells_inside(frames, activations.shape[2:])[:, None]
    if inside.all():
        return activations.mean(dim=(2, 3))
    return (activations * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))


@dataclass
class LayerEncoding:
    """What one layer says about a split.

    Attributes:
        masks: bits on the common grid, zero where the network did not look.
        strengths: by how much each map exceeds its threshold, averaged over the pixels that the
            network saw; 0 where it does not fire.
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


class Encoding(ConceptPass):
    """One pass over a split that records where each concept fires.

    Args:
        backbone: the frozen network.
        concepts: whose masks, strengths and features are recorded.
        grid: the common one.
        split: for the user.
        halves: whose masks alone are recorded.
    """

    phase = "encoding"

    def __init__(
        self,
        backbone: FrozenBackbone,
        concepts: ConceptSet,
        grid: Sequence[int],
        split: str,
        halves: Sequence[ConceptSet] = (),
    ) -> None:
        super().__init__(backbone, (concepts, *halves), grid)
        self.phase = f"encoding {split} images"
        self.seen: list[Tensor] = []
        self.parts: dict[str, list[LayerEncoding]] = {name: [] for name in concepts.layers}
        self.half_parts: list[dict[str, list[Tensor]]] = [
            {name: [] for name in half.layers} for half in halves
        ]

    def test_step(self, batch: ConceptBatch) -> None:
        """Record one batch; batches come in the order of the split."""
        activations = self.backbone(batch.inputs)
        seen = seen_cells(batch.frames, self.grid)
        self.seen.append(pack(seen))
        concepts, *halves = self.replicates
        for name, masks, excess in self._fired(concepts, activations, batch.frames, seen):
            strengths = (
                torch.where(masks, excess, 0).sum(dim=(2, 3)) / seen.sum(dim=(1, 2))[:, None]
            )
            features = pooled(activations[name], batch.frames).float().cpu()
            self.parts[name].append(LayerEncoding(pack(masks), strengths.float().cpu(), features))
            self.record(name, masks, batch, seen)
        for half, parts in zip(halves, self.half_parts, strict=True):
            for name, masks, _ in self._fired(half, activations, batch.frames, seen):
                parts[name].append(pack(masks))

    def record(
        self,
        name: str,
        masks: Bool[Tensor, "images concepts rows columns"],
        batch: ConceptBatch,
        seen: Bool[Tensor, "images rows columns"],
    ) -> None:
        """Take note of more about one layer and batch."""

    def _fired(
        self, concepts: ConceptSet, activations: Mapping[str, Tensor], frames: Tensor, seen: Tensor
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """For each layer where its concepts fire, of what the network saw, and by how much."""
        for name, maps in concepts.encode(activations).items():
            on_grid = to_common_grid(maps, frames, self.grid)
            layer = concepts.layers[name]
            yield name, layer.fires(on_grid) & seen[:, None], on_grid - layer.limits(on_grid)

    def result(self) -> Encoded:
        """All batches together."""
        layers = {name: joined(parts) for name, parts in self.parts.items()}
        halves = [
            {name: torch.cat(masks) for name, masks in parts.items()} for parts in self.half_parts
        ]
        return Encoded(torch.cat(self.seen), layers, halves)
