"""Similarity of concepts and of layers, with chance removed."""

from cavalcade.similarity.chance import adjusted_jaccard, expected_intersection
from cavalcade.similarity.counts import JointCounts, PixelCounts
from cavalcade.similarity.layer_matrix import LayerMatrix, Pair, mean_over_concepts

__all__ = [
    "JointCounts",
    "LayerMatrix",
    "Pair",
    "PixelCounts",
    "adjusted_jaccard",
    "expected_intersection",
    "mean_over_concepts",
]
