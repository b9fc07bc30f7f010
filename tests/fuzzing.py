"""Damages files, and what JSON says, in every way; and says what a reader makes of it.

Everything is drawn by `random.Random`, so that the same is tried every time, whatever the release
of anything.
"""

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import cycle
from operator import getitem
from pathlib import Path
from random import Random
from typing import Any

from cavalcade.errors import InputError

DEEP = 100_000  # brackets
ODD = (  # in place of a value of JSON
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308),
    *("", "a", "1", "../../etc/passwd", "/etc/passwd", "\x00", "a\nb", "\ud800", "\udcff"),
    *("x" * 9999, [], [[]], [None], [1, 2], {}, {"": 0}, {"a": {"a": []}}),
)
AS_TEXT = (  # what json.dumps does not write
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "{", "]", "'a'", "\\", "\x00"),
    *("[" * DEEP, '{"a":' * DEEP, '{"a": 1, "a": 2}'),
)
HARMS: dict[str, Callable[[bytes, int, bytes], bytes]] = {  # content, a place in it, other bytes
    "cut short": lambda content, place, _: content[:place],
    "emptied": lambda *_: b"",
    "a byte changed": lambda content, place, other: (
        content[:place] + bytes([content[place] ^ (other[0] or 1)]) + content[place + 1 :]
    ),
    "overwritten": lambda content, place, other: (
        content[:place] + other + content[place + len(other) :]
    ),
    "zeros": lambda content, place, other: (
        content[:place] + bytes(len(other)) + content[place + len(other) :]
    ),
    "longer": lambda content, place, other: content[:place] + other + content[place:],
    "longer at its end": lambda content, _, other: content + other,
    "without its beginning": lambda content, place, _: content[place:],
    "another": lambda _content, _place, other: other,
}


def harmed(content: bytes, harm: str, drawn: Random) -> bytes:
    """A file after it was spoilt; it is another than before."""
    while True:
        place = drawn.randrange(len(content))
        bad = HARMS[harm](content, place, drawn.randbytes(drawn.randint(1, 64)))
        if bad != content:
            return bad


def damages(content: bytes, times: int) -> Iterator[bytes]:
    """The file, spoilt in each way in turn: so many files that all differ."""
    drawn, seen = Random(times), {content}
    for harm in cycle(HARMS):
        bad = harmed(content, harm, drawn)
        if bad not in seen:
            seen.add(bad)
            yield bad
        if len(seen) > times:
            return


def cuts(content: bytes, count: int = 100) -> Iterator[bytes]:
    """The file without its end, from nothing to all but the last byte; if it is short, fewer."""
    for length in sorted({k * (len(content) - 1) // (count - 1) for k in range(count)}):
        yield content[:length]


def places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The way to each value within JSON."""
    yield above
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*above, key))


def found_at(value: Any, place: Iterable[str | int]) -> Any:
    """What is at a place within JSON."""
    return reduce(getitem, place, value)


def changes(value: Any, times: int) -> Iterator[str]:
    """JSON text in which one value is another, is gone, stands twice, or is no JSON."""
    drawn, every, seen = Random(times), list(places(value)), {json.dumps(value)}
    while len(seen) <= times:
        text = changed(value, drawn.choice(every), drawn)
        if text not in seen:
            seen.add(text)
            yield text


def changed(value: Any, place: tuple, drawn: Random) -> str:
    """JSON text with something else at a place."""
    value = copy.deepcopy(value)
    if not place:
        return json.dumps(drawn.choice(ODD))
    *above, key = place
    holder = found_at(value, above)
    kind, mark = drawn.randint(0, 5), "changed here"
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 2:
        holder[key] = mark
        return json.dumps(value).replace(json.dumps(mark), drawn.choice(AS_TEXT))
    elif kind == 3 and isinstance(holder, dict):
        holder[drawn.choice(["", "a", "\ud800", f"{key} "])] = holder.pop(key)
    else:
        holder[key] = drawn.choice(ODD)
    return json.dumps(value)


def brief(value: object) -> str:
    """A name of what a test tries, the same in every release of pytest, however long it is."""
    return ascii(value)[:20]


def refusal(read: Callable[[], Any], first: Path, *paths: Path | str) -> str | None:
    """The sentence with which a reader refuses; None if it does not. All else is a bug.

    It names one of the paths, or the folder of the first, and says the way out.
    """
    try:
        read()
    except InputError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, said
        said.encode()  # no lone surrogate
        assert len(said) < 1500, said[:3000]
        assert any(str(path) in said for path in (first, first.parent, *paths)), said
        assert re.search(r"; [a-z]| must ", said), f"no way out: {said}"
        return said
    return None


def is_refused(read: Callable[[], Any], *paths: Path | str) -> bool:
    """Whether a reader refuses, in such a sentence."""
    return refusal(read, *paths) is not None


class Trap:
    """Writes a file when unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)
