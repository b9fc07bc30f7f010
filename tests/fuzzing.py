"""Damages files, and what JSON says, in every way; and says what a reader makes of it."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cavalcade.errors import InputError

REFUSED = "refused in one sentence that names the file"
REFUSED_OR_READ = "refused in one sentence that names the file, or read as a whole"
DEEP = 100_000  # brackets
ODD = (  # in place of a value of JSON
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308),
    *(
        "",
        "a",
        "1",
        "../../etc/passwd",
        "/etc/passwd",
        "\x00",
        "a\nb",
        "\ud800",
        "\udcff",
        "x" * 9999,
    ),
    *([], [[]], [None], [1, 2], {}, {"": 0}, {"a": {"a": []}}),
)
AS_TEXT = (  # what json.dumps does not write
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "{", "]", "'a'", "\\", "\x00"),
    *("[" * DEEP, '{"a":' * DEEP, '{"a": 1, "a": 2}'),
)


def few(examples: int) -> Callable[[Any], Any]:
    """The same examples every time; a fixture may be shared by them."""
    return settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """A file that was cut short, flipped, overwritten, prolonged, or that is another."""
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    other = draw(st.binary(min_size=1, max_size=64))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes([content[place] ^ (other[0] or 1)]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + other + content[place + len(other) :]
    if kind == 3:
        return content[:place] + other + content[place:]
    if kind == 4:
        return content[place:]
    if kind == 5:
        return content[:place] + bytes(len(other)) + content[place + len(other) :]
    return other


def places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The way to each value within JSON."""
    yield above
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*above, key))


@st.composite
def changed(draw, value: Any) -> str:
    """JSON text in which one value is another, is gone, stands twice, or is no JSON."""
    value = copy.deepcopy(value)
    place = draw(st.sampled_from(list(places(value))))
    mark, kind = "changed here", draw(st.integers(0, 5))
    if not place:
        return json.dumps(draw(st.sampled_from(ODD)))
    *above, key = place
    holder = value
    for each in above:
        holder = holder[each]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 2:
        holder[key] = mark
        return json.dumps(value).replace(json.dumps(mark), draw(st.sampled_from(AS_TEXT)))
    elif kind == 3 and isinstance(holder, dict):
        holder[draw(st.sampled_from(["", "a", "\ud800", f"{key} "]))] = holder.pop(key)
    else:
        holder[key] = draw(st.sampled_from(ODD))
    return json.dumps(value)


def is_refused(read: Callable[[], Any], *names: str) -> bool:
    """Whether a reader refuses, in one sentence with one of the names; nothing else may happen."""
    try:
        read()
    except InputError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, said
        said.encode()  # no lone surrogate
        assert any(name in said for name in names), said
        assert len(said) < 1500, said
        return True
    return False
