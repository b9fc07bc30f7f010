"""How alike concepts fire in all pairs of networks: raw, chance removed, labels removed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cavalcade.similarity.chance import adjusted_jaccard
from cavalcade.similarity.estimates import Estimate, combined
from cavalcade.similarity.firing import Fires
from cavalcade.similarity.group_chance import chance_of_group
from cavalcade.similarity.group_counts import Group, Meetings, Strata, count_group
from cavalcade.similarity.threads import in_threads

CONCEPT_MEASURES = ("jaccard", "adjusted", "label_conditional")
MINED_MEASURES = ("jaccard", "adjusted", "assignment")
# by definition 0 for unrelated masks
WITHOUT_CHANCE = ("adjusted", "label_conditional", "assignment")
FEWEST_BLOCKS = 3.0


class PairCells(NamedTuple):
    """All rows of one network with all of another; cells are (rows_a, rows_b)."""

    measures: dict[str, Estimate]
    """For each measure of concepts; NaN in cells that are too rare to say anything."""
    repaired: dict[str, Float[np.ndarray, "repairings rows_a rows_b"]]
    """The same of re-paired images."""


def similarity_of_pairs(
    networks: Sequence[Fires],
    pairs: Sequence[tuple[int, int]],
    strata: Bool[Tensor, "images strata pixels"] | Strata | None,
    blocks: Int[Tensor, " images"],
    orders: Int[Tensor, "repairings images"],
) -> Iterator[PairCells]:
    """Some masks in some pairs of networks.

    Args:
        networks: where they fire.
        pairs: positions in `networks`.
        strata: pixels of the same true label, perhaps as bits; None leaves out
            `label_conditional`.
        blocks: number of the block of each image.
        orders: see `repaired_orders`.
    """
    given_labels, num_pixels = strata is not None, networks[0].num_pixels
    if strata is None:
        everywhere = np.packbits(np.ones((1, 1, num_pixels), dtype=bool), axis=-1)
        strata = np.broadcast_to(everywhere, (len(blocks), 1, everywhere.shape[-1]))
    bits = np.packbits(strata.numpy(), axis=-1) if isinstance(strata, Tensor) else strata
    group = Group(networks, pairs, len(blocks))
    counts = count_group(group, bits, blocks.numpy(), orders.numpy())
    chance = chance_of_group(group, counts, bits, blocks.numpy(), given_labels=given_labels)
    found = np.concatenate([network.rows_found() for network in group.networks])

    def cells(strip: int) -> PairCells:
        rows, columns = group.strips[strip]
        both = found[rows, None] & found[columns]
        nulls = chance.of_strip(group.strips[strip])
        measures = _measures(_pair_counts(counts.blocks, group, strip), nulls, both)
        expected = chance.of_some_pixels(group.strips[strip])
        repaired = _repaired(_pair_counts(counts.repaired, group, strip), expected)
        return PairCells(measures, {name: repaired[name] for name in measures})

    strips = list(in_threads(cells, range(len(group.strips))))
    places = [(group.place[i], group.place[j]) for i, j in pairs]
    for i, j in places:
        yield _of_pair(group, strips, i, j)


def _of_pair(group: Group, strips: Sequence[PairCells], i: int, j: int) -> PairCells:
    """The cells of two networks, by their places."""
    strip = next(k for k, (rows, _) in enumerate(group.strips) if group.rows[i].stop <= rows.stop)
    corner = [side.start for side in group.strips[strip]]
    a, b = (
        slice(rows.start - start, rows.stop - start)
        for rows, start in zip((group.rows[i], group.rows[j]), corner, strict=True)
    )
    cells = strips[strip]

    def own(x: np.ndarray) -> np.ndarray:
        part = x[..., a, b]
        return part if part.size == x.size else part.copy()  # else the pair holds all of the strip

    measures = {name: combined(own, each) for name, each in cells.measures.items()}
    repaired = {name: own(cells.repaired[name]) for name in ("jaccard", "adjusted")}
    if "label_conditional" in measures:  # they are the same
        repaired["label_conditional"] = repaired["adjusted"]
    return PairCells(measures, repaired)


def repaired_orders(
    blocks: Int[np.ndarray, " images"], repairings: int
) -> Int[np.ndarray, "repairings images"]:
    """For each image one of another block, at the same place within it.

    Whole blocks are moved on, by as many blocks as there are re-pairings to spread evenly, so
    that neighbouring frames stay neighbours; none where there is one block.
    """
    members = [np.flatnonzero(blocks == block) for block in range(blocks.max() + 1)]
    steps = np.unique(np.linspace(1, len(members) - 1, repairings).round().astype(int))
    orders = np.empty((len(steps) if len(members) > 1 else 0, len(blocks)), dtype=np.int64)
    for order, step in zip(orders, steps, strict=False):
        for block, images in enumerate(members):
            others = members[(block + step) % len(members)]
            order[images] = others[np.arange(len(images)) * len(others) // len(images)]
    return orders


def _repaired(
    counts: "Counts", expected: Float[np.ndarray, "rows_a rows_b"]
) -> dict[str, Float[np.ndarray, "repairings rows_a rows_b"]]:
    """All measures of re-paired images; the first counts are those of the images as they are."""
    areas = counts[1][:1]
    raw = _jaccard(*counts)[1:]
    adjusted = adjusted_jaccard(raw, expected, areas)
    # images that have nothing to do with each other do not share their labels either
    return {"jaccard": raw, "adjusted": adjusted, "label_conditional": adjusted}


Counts = tuple[
    Int[np.ndarray, "blocks rows_a rows_b"],
    Int[np.ndarray, "blocks rows_a rows_b"],
]


def _pair_counts(met: Meetings, group: Group, strip: int) -> Counts:
    """Intersections, and areas of both masks together, over pixels that both networks saw."""
    (rows, columns), view = group.strips[strip], group.view_of_rows()
    area_a, area_b = met.first[:, rows][..., view[columns]], met.second[:, columns][..., view[rows]]
    return met.met[strip].astype(np.int64), area_a + area_b.swapaxes(1, 2)


def _jaccard(intersection: np.ndarray, areas: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return intersection / (areas - intersection)


def _measures(
    counts: Counts, nulls: Mapping[str, Estimate], found: Bool[np.ndarray, "rows_a rows_b"]
) -> dict[str, Estimate]:
    """All measures of a strip of pairs."""
    intersection, areas = (Estimate.of_counts(part) for part in counts)
    jaccard = combined(_jaccard, intersection, areas)
    enough = found & _enough(counts[1] - counts[0])
    measures = {"jaccard": jaccard}
    for name, expected in nulls.items():
        measures[name] = combined(adjusted_jaccard, jaccard, expected, areas)
    return {
        name: combined(lambda x: np.where(enough, x, np.nan), cells)
        for name, cells in measures.items()
    }


def _enough(
    union: Int[np.ndarray, "blocks rows_a rows_b"],
) -> Bool[np.ndarray, "rows_a rows_b"]:
    """Whether what fires is spread over enough blocks to say anything (Kish's effective number).

    Not asked of data with no more blocks than that.
    """
    with np.errstate(invalid="ignore"):
        effective = union.sum(axis=0) ** 2.0 / (union**2.0).sum(axis=0)
    return (effective >= FEWEST_BLOCKS) | (len(union) <= FEWEST_BLOCKS)
