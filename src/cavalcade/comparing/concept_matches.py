"""Which mined concepts of two networks are the same: partners at layers that match best."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from cavalcade.similarity import ConceptCells, Pair, assignment
from cavalcade.similarity.estimates import LEVEL

COLUMNS = (
    *("network_a", "layer_a", "depth_a", "concept_a", "network_b", "layer_b", "depth_b"),
    *("concept_b", "jaccard", "adjusted", "stderr", "low", "high", "mutual"),
)


def concept_matches(
    pair: Pair,
    cells: ConceptCells,
    best_matches: pd.DataFrame,
    num_blocks: int,
) -> pd.DataFrame:
    """The concepts of every two layers of which one is the other's best match, as partners.

    Partners are those of the optimal assignment of adjusted Jaccard indices. Columns: network_a,
    layer_a, depth_a, concept_a, and the same of b; jaccard, adjusted, stderr, low and high
    (interval of 95 %, by Student's t over blocks, of these two concepts as such: that they were
    chosen among many makes the adjusted index of unrelated ones larger than 0); mutual, whether
    each layer is the best match of the other.

    Args:
        pair: the networks.
        cells: their concepts with each other.
        best_matches: of the pair, see `match_table`.
        num_blocks: of images.
    """
    reach = float(student.ppf((1 + LEVEL) / 2, max(num_blocks - 1, 1)))
    forth = best_matches[best_matches["network"] == pair.network_a]
    back = best_matches[best_matches["network"] == pair.network_b]
    there = set(zip(forth["layer"], forth["match"], strict=True))
    home = set(zip(back["match"], back["layer"], strict=True))
    rows = [
        row
        for a in pair.layers_a
        for b in pair.layers_b
        if (a.name, b.name) in there | home
        for row in _partners(cells, a.name, b.name, reach)
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
    cells: ConceptCells, layer_a: str, layer_b: str, reach: float
) -> Iterator[dict[str, Any]]:
    """A row for each two partners of two layers."""
    all_rows, all_columns = cells.between(layer_a, layer_b)
    partners = assignment(cells.adjusted[np.ix_(all_rows, all_columns)])
    for row, column in zip(all_rows[partners[0]], all_columns[partners[1]], strict=True):
        value, stderr = float(cells.adjusted[row, column]), float(cells.stderr[row, column])
        yield {
            "layer_a": layer_a,
            "concept_a": cells.concepts_a[row][1],
            "layer_b": layer_b,
            "concept_b": cells.concepts_b[column][1],
            "jaccard": float(cells.jaccard[row, column]),
            "adjusted": value,
            "stderr": stderr,
            "low": value - reach * stderr,
            "high": value + reach * stderr,
        }
