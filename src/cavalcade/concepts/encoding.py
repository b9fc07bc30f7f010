"""Where each concept fires on the images of a split: masks, scores, pooled features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cavalcade.backbones import FrozenBackbone, Layer
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.passes import ConceptPass
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.geometry import seen_cells, to_common_grid


def concept_masks(
    maps: Float[Tensor, "images concepts rows columns"],
    thresholds: Float[Tensor, " concepts"],
) -> Bool[Tensor, "images concepts rows columns"]:
    """Where maps on the common grid exceed their thresholds; a NaN threshold fires nowhere."""
    return maps > thresholds[:, None, None]


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


@dataclass
class LayerEncoding:
    """What one layer says about a split.

    Attributes:
        masks: bits on the common grid, zero where the network did not look.
        features: activations averaged over the layer's grid.
        hits: pixels where prediction and truth agree that the concept is present; this and
            the next two count pixels whose truth is known and which the network saw.
        predicted: pixels where the concept is predicted.
        true: pixels where it is.
    """

    masks: UInt8[Tensor, "images concepts bytes"]
    features: Float[Tensor, "images channels"]
    hits: Tensor
    predicted: Tensor
    true: Tensor


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
        concepts: whose masks, features and scores are recorded.
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
        for name, masks in self._masks(concepts, activations, batch.frames, seen):
            features = activations[name].mean(dim=(2, 3)).float().cpu()
            self.parts[name].append(_encode(masks, batch, seen, features))
        for half, parts in zip(halves, self.half_parts, strict=True):
            for name, masks in self._masks(half, activations, batch.frames, seen):
                parts[name].append(pack(masks))

    def _masks(
        self, concepts: ConceptSet, activations: Mapping[str, Tensor], frames: Tensor, seen: Tensor
    ) -> Iterator[tuple[str, Bool[Tensor, "images concepts rows columns"]]]:
        """For each layer where its concepts fire, of what the network saw."""
        for name, maps in concepts.encode(activations).items():
            on_grid = to_common_grid(maps, frames, self.grid)
            yield name, concept_masks(on_grid, concepts.layers[name].thresholds) & seen[:, None]

    def result(self) -> Encoded:
        """All batches together."""
        layers = {
            name: LayerEncoding(
                *(
                    torch.cat([getattr(part, what) for part in parts])
                    for what in LayerEncoding.__dataclass_fields__
                )
            )
            for name, parts in self.parts.items()
        }
        halves = [
            {name: torch.cat(masks) for name, masks in parts.items()} for parts in self.half_parts
        ]
        return Encoded(torch.cat(self.seen), layers, halves)


def _encode(masks: Tensor, batch: ConceptBatch, seen: Tensor, features: Tensor) -> LayerEncoding:
    counted = batch.labelled & seen[:, None]
    predicted, true = masks & counted, batch.truth & counted
    hits, predicted_area, true_area = (
        part.flatten(2).sum(dim=2).cpu() for part in (predicted & true, predicted, true)
    )
    return LayerEncoding(pack(masks), features, hits, predicted_area, true_area)


def score_table(
    encodings: Mapping[str, LayerEncoding],
    layers: Sequence[Layer],
    concepts: Sequence[str],
    thresholds: Mapping[str, Tensor],
    split: str,
) -> pd.DataFrame:
    """Scores of a split, a row for each layer and concept.

    Columns: `jaccard`, counts pooled over all pixels of all images; `jaccard_per_image`, the
    mean over the images where concept or prediction occur; `area_ratio`, predicted over true
    area; `threshold`, above which a map fires; `true_pixels`, the concept's labelled pixels in
    the split. NaN where a number is not defined.
    """
    rows = []
    for layer in layers:
        part = encodings[layer.name]
        hits, predicted, true = part.hits.double(), part.predicted.double(), part.true.double()
        union = predicted + true - hits
        defined = (~thresholds[layer.name].isnan()).numpy()
        frame = pd.DataFrame(
            {
                "layer": layer.name,
                "depth": layer.depth,
                "concept": list(concepts),
                "split": split,
                "jaccard": hits.sum(0) / union.sum(0),
                "jaccard_per_image": (hits / union).nanmean(dim=0),
                "area_ratio": predicted.sum(0) / true.sum(0),
                "threshold": thresholds[layer.name].double(),
                "true_pixels": part.true.sum(0),
            }
        )
        scores = ["jaccard", "jaccard_per_image", "area_ratio"]
        frame[scores] = frame[scores].where(defined[:, None] & np.isfinite(frame[scores]))
        rows.append(frame)
    return pd.concat(rows, ignore_index=True)


def score_matrix(
    scores: pd.DataFrame, layers: Sequence[str], concepts: Sequence[str], score: str, split: str
) -> pd.DataFrame:
    """One column of a `score_table` as a matrix, layers by concepts in the order given."""
    rows = scores[scores["split"] == split]
    matrix = rows.pivot(index="layer", columns="concept", values=score)
    return matrix.loc[list(layers), list(concepts)]
