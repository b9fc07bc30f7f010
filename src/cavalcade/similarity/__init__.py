"""Similarity of concepts and of layers: chance removed, with errors, nulls and ceilings."""

from cavalcade.data.groups import block_weights
from cavalcade.similarity.chance import Fired, adjusted_jaccard, expected_intersection
from cavalcade.similarity.concept_cells import (
    CONCEPT_MEASURES,
    MINED_MEASURES,
    WITHOUT_CHANCE,
    PairCells,
    repaired_orders,
    similarity_of_pairs,
)
from cavalcade.similarity.estimates import Estimate
from cavalcade.similarity.features import (
    FEATURE_MEASURES,
    feature_similarity,
    prepare,
)
from cavalcade.similarity.firing import Fires, Firing
from cavalcade.similarity.flow import Flow, attainable, ceilings
from cavalcade.similarity.layer_matrix import (
    KEYS,
    LayerMatrix,
    Pair,
    cells_of,
    fixed_concepts,
    mean_over,
    tidy,
)
from cavalcade.similarity.mined_layers import (
    ConceptCells,
    assigned_mean,
    assignment,
    best_match_mean,
    layer_cells,
    layer_slices,
    less_chance,
)
from cavalcade.similarity.naming import name_concepts
from cavalcade.similarity.titles import MEASURE_TITLES

__all__ = [
    "CONCEPT_MEASURES",
    "FEATURE_MEASURES",
    "KEYS",
    "MEASURE_TITLES",
    "MINED_MEASURES",
    "WITHOUT_CHANCE",
    "ConceptCells",
    "Estimate",
    "Fired",
    "Fires",
    "Firing",
    "Flow",
    "LayerMatrix",
    "Pair",
    "PairCells",
    "adjusted_jaccard",
    "assigned_mean",
    "assignment",
    "attainable",
    "best_match_mean",
    "block_weights",
    "ceilings",
    "cells_of",
    "expected_intersection",
    "feature_similarity",
    "fixed_concepts",
    "layer_cells",
    "layer_slices",
    "less_chance",
    "mean_over",
    "name_concepts",
    "prepare",
    "repaired_orders",
    "similarity_of_pairs",
    "tidy",
]
