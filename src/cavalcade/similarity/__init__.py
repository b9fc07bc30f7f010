"""Similarity of concepts and of layers: chance removed, with errors, nulls and ceilings."""

from cavalcade.similarity.chance import Fired, adjusted_jaccard, expected_intersection
from cavalcade.similarity.concept_cells import (
    CONCEPT_MEASURES,
    WITHOUT_CHANCE,
    Firing,
    PairCells,
    repaired_orders,
    similarity_of_pairs,
)
from cavalcade.similarity.counts import MeetingCounts, PixelCounts
from cavalcade.similarity.estimates import Estimate, block_weights
from cavalcade.similarity.features import (
    FEATURE_MEASURES,
    feature_similarity,
    prepare,
)
from cavalcade.similarity.flow import Flow, attainable, ceilings
from cavalcade.similarity.layer_matrix import KEYS, LayerMatrix, Pair, fixed_concepts, mean_over
from cavalcade.similarity.titles import MEASURE_TITLES

__all__ = [
    "CONCEPT_MEASURES",
    "FEATURE_MEASURES",
    "KEYS",
    "MEASURE_TITLES",
    "WITHOUT_CHANCE",
    "Estimate",
    "Fired",
    "Firing",
    "Flow",
    "LayerMatrix",
    "MeetingCounts",
    "Pair",
    "PairCells",
    "PixelCounts",
    "adjusted_jaccard",
    "attainable",
    "block_weights",
    "ceilings",
    "expected_intersection",
    "feature_similarity",
    "fixed_concepts",
    "mean_over",
    "prepare",
    "repaired_orders",
    "similarity_of_pairs",
]
