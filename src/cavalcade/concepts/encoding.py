"""Where each concept fires on the images of a split: masks, scores, pooled features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from cavalcade.backbones import FrozenBackbone, Layer
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.passes import BackbonePass, computed
from cavalcade.concepts.thresholds import LogitHistograms
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


class ConceptPass(BackbonePass):
    """A pass that looks where known concepts fire."""

    def __init__(self, backbone: FrozenBackbone, concepts: ConceptSet, grid: Sequence[int]) -> None:
        super().__init__(backbone)
        self.concepts, self.grid = concepts, grid

    def on_test_start(self) -> None:
        """Take the concepts to the network's device."""
        self.concepts = self.concepts.to(self.device)


class Calibration(ConceptPass):
    """One pass that finds each concept's threshold on the training pixels."""

    phase = "calibrating thresholds"

    def __init__(self, backbone: FrozenBackbone, concepts: ConceptSet, grid: Sequence[int]) -> None:
        super().__init__(backbone, concepts, grid)
        self.histograms = [LogitHistograms(len(layer.names)) for layer in concepts.layers.values()]
        self.registered = nn.ModuleList(self.histograms)  # follow the module to its device

    def test_step(self, batch: ConceptBatch) -> None:
        """Count the logits of one batch."""
        maps = self.concepts.encode(self.backbone(batch.inputs))
        counted = batch.labelled & seen_cells(batch.frames, self.grid)[:, None]
        for histogram, layer_maps in zip(self.histograms, maps.values(), strict=True):
            logits = to_common_grid(layer_maps, batch.frames, self.grid)
            histogram.update(logits, batch.truth, counted)

    def thresholds(self) -> dict[str, Float[Tensor, " concepts"]]:
        """For each layer the thresholds of highest Jaccard index."""
        return {
            name: computed(histogram)[0].cpu()
            for name, histogram in zip(self.concepts.layers, self.histograms, strict=True)
        }


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


class Encoding(ConceptPass):
    """One pass over a split that records where each concept fires."""

    phase = "encoding"

    def __init__(
        self, backbone: FrozenBackbone, concepts: ConceptSet, grid: Sequence[int], split: str
    ) -> None:
        super().__init__(backbone, concepts, grid)
        self.phase = f"encoding {split} images"
        self.seen: list[Tensor] = []
        self.parts: dict[str, list[LayerEncoding]] = {name: [] for name in concepts.layers}

    def test_step(self, batch: ConceptBatch) -> None:
        """Record one batch; batches come in the order of the split."""
        activations = self.backbone(batch.inputs)
        seen = seen_cells(batch.frames, self.grid)
        self.seen.append(pack(seen))
        for name, maps in self.concepts.encode(activations).items():
            on_grid = to_common_grid(maps, batch.frames, self.grid)
            masks = concept_masks(on_grid, self.concepts.layers[name].thresholds)
            features = activations[name].mean(dim=(2, 3)).float().cpu()
            part = _encode(masks & seen[:, None], batch, seen, features)
            self.parts[name].append(part)

    def result(self) -> tuple[UInt8[Tensor, "images bytes"], dict[str, LayerEncoding]]:
        """What the network saw of each image, and the encoding of each layer."""
        layers = {
            name: LayerEncoding(
                *(
                    torch.cat([getattr(part, what) for part in parts])
                    for what in LayerEncoding.__dataclass_fields__
                )
            )
            for name, parts in self.parts.items()
        }
        return torch.cat(self.seen), layers


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
