"""Which label a concept without a name overlaps best, and how sure that is."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cavalcade.concepts.scoring import LabelCounts
from cavalcade.data.groups import block_weights
from cavalcade.similarity.concept_cells import similarity_of_pairs
from cavalcade.similarity.estimates import Estimate, critical_t
from cavalcade.similarity.firing import Firing

# what chance is known to is less: a label that is in the same place of all images is at chance,
# and its index and error are nothing but rounding
ROUNDED = 1e-6


def name_concepts(
    mined: Firing, labels: Mapping[str, Firing], blocks: Int[Tensor, " images"]
) -> pd.DataFrame:
    """The label that each mask overlaps best, a row for each.

    Columns: label; jaccard and adjusted (Jaccard index with chance removed) with its stderr;
    second, the next label, with second_adjusted; sure, the share of bootstrap resamples of blocks
    in which the label is the best; named, whether the adjusted index is above 0 by more than its
    error, at the 5 % level for all masks and labels together; area_with and area_without, the
    share of area that fires on images that show the label, and on those that do not.

    Empty and NaN where no label has a defined index.

    Args:
        mined: masks without names.
        labels: for each label the one mask of it, seen where the truth is known.
        blocks: number of the block of each image.
    """
    firing = [mined, *labels.values()]
    pairs = [(0, k) for k in range(1, len(firing))]
    nothing = torch.empty(0, len(blocks), dtype=torch.int64)
    cells = list(similarity_of_pairs(firing, pairs, None, blocks, nothing))
    jaccard, adjusted = (
        _side_by_side([found.measures[measure] for found in cells])
        for measure in ("jaccard", "adjusted")
    )
    values = np.where(np.isnan(adjusted.value), -np.inf, adjusted.value)
    order = np.argsort(-values, axis=1, kind="stable")
    best, rows = order[:, 0], np.arange(len(values))
    critical = critical_t(adjusted, values.size)
    table = pd.DataFrame(
        {
            "label": np.array(list(labels), dtype=object)[best],
            "jaccard": jaccard.value[rows, best],
            "adjusted": adjusted.value[rows, best],
            "stderr": adjusted.stderr[rows, best],
            **_second(list(labels), order, adjusted.value),
            "sure": _shares_of(best, adjusted),
        }
    )
    table["named"] = table["adjusted"] > (critical * table["stderr"]).clip(lower=ROUNDED)
    areas = _areas(mined, list(labels.values()), best)
    table["area_with"], table["area_without"] = areas
    undefined = table["adjusted"].isna()
    table.loc[undefined, ["label", "second"]] = ""
    table.loc[undefined, ["area_with", "area_without"]] = np.nan
    return table


def _side_by_side(estimates: list[Estimate]) -> Estimate:
    """Estimates of one column each, as the columns of one."""
    return Estimate(
        np.concatenate([e.value for e in estimates], axis=-1),
        np.concatenate([e.without for e in estimates], axis=-1),
    )


def _shares_of(best: Int[np.ndarray, " rows"], adjusted: Estimate) -> Float[np.ndarray, " rows"]:
    """In which share of resamples each row has the same best label; NaN without errors."""
    again = adjusted.replicates(block_weights(len(adjusted.without)))
    again = np.where(np.isnan(again), -np.inf, again)
    known = np.isfinite(adjusted.stderr[np.arange(len(best)), best])
    return np.where(known, (again.argmax(axis=2) == best).mean(axis=0), np.nan)


def _second(
    names: list[str],
    order: Int[np.ndarray, "rows labels"],
    values: Float[np.ndarray, "rows labels"],
) -> dict[str, object]:
    """The second best label of each row, if there is a second."""
    rows = np.arange(len(order))
    if len(names) < 2:
        return {"second": "", "second_adjusted": np.nan}
    found = values[rows, order[:, 1]]
    second = np.array(names, dtype=object)[order[:, 1]]
    return {"second": np.where(np.isnan(found), "", second), "second_adjusted": found}


def _areas(
    mined: Firing, labels: list[Firing], best: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Share of area in which each mask fires on images with its best label, and without it."""
    shares = np.full((2, len(best)), np.nan)
    for k, label in enumerate(labels):
        rows = np.flatnonzero(best == k)
        if not len(rows):
            continue
        counted = (mined.seen & label.seen)[:, None]
        masks = mined.masks[:, rows]
        counts = LabelCounts.of(masks, label.masks.expand_as(masks), counted.expand_as(masks))
        shares[:, rows] = torch.stack(counts.firing_areas()).numpy()
    return shares[0], shares[1]
