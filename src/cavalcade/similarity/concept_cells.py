"""How alike concepts fire in all pairs of networks: raw, chance removed, labels removed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from cavalcade.similarity.chance import (
    Fired,
    Stratum,
    adjusted_jaccard,
    expected_intersection,
    some_pixels,
    thinned,
)
from cavalcade.similarity.counts import MeetingCounts, PixelCounts
from cavalcade.similarity.estimates import Estimate, combined
from cavalcade.similarity.threads import in_threads

CONCEPT_MEASURES = ("jaccard", "adjusted", "label_conditional")
MINED_MEASURES = ("jaccard", "adjusted", "assignment")
# by definition 0 for unrelated masks
WITHOUT_CHANCE = ("adjusted", "label_conditional", "assignment")
FEWEST_BLOCKS = 3.0
MANY_PIXELS = 1000


class Firing(NamedTuple):
    """Where some masks of one network fire on all test images.

    A row is one labelled concept at one of the layers, or one mined concept of any layer.
    """

    masks: Bool[Tensor, "images rows pixels"]
    """False where the network did not look."""
    seen: Bool[Tensor, "images pixels"]
    found: Bool[Tensor, " rows"] | None = None
    """Rows that have the concept at all; None for all. Others fire nowhere and say nothing."""


class PairCells(NamedTuple):
    """All rows of one network with all of another; cells are (rows_a, rows_b)."""

    measures: dict[str, Estimate]
    """For each measure of concepts; NaN in cells that are too rare to say anything."""
    repaired: dict[str, Float[np.ndarray, "repairings rows_a rows_b"]]
    """The same of re-paired images."""


def similarity_of_pairs(
    networks: Sequence[Firing],
    pairs: Sequence[tuple[int, int]],
    strata: Bool[Tensor, "images strata pixels"] | None,
    blocks: Int[Tensor, " images"],
    orders: Int[Tensor, "repairings images"],
) -> Iterator[PairCells]:
    """Some masks in some pairs of networks.

    Args:
        networks: where they fire.
        pairs: positions in `networks`.
        strata: pixels of the same true label; None leaves out `label_conditional`.
        blocks: number of the block of each image.
        orders: see `repaired_orders`.
    """
    num_blocks = int(blocks.max()) + 1
    given_labels = strata is not None
    if strata is None:
        strata = torch.ones(1, 1, 1, dtype=torch.bool).expand(
            len(blocks), 1, networks[0].seen.shape[1]
        )
    left, right = (Rows(networks, sorted(set(side))) for side in zip(*pairs, strict=True))
    meetings = MeetingCounts(num_blocks, left.count, right.count)
    pixels = [
        PixelCounts(num_blocks, strata.shape[1], *network.masks.shape[1:]) for network in networks
    ]
    for block in range(num_blocks):
        images = blocks == block
        part = left.masks(images)
        meetings.update(block, part, part if left.same_as(right) else right.masks(images))
        for per_pixel, network in zip(pixels, networks, strict=True):
            per_pixel.update(block, network.masks[images], network.seen[images], strata[images])
    met = meetings.compute().numpy()
    fired = [_by_stratum(per_pixel, strata) for per_pixel in pixels]
    every = _every(left.num_pixels)
    met_again = _meetings_of_repaired(left, right, orders, every)

    def cells(pair: tuple[int, int]) -> PairCells:
        i, j = pair
        if torch.equal(networks[i].seen, networks[j].seen):
            joint = [part.seen for part in fired[i]]
        else:
            joint = _jointly_seen(networks[i], networks[j], strata, blocks)
        whole, *by_label = zip(fired[i], fired[j], joint, strict=True)
        found = _found(networks[i])[:, None] & _found(networks[j])
        given = by_label if given_labels else None
        measures = _measures(_pair_counts(met, left, right, i, j), whole, given, every, found)
        chance = expected_intersection([thinned(whole, every)]).value
        repaired = _repaired(_pair_counts(met_again, left, right, i, j), chance)
        return PairCells(measures, {name: repaired[name] for name in measures})

    yield from in_threads(cells, pairs)


class Rows:
    """All masks of some networks, then what each of them saw, as rows of one matrix."""

    def __init__(self, networks: Sequence[Firing], chosen: Sequence[int]) -> None:
        self.networks = [networks[k] for k in chosen]
        self.chosen = list(chosen)
        sizes = [network.masks.shape[1] for network in self.networks]
        ends = np.cumsum(sizes).tolist()
        self.masks_of = {
            k: slice(end - size, end) for k, end, size in zip(chosen, ends, sizes, strict=True)
        }
        self.seen = {k: ends[-1] + place for place, k in enumerate(chosen)}
        self.count = ends[-1] + len(chosen)
        self.num_pixels = networks[0].seen.shape[1]

    def same_as(self, other: "Rows") -> bool:
        """Whether the rows are those of the same networks."""
        return self.chosen == other.chosen

    def masks(
        self, images: Tensor | slice, pixels: Tensor | slice = slice(None)
    ) -> Bool[Tensor, "images rows pixels"]:
        """The rows of some images."""
        masks = [network.masks[images][:, :, pixels] for network in self.networks]
        seen = [network.seen[images][:, None, pixels] for network in self.networks]
        return torch.cat(masks + seen, dim=1)


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


def _every(num_pixels: int) -> int:
    """Of how many pixels one is enough for chance alone: neighbours are alike on a fine grid."""
    return 5 if num_pixels >= MANY_PIXELS else 1


def _meetings_of_repaired(
    left: Rows, right: Rows, orders: Int[Tensor, "repairings images"], each: int
) -> Int[np.ndarray, "1+repairings left right"]:
    """How often rows meet rows of the same images, then of other images; zeros for no orders."""
    if not len(orders):
        return np.zeros((1, left.count, right.count), dtype=np.int64)
    counts = MeetingCounts(1 + len(orders), left.count, right.count)
    pixels = torch.from_numpy(some_pixels(left.num_pixels, each))
    masks = left.masks(slice(None), pixels)
    others = masks if left.same_as(right) else right.masks(slice(None), pixels)
    every = torch.arange(len(masks))
    for images in torch.split(every, 50):
        for index, order in enumerate([every, *orders]):
            counts.update(index, masks[images], others[order[images]])
    return counts.compute().numpy()


def _repaired(
    counts: "Counts", expected: Float[np.ndarray, "rows_a rows_b"]
) -> dict[str, Float[np.ndarray, "repairings rows_a rows_b"]]:
    """All measures of re-paired images; the first counts are those of the images as they are."""
    areas = counts[1][0]
    raw = _jaccard(*counts)[1:]
    adjusted = adjusted_jaccard(raw, expected, areas)
    # images that have nothing to do with each other do not share their labels either
    return {"jaccard": raw, "adjusted": adjusted, "label_conditional": adjusted}


Counts = tuple[
    Int[np.ndarray, "blocks rows_a rows_b"],
    Int[np.ndarray, "blocks rows_a rows_b"],
]


def _pair_counts(
    met: Int[np.ndarray, "blocks left right"], left: Rows, right: Rows, i: int, j: int
) -> Counts:
    """Intersections, and areas of both masks together, over pixels that both networks saw."""
    a, b = left.masks_of[i], right.masks_of[j]
    area_a, area_b = met[:, a, right.seen[j], None], met[:, None, left.seen[i], b]
    return met[:, a, b], area_a + area_b


def _jaccard(intersection: np.ndarray, areas: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return intersection / (areas - intersection)


def _measures(
    counts: Counts,
    whole: Stratum,
    by_label: Sequence[Stratum] | None,
    every: int,
    found: Bool[np.ndarray, "rows_a rows_b"],
) -> dict[str, Estimate]:
    """All measures of a pair."""
    intersection, areas = (Estimate.of_counts(part) for part in counts)
    jaccard = combined(_jaccard, intersection, areas)
    expected = expected_intersection([whole], every)
    measures = {
        "jaccard": jaccard,
        "adjusted": combined(adjusted_jaccard, jaccard, expected, areas),
    }
    if by_label is not None:
        given_labels = expected_intersection(by_label)
        measures["label_conditional"] = combined(adjusted_jaccard, jaccard, given_labels, areas)
    enough = found & _enough(counts[1] - counts[0])
    return {
        name: combined(lambda x: np.where(enough, x, np.nan), cells)
        for name, cells in measures.items()
    }


def _found(network: Firing) -> Bool[np.ndarray, " rows"]:
    rows = network.masks.shape[1]
    return np.ones(rows, dtype=bool) if network.found is None else network.found.numpy()


def _enough(
    union: Int[np.ndarray, "blocks rows_a rows_b"],
) -> Bool[np.ndarray, "rows_a rows_b"]:
    """Whether what fires is spread over enough blocks to say anything (Kish's effective number).

    Not asked of data with no more blocks than that.
    """
    with np.errstate(invalid="ignore"):
        effective = union.sum(axis=0) ** 2.0 / (union**2.0).sum(axis=0)
    return (effective >= FEWEST_BLOCKS) | (len(union) <= FEWEST_BLOCKS)


def _by_stratum(counts: PixelCounts, strata: Bool[Tensor, "images strata pixels"]) -> list[Fired]:
    """Counts over all pixels, then over the pixels of each stratum where it occurs."""
    fired, seen = counts.fired.numpy(), counts.seen.numpy()  # not compute(), which copies them
    parts = [Fired(*(part.sum(axis=1, dtype=np.int32) for part in (fired, seen)))]
    for index, occurs in enumerate(strata.any(dim=0).numpy()):
        where = slice(None) if occurs.all() else occurs
        parts.append(Fired(fired[:, index][..., where], seen[:, index][..., where]))
    return parts


def _jointly_seen(
    a: Firing, b: Firing, strata: Bool[Tensor, "images strata pixels"], blocks: Tensor
) -> list[Real[np.ndarray, "blocks _"]]:
    """In how many images of each block both networks saw each pixel, as in `_by_stratum`."""
    both = ((a.seen & b.seen)[:, None] & strata).int()
    joint = torch.zeros(int(blocks.max()) + 1, *strata.shape[1:], dtype=torch.int32)
    counts = joint.index_add_(0, blocks, both).numpy()
    occurring = strata.any(dim=0).numpy()
    parts = [counts[:, index][..., occurs] for index, occurs in enumerate(occurring)]
    return [counts.sum(axis=1), *parts]
