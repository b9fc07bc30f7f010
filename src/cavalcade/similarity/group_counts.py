"""What is counted of many networks together: one pass over their bits, a block at a time.

What is held of each row is a count of one byte or a few for each pixel, block and stratum, and a
bit for each image and each pixel of which re-paired images are judged, on a fine grid a fifth of
all. The bits alone grow with the images. How many networks are counted together is up to the
caller; the bits of strata, and `IMAGES` images of all rows on each core, come on top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Int, Integer, UInt8

from cavalcade.errors import InputError
from cavalcade.similarity.chance import MOST_IMAGES, Rectangle, some_pixels
from cavalcade.similarity.counts import count_type, images_at_pixels, meetings, only_some_pixels
from cavalcade.similarity.firing import Fires
from cavalcade.similarity.threads import in_threads

STRIP = 40  # rows of networks that are counted together with all their partners
IMAGES = 64  # read at a time
MANY_PIXELS = 1000

Pairs = Sequence[tuple[int, int]]
Strata = UInt8[np.ndarray, "images strata bytes"]


class Group:
    """Some networks whose rows lie one after the other, and which pairs of them are asked for.

    Attributes:
        networks: those that are in any pair, in order.
        place: of a network among them, by its position.
        rows: where the rows of each network lie, by its place.
        views: networks that saw the same pixels have the same number.
        viewer: the place of one network for each view.
        strips: rows and columns that hold all pairs.
    """

    def __init__(self, networks: Sequence[Fires], pairs: Pairs, num_images: int) -> None:
        chosen = sorted({position for pair in pairs for position in pair})
        self.networks = [networks[position] for position in chosen]
        self.place = {position: place for place, position in enumerate(chosen)}
        ends = np.cumsum([network.num_rows for network in self.networks]).tolist()
        self.rows = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.num_rows, self.num_pixels = ends[-1], self.networks[0].num_pixels
        seen = [_digest(network, num_images) for network in self.networks]
        first = list(dict.fromkeys(seen))
        self.views = [first.index(each) for each in seen]
        self.viewer = [self.views.index(view) for view in range(len(first))]
        self.strips = self._strips([(self.place[i], self.place[j]) for i, j in pairs])

    def _strips(self, pairs: Pairs) -> list[Rectangle]:
        """Neighbours among the first of the pairs, with the range of their partners."""
        partners: dict[int, set[int]] = {}
        for i, j in pairs:
            partners.setdefault(i, set()).add(j)
        strips: list[tuple[list[int], set[int]]] = []
        for i, own in sorted(partners.items()):
            if strips and strips[-1][0][-1] == i - 1 and self._height([*strips[-1][0], i]) <= STRIP:
                strips[-1][0].append(i)
                strips[-1][1].update(own)
            else:
                strips.append(([i], set(own)))
        return [
            (slice(self.rows[i[0]].start, self.rows[i[-1]].stop),
             slice(self.rows[min(j)].start, self.rows[max(j)].stop))
            for i, j in strips
        ]  # fmt: skip

    def _height(self, places: Sequence[int]) -> int:
        return self.rows[places[-1]].stop - self.rows[places[0]].start

    def view_of_rows(self) -> Int[np.ndarray, " rows"]:
        """The view of each row's network."""
        heights = [rows.stop - rows.start for rows in self.rows]
        return np.repeat(np.array(self.views), heights)


@dataclass(frozen=True)
class Meetings:
    """How often the rows of a strip meet, and the areas that meet what the other network saw.

    Counts are of blocks, or of orders of images.

    Attributes:
        met: by strip; rows and columns.
        first: rows of the first networks with the views of the second.
        second: the other way round.
    """

    met: list[Integer[np.ndarray, "counts _ _"]]
    first: Int[np.ndarray, "counts all_rows views"]
    second: Int[np.ndarray, "counts all_rows views"]

    @classmethod
    def none(cls, group: Group, counts: int, most: int, *, alike: bool) -> "Meetings":
        """Zeros, for counts up to `most`; `alike` where rows and views are of the same images."""
        sizes = [(rows.stop - rows.start, cols.stop - cols.start) for rows, cols in group.strips]
        first, second = (
            np.zeros((counts, group.num_rows, len(group.viewer)), dtype=np.int64) for _ in "ab"
        )
        met = [np.zeros((counts, *size), dtype=count_type(most)) for size in sizes]
        return cls(met, first, first if alike else second)


@dataclass(frozen=True)
class GroupCounts:
    """All counts of a group.

    Attributes:
        blocks: meetings per block of images.
        fired: images of each block in which each row holds each pixel; within each stratum.
        seen: the same of each view.
        repaired: meetings of the images as they are, which are areas alone, then of re-paired
            ones, on one of `every` pixels.
        every: see `some_pixels`.
    """

    blocks: Meetings
    fired: Integer[np.ndarray, "strata pixels blocks rows"]
    seen: Integer[np.ndarray, "strata pixels blocks views"]
    repaired: Meetings
    every: int


def judged_by(num_pixels: int) -> int:
    """Re-paired images are judged by one of so many pixels: neighbours are alike on a fine grid."""
    return 5 if num_pixels >= MANY_PIXELS else 1


def bits_of_row(num_pixels: int, images: int) -> int:
    """Bytes that are held of a row to re-pair so many images."""
    return images * -(-num_pixels // (8 * judged_by(num_pixels)))


def count_group(
    group: Group,
    strata: Strata,
    blocks: Int[np.ndarray, " images"],
    orders: Int[np.ndarray, "repairings images"],
) -> GroupCounts:
    """Count a group; blocks of images, and orders of them, are shared among cores.

    Raises:
        InputError: if there are more images than chance can be told of.
    """
    if len(blocks) > MOST_IMAGES:
        raise InputError(
            f"{len(blocks)} test images are more than the {MOST_IMAGES} that can be compared; make "
            "the runs again with fewer, by data.test_images="
        )
    num_blocks = int(blocks.max()) + 1
    every = judged_by(group.num_pixels)
    some = some_pixels(group.num_pixels, every)
    largest = int(np.bincount(blocks).max())
    shape = strata.shape[1], group.num_pixels, num_blocks
    fired = np.zeros((*shape, group.num_rows), dtype=count_type(largest))
    seen = np.zeros((*shape, len(group.viewer)), dtype=count_type(largest))
    met = Meetings.none(group, num_blocks, largest * group.num_pixels, alike=True)
    few = [np.empty((n, len(blocks) if len(orders) else 0, -(-len(some) // 8)), dtype=np.uint8)
           for n in (group.num_rows, len(group.viewer))]  # fmt: skip

    def count(block: int) -> None:
        for images in parts(np.flatnonzero(blocks == block)):
            views = np.stack([group.networks[k].seen_bits(images) for k in group.viewer])
            masks = np.empty((group.num_rows, *views.shape[1:]), dtype=np.uint8)
            for network, rows in zip(group.networks, group.rows, strict=True):
                masks[rows] = own = network.mask_bits(images)
                for s, stratum in enumerate(strata[images].transpose(1, 0, 2)):
                    fired[s, :, block, rows] += images_at_pixels(own & stratum, group.num_pixels).T
            for s, stratum in enumerate(strata[images].transpose(1, 0, 2)):
                seen[s, :, block] += images_at_pixels(views & stratum, group.num_pixels).T
            _add(met, block, group, (masks, views), (masks, views))
            if len(orders):
                for kept, bits in zip(few, (masks, views), strict=True):
                    kept[:, images] = only_some_pixels(bits, some)

    for _ in in_threads(count, range(num_blocks)):
        pass
    return GroupCounts(met, fired, seen, _repaired(group, few, orders), every)


def _repaired(
    group: Group,
    few: Sequence[UInt8[np.ndarray, "_ _ bytes"]],
    orders: Int[np.ndarray, "repairings images"],
) -> Meetings:
    """Areas of the images as they are, then meetings with those that they are re-paired with."""
    most = few[0].shape[1] * few[0].shape[2] * 8
    met = Meetings.none(group, 1 + len(orders) if len(orders) else 0, most, alike=False)

    def count(number: int) -> None:
        for images in parts(np.arange(few[0].shape[1])):
            others = orders[number - 1][images] if number else images
            one, other = ([bits[:, which] for bits in few] for which in (images, others))
            _add(met, number, group, one, other, areas_alone=number == 0)

    for _ in in_threads(count, range(len(met.first))):
        pass
    return met


def _add(
    to: Meetings,
    place: int,
    group: Group,
    one: Sequence[UInt8[np.ndarray, "_ _ bytes"]],
    other: Sequence[UInt8[np.ndarray, "_ _ bytes"]],
    *,
    areas_alone: bool = False,
) -> None:
    """Add the meetings of some images with others."""
    (masks, views), (masks_2, views_2) = ([x.reshape(len(x), -1) for x in y] for y in (one, other))
    to.first[place] += meetings(masks, views_2)
    if to.second is not to.first:
        to.second[place] += meetings(masks_2, views)
    for met, (rows, columns) in zip(to.met, group.strips, strict=True):
        if not areas_alone:
            met[place] += meetings(masks[rows], masks_2[columns]).astype(met.dtype)


def parts(images: Int[np.ndarray, " images"]) -> Iterator[Int[np.ndarray, " some"]]:
    """A few images at a time."""
    for first in range(0, len(images), IMAGES):
        yield images[first : first + IMAGES]


def _digest(network: Fires, num_images: int) -> bytes:
    """Of the pixels that a network saw."""
    found = blake2b()
    for images in parts(np.arange(num_images)):
        found.update(network.seen_bits(images).data)
    return found.digest()
