"""Expected intersections of all pairs of a group, those of networks that saw the same together."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Integer

from cavalcade.similarity.chance import (
    Fired,
    Rectangle,
    Run,
    Stratum,
    expected_intersection,
    expected_with_some_pixels,
)
from cavalcade.similarity.counts import images_at_pixels
from cavalcade.similarity.estimates import Estimate, combined
from cavalcade.similarity.group_counts import Group, GroupCounts, Strata, parts
from cavalcade.similarity.threads import in_threads

Rows = Int[np.ndarray, " _"]
Views = tuple[int, int]


@dataclass(frozen=True)
class Chance:
    """Expected intersections, of rows from the first of all strips on, and columns alike.

    Attributes:
        corner: the row and the column that are first.
        nulls: by measure.
        some_pixels: of those pixels alone that re-paired images are judged by.
    """

    corner: tuple[int, int]
    nulls: dict[str, Estimate]
    some_pixels: Float[np.ndarray, "rows columns"]

    def of_strip(self, strip: Rectangle) -> dict[str, Estimate]:
        """The nulls of a strip of rows and columns."""
        rows, columns = self._inside(strip)
        return {
            name: combined(lambda x: x[..., rows, columns], null)
            for name, null in self.nulls.items()
        }

    def of_some_pixels(self, strip: Rectangle) -> Float[np.ndarray, "rows columns"]:
        """The same of some pixels."""
        return self.some_pixels[self._inside(strip)]

    def _inside(self, strip: Rectangle) -> Rectangle:
        rows, columns = (
            slice(side.start - first, side.stop - first)
            for side, first in zip(strip, self.corner, strict=True)
        )
        return rows, columns


def chance_of_group(
    group: Group,
    counts: GroupCounts,
    strata: Strata,
    blocks: Int[np.ndarray, " images"],
    *,
    given_labels: bool,
) -> Chance:
    """Both nulls of all pairs: `adjusted`, and, given labels, `label_conditional`."""
    work = _Work(group, counts, strata, blocks)
    sides = [
        np.arange(min(part.start for part in side), max(part.stop for part in side))
        for side in zip(*group.strips, strict=True)
    ]
    shape = len(sides[0]), len(sides[1])
    names = ["adjusted", "label_conditional"][: 1 + given_labels]
    nulls = {name: np.zeros((2 + int(blocks.max()), *shape)) for name in names}
    some = np.zeros(shape)
    tasks = list(_tasks(group, sides))
    alone = len(tasks) == 1  # its products are shared among cores, else the tasks are
    run: Run = in_threads if alone else map
    found = (map if alone else in_threads)(partial(work.expected, given_labels, run), tasks)
    for (rows, columns, *_), (estimates, of_some) in zip(tasks, found, strict=True):
        where = np.ix_(rows - sides[0][0], columns - sides[1][0])
        some[where] = of_some
        for name, estimate in zip(names, estimates, strict=True):
            for null, part in zip(nulls[name], (estimate.value, *estimate.without), strict=True):
                null[where] = part
    by_measure = {name: Estimate(null[0], null[1:]) for name, null in nulls.items()}
    return Chance((int(sides[0][0]), int(sides[1][0])), by_measure, some)


Task = tuple[Rows, Rows, Views, list[Rectangle]]


def _tasks(group: Group, sides: list[Rows]) -> Iterator[Task]:
    """Rows and columns of every two views, with what is asked for of them."""
    view = group.view_of_rows()
    for views in itertools.product(range(len(group.viewer)), repeat=2):
        rows, columns = (side[view[side] == v] for side, v in zip(sides, views, strict=True))
        wanted = [
            (_positions(rows, strip[0]), _positions(columns, strip[1])) for strip in group.strips
        ]
        wanted = [(a, b) for a, b in wanted if a.start < a.stop and b.start < b.stop]
        if wanted:
            yield rows, columns, (views[0], views[1]), wanted


def _positions(chosen: Rows, part: slice) -> slice:
    """Where rows of a part of all lie among those chosen."""
    first, last = np.searchsorted(chosen, [part.start, part.stop]).tolist()
    return slice(first, last)


class _Work:
    """What is common to all pairs of a group."""

    def __init__(
        self, group: Group, counts: GroupCounts, strata: Strata, blocks: Int[np.ndarray, " images"]
    ) -> None:
        self.group, self.counts, self.strata, self.blocks = group, counts, strata, blocks
        anywhere = np.unpackbits(
            np.bitwise_or.reduce(strata, axis=0), axis=-1, count=group.num_pixels
        )
        self.occurs = [np.flatnonzero(part) for part in anywhere]
        self.whole = _sum(counts.fired)

    def expected(
        self, given_labels: bool, run: Run, task: Task
    ) -> tuple[list[Estimate], Float[np.ndarray, "rows columns"]]:
        """The nulls of rows and columns, and the first of some pixels alone."""
        rows, columns, views, wanted = task
        joint, seen = self._jointly_seen(*views), self.counts.seen
        every, whole_seen = self.counts.every, _sum(seen)
        one, other = (
            Fired(self.whole[..., side].transpose(1, 2, 0), whole_seen[..., view].T)
            for side, view in zip((rows, columns), views, strict=True)
        )
        whole = (one, other, _sum(joint).T)
        adjusted, some = expected_with_some_pixels(whole, every, wanted, run)
        if not given_labels:
            return [adjusted], some
        by_label = (self._stratum(s, task, joint[s]) for s in range(len(joint)))
        return [adjusted, expected_intersection(list(by_label), 1, wanted, run)], some

    def _stratum(
        self, index: int, task: Task, joint: Integer[np.ndarray, "pixels blocks"]
    ) -> Stratum:
        """The counts of one stratum where it occurs."""
        where = self.occurs[index]
        fired, seen = self.counts.fired[index], self.counts.seen[index]
        one, other = (
            Fired(fired[where][..., side].transpose(1, 2, 0), seen[where, :, view].T)
            for side, view in zip(task[:2], task[2], strict=True)
        )
        return one, other, joint[where].T

    def _jointly_seen(self, a: int, b: int) -> Integer[np.ndarray, "strata pixels blocks"]:
        """In how many images of each block both views have each pixel."""
        if a == b:
            return self.counts.seen[..., a]
        one, other = (self.group.networks[self.group.viewer[view]] for view in (a, b))
        joint = np.zeros_like(self.counts.seen[..., a])
        for block in range(joint.shape[2]):
            for images in parts(np.flatnonzero(self.blocks == block)):
                both = (one.seen_bits(images) & other.seen_bits(images))[None]
                found = both & self.strata[images].transpose(1, 0, 2)
                joint[..., block] += images_at_pixels(found, joint.shape[1])
        return joint


def _sum(counts: Integer[np.ndarray, "strata *counts"]) -> Integer[np.ndarray, "*counts"]:
    """All strata together: no pixel of an image is in two."""
    return counts[0] if len(counts) == 1 else counts.sum(axis=0, dtype=counts.dtype)
