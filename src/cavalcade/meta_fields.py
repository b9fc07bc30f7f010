"""JSON files that anybody may have written: each field is given only if it is what it must be."""

import json
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cavalcade.errors import InputError, shown
from cavalcade.file_bytes import read_bytes

MOST_BYTES = 100_000_000  # of a file, as the library allows a header of safetensors
DEEPEST = 30  # lists and objects within each other
MOST = 2**31 - 1
MOST_SEED = 2**63 - 1
LONGEST_NAME = 110  # bytes of what is made: a picture is called after two networks
LONGEST_FOLDER = 255  # bytes of what is read, as most file systems have it
LONGEST_WORD = 1000  # characters
WAY_OUT = "move the folder away and make it again, or get it anew from where it came"


def read_json(path: Path) -> Any:  # noqa: ANN401
    """What a JSON file holds.

    Raises:
        FileNotFoundError: if there is none.
        InputError: if it is no file, too large, nested too deeply, or no JSON in UTF-8.
    """
    try:
        return parsed(read_bytes(path, MOST_BYTES))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); {WAY_OUT}") from error


def parsed(content: str | bytes) -> Any:  # noqa: ANN401
    """What a JSON text says.

    Raises:
        ValueError: if it is none, is nested too deeply, or holds what UTF-8 does not know.
        RecursionError: if it is nested far too deeply.
    """
    found = json.loads(content)
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate cannot be written anywhere
    level = [found]
    for _ in range(DEEPEST):
        level = [each for outer in level for each in _within(outer)]
    if level:
        raise ValueError(f"it is nested deeper than {DEEPEST}")
    return found


def _within(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def lies_within(folder: Path, name: str) -> bool:
    """Whether a file that somebody names is one of a folder, also where links lead."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name or ".." in parts or name.startswith("/"):
        return False
    home = os.path.realpath(folder)
    return os.path.realpath(folder / name).startswith(home.rstrip(os.sep) + os.sep)


def is_plain_name(name: str, most: int = LONGEST_FOLDER) -> bool:
    """Whether a folder can be called so, in at most so many bytes."""
    short = 0 < len(name.encode(errors="replace")) <= most
    return short and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")


class Fields:
    """The fields of a JSON object in a file.

    All methods raise an InputError that names the file and the field, where it is missing or
    something else.
    """

    def __init__(self, content: object, path: Path, within: str = "") -> None:
        """Look at an object.

        Args:
            content: what JSON has given.
            path: of the file.
            within: the fields that lead to the object.
        """
        self.path, self.within = path, within
        if not isinstance(content, dict):
            raise InputError(f"{path}: {within or 'it'} is no object with fields; {WAY_OUT}")
        self.content = content

    def wrong(self, name: str, wanted: str) -> InputError:
        """The error for a field that is something else than was wanted."""
        found = reprlib.repr(self.content[name])
        return InputError(f"{self.path}: {self._called(name)} is {found}, not {wanted}; {WAY_OUT}")

    def text(self, name: str) -> str:
        """A text."""
        value = self._value(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def plain_name(self, name: str) -> str:
        """What a folder can be called."""
        value = self.text(name)
        if not is_plain_name(value):
            wanted = f"a plain name without slashes, of at most {LONGEST_FOLDER} bytes"
            raise self.wrong(name, wanted)
        return value

    def word(self, name: str) -> str:
        """A short text without control characters, such as a digest or the name of a module."""
        value = self.text(name)
        if not 0 < len(value) <= LONGEST_WORD or not value.isprintable():
            raise self.wrong(name, "a word")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, least: int, most: int = MOST) -> int:
        """A whole number within some bounds."""
        (value,) = self._wholes(name, [self._value(name)], "a whole number", least, most)
        return value

    def wholes(self, name: str, least: int) -> tuple[int, ...]:
        """Whole numbers from `least` up."""
        return self._wholes(name, self._list(name), "whole numbers", least)

    def size(self, name: str) -> tuple[int, int]:
        """A height and a width."""
        value = self.wholes(name, 1)
        if len(value) != 2:
            raise self.wrong(name, "a height and a width")
        return value[0], value[1]

    def number(self, name: str, least: float, most: float) -> float:
        """A finite number within some bounds."""
        value = self._value(name)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not least <= value <= most:  # NaN is nowhere
            raise self.wrong(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def texts(self, name: str, *, distinct: bool = False) -> tuple[str, ...]:
        """Texts, of which none may be there twice if they are `distinct`."""
        value = self._list(name)
        if not all(isinstance(each, str) for each in value):
            raise self.wrong(name, "a list of texts")
        if distinct and len(set(value)) < len(value):
            raise self.wrong(name, "a list in which each is named once")
        return tuple(value)

    def fields(self, name: str) -> "Fields":
        """An object."""
        return Fields(self._value(name), self.path, self._called(name))

    def each(self, name: str) -> list["Fields"]:
        """A list of objects."""
        return [
            Fields(each, self.path, f"{self._called(name)}[{place}]")
            for place, each in enumerate(self._list(name))
        ]

    def _wholes(
        self, name: str, values: Sequence[object], wanted: str, least: int, most: int = MOST
    ) -> tuple[int, ...]:
        found = [n for n in values if isinstance(n, int) and not isinstance(n, bool)]
        if len(found) < len(values) or not all(least <= n <= most for n in found):
            raise self.wrong(name, f"{wanted} from {least} to {most}")
        return tuple(found)

    def _list(self, name: str) -> list[Any]:
        value = self._value(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def _value(self, name: str) -> Any:  # noqa: ANN401
        if name not in self.content:
            raise InputError(f"{self.path} has no {self._called(name)}; {WAY_OUT}")
        return self.content[name]

    def _called(self, name: str) -> str:
        name = shown(name)
        return f"{self.within}.{name}" if self.within else name
