"""Which pairs are counted together: as many as fit in memory, of as few networks as possible."""

import logging
from collections.abc import Iterable
from functools import cache
from math import isqrt

log = logging.getLogger(__name__)

MOST_BYTES = 2**30  # of the numbers of all pairs of a chunk, held until they are stored
MOST_NETWORK_BYTES = 2**31  # of the masks or features of all networks of a chunk
GIGABYTE = 1e9

Key = tuple[int, int]


def warn_of_memory(what: str, num_bytes: int, layers: int, images: int, instead: str) -> None:
    """Say what a pair of networks takes where that alone is more than a chunk should.

    Args:
        what: is compared.
        num_bytes: of one network.
        layers: of a network, at most.
        images: of the test split.
        instead: a setting without which it takes nothing.
    """
    if 2 * num_bytes > MOST_NETWORK_BYTES:
        _warn_once(
            f"comparing {what} of two networks of {layers} layers on {images} test images takes "
            f"some {2 * num_bytes / GIGABYTE:.1f} GB of memory; runs of fewer images take less "
            f"(data.test_images=), {instead} none of it"
        )


@cache
def _warn_once(sentence: str) -> None:
    """Once in a process: several measures, and all chunks, take the same."""
    log.warning(sentence)


def rectangles(missing: Iterable[Key], most_pairs: int, most_networks: int) -> list[list[Key]]:
    """Missing pairs cut into rectangles of rows and columns, since their networks are shared.

    Pairs of a network that is new, and so has none with itself, lie in its column and row:
    those are cut apart from the rest, so that one network more is one or two long rectangles.

    >>> rectangles([(0, 0), (0, 1), (1, 1)], most_pairs=9, most_networks=6)
    [[(0, 0), (0, 1), (1, 1)]]
    >>> rectangles([(0, 1), (1, 1), (1, 2), (1, 3)], most_pairs=9, most_networks=6)
    [[(0, 1), (1, 1)], [(1, 2), (1, 3)]]
    """
    missing = sorted(set(missing))
    new = {i for i, j in missing if i == j}
    parts: dict[tuple[bool, bool], list[Key]] = {}
    for i, j in missing:
        parts.setdefault((j in new, j not in new and i in new), []).append((i, j))
    return [
        tile for part in parts.values() for tile in _tiles(part, most_pairs, max(2, most_networks))
    ]


def _tiles(pairs: list[Key], most_pairs: int, most_networks: int) -> list[list[Key]]:
    """Squares of the rows and columns of some pairs, or longer ones where either are few."""
    rows, columns = (sorted(set(side)) for side in zip(*pairs, strict=True))
    side = max(1, min(isqrt(most_pairs), most_networks // 2))
    short = min(side, len(rows), len(columns))
    room = max(1, min(most_pairs // short, most_networks - short))
    long = side if short == side else room
    height, width = (short if len(part) <= short else long for part in (rows, columns))
    row, column = ({k: place for place, k in enumerate(part)} for part in (rows, columns))
    tiles: dict[Key, list[Key]] = {}
    for i, j in pairs:
        place = (row[i] // height, column[j] // width)
        tiles.setdefault(place, []).append((i, j))
    return list(tiles.values())
