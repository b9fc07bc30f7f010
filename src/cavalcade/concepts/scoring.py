"""How well masks agree with labels: counts of a split, and scores made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from torch import Tensor

from cavalcade.backbones import Layer

NOT_COUNTS = ["jaccard", "jaccard_per_image", "area_ratio", "area_with", "area_without"]


@dataclass
class LabelCounts:
    """Pixels of each image and concept whose truth is known and which the network saw.

    Attributes:
        hits: where prediction and truth agree that the concept is present.
        predicted: where the concept is predicted.
        true: where it is.
        counted: all of them.
    """

    hits: Int[Tensor, "images concepts"]
    predicted: Int[Tensor, "images concepts"]
    true: Int[Tensor, "images concepts"]
    counted: Int[Tensor, "images concepts"]

    @classmethod
    def of(
        cls,
        masks: Bool[Tensor, "images concepts *pixels"],
        truth: Bool[Tensor, "images concepts *pixels"],
        counted: Bool[Tensor, "images concepts *pixels"],
    ) -> "LabelCounts":
        """Of masks against the truth, on the pixels that count."""
        predicted, true = masks & counted, truth & counted
        parts = (predicted & true, predicted, true, counted)
        return cls(*(part.flatten(2).sum(dim=2).cpu() for part in parts))

    def firing_areas(self) -> tuple[Tensor, Tensor]:
        """Share of area that fires on images with the concept, and on those without it.

        Both (concepts,), pooled over images; NaN where there is no such image.
        """
        absent = (self.true == 0) & (self.counted > 0)
        return _share(self.predicted, self.counted, ~absent), _share(
            self.predicted, self.counted, absent
        )


def _share(part: Tensor, whole: Tensor, images: Tensor) -> Tensor:
    return (part * images).sum(dim=0).double() / (whole * images).sum(dim=0)


def score_table(
    counts: Mapping[str, LabelCounts],
    layers: Sequence[Layer],
    concepts: Sequence[str],
    thresholds: Mapping[str, Tensor],
    split: str,
) -> pd.DataFrame:
    """Scores of a split, a row for each layer and concept.

    Columns: `jaccard`, counts pooled over all pixels of all images; `jaccard_per_image`, the
    mean over the images where concept or prediction occur; `area_ratio`, predicted over true
    area; `area_with` and `area_without`, the share of area that fires on images with and without
    the concept; `threshold`, above which a map fires; `true_pixels`, the concept's labelled
    pixels in the split. NaN where a number is not defined.
    """
    rows = []
    for layer in layers:
        part = counts[layer.name]
        hits, predicted, true = part.hits.double(), part.predicted.double(), part.true.double()
        union = predicted + true - hits
        area_with, area_without = part.firing_areas()
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
                "area_with": area_with,
                "area_without": area_without,
                "threshold": thresholds[layer.name].double(),
                "true_pixels": part.true.sum(0),
            }
        )
        frame[NOT_COUNTS] = frame[NOT_COUNTS].where(
            defined[:, None] & np.isfinite(frame[NOT_COUNTS])
        )
        rows.append(frame)
    return pd.concat(rows, ignore_index=True)


def score_matrix(
    scores: pd.DataFrame, layers: Sequence[str], concepts: Sequence[str], score: str, split: str
) -> pd.DataFrame:
    """One column of a `score_table` as a matrix, layers by concepts in the order given."""
    rows = scores[scores["split"] == split]
    matrix = rows.pivot(index="layer", columns="concept", values=score)
    return matrix.loc[list(layers), list(concepts)]
