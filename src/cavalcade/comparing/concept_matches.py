"""Which mined concepts of two networks are the same: partners at layers that match best."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from cavalcade.similarity import ConceptCells, Pair, assignment, combined
from cavalcade.similarity.estimates import interval

COLUMNS = (
    *("network_a", "layer_a", "depth_a", "concept_a", "network_b", "layer_b", "depth_b"),
    *("concept_b", "jaccard", "adjusted", "stderr", "low", "high", "mutual"),
)


def concept_matches(
    pair: Pair,
    cells: ConceptCells,
    best_matches: pd.DataFrame,
    weights: Int[np.ndarray, "resamples blocks"],
) -> pd.DataFrame:
    """The concepts of every two layers of which one is the other's best match, as partners.

    Partners are those of the optimal assignment of adjusted Jaccard indices. Columns: network_a,
    layer_a, depth_a, concept_a, and the same of b; jaccard, adjusted, stderr, low and high
    (interval of the adjusted index); mutual, whether either layer is the best match of the other.

    Args:
        pair: the networks.
        cells: their concepts with each other.
        best_matches: of the pair, see `match_table`.
        weights: of the block bootstrap.
    """
    forth = best_matches[best_matches["network"] == pair.network_a]
    back = best_matches[best_matches["network"] == pair.network_b]
    there = set(zip(forth["layer"], forth["match"], strict=True))
    home = set(zip(back["match"], back["layer"], strict=True))
    rows = [
        row
        for a in pair.layers_a
        for b in pair.layers_b
        if (a.name, b.name) in there | home
        for row in _partners(cells, a.name, b.name, weights)
    ]
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if not c.startswith(("net", "dep"))])
    depths_a, depths_b = (
        {layer.name: layer.depth for layer in layers} for layers in (pair.layers_a, pair.layers_b)
    )
    table = table.assign(
        network_a=pair.network_a,
        network_b=pair.network_b,
        depth_a=table["layer_a"].map(depths_a),
        depth_b=table["layer_b"].map(depths_b),
        mutual=[
            places in there & home
            for places in zip(table["layer_a"], table["layer_b"], strict=True)
        ],
    )
    return table[list(COLUMNS)]


def _partners(
    cells: ConceptCells, layer_a: str, layer_b: str, weights: Int[np.ndarray, "resamples blocks"]
) -> Iterator[dict[str, Any]]:
    """A row for each two partners of two layers."""
    adjusted, jaccard = (
        cells.between(layer_a, layer_b, measure) for measure in ("adjusted", "jaccard")
    )
    names_a, names_b = (
        [name for where, name in concepts if where == layer]
        for concepts, layer in ((cells.concepts_a, layer_a), (cells.concepts_b, layer_b))
    )
    rows, columns = assignment(adjusted.value)
    chosen = combined(lambda x: x[..., rows, columns], adjusted)
    low, high = interval(chosen.replicates(weights), weights.shape[1])
    for k, (row, column) in enumerate(zip(rows, columns, strict=True)):
        yield {
            "layer_a": layer_a,
            "concept_a": names_a[row],
            "layer_b": layer_b,
            "concept_b": names_b[column],
            "jaccard": jaccard.value[row, column],
            "adjusted": chosen.value[k],
            "stderr": chosen.stderr[k],
            "low": low[k],
            "high": high[k],
        }
