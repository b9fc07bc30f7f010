"""Values to sweep over from a file: backbone.name=@names.txt."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from cavalcade.errors import InputError

FROM_FILE = re.compile(r"(?P<key>[^=@]+(?:@[^=]+)?)=@(?P<path>.+)")


def with_values(arguments: Sequence[str]) -> list[str]:
    """Arguments of Hydra in which every key=@file has become a sweep over its lines.

    Raises:
        InputError: for a file that is missing or holds no value.
    """
    found = [(argument, FROM_FILE.fullmatch(argument)) for argument in arguments]
    return [
        f"{match['key']}={','.join(map(_written, _values(match['key'], match['path'])))}"
        if match
        else argument
        for argument, match in found
    ]


def check_no_files(arguments: Sequence[str]) -> None:
    """Raise if a file of values was given without a sweep.

    Raises:
        InputError: naming the key.
    """
    for match in filter(None, map(FROM_FILE.fullmatch, arguments)):
        raise InputError(
            f"{match['key']}=@{match['path']} names values to sweep over; add -m to the command"
        )


def _values(key: str, path: str) -> list[str]:
    path = path.strip("'\"")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{key}=@{path} cannot be read ({error}); give a text file with a value on each line"
        ) from error
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    values = [line for line in lines if line]
    if not values:
        raise InputError(f"{key}=@{path} holds no value; write one on each line")
    return values


def _written(value: str) -> str:
    """A value as Hydra reads it: as it stands if that means the same, else in quotes.

    >>> [_written(value) for value in ("vit_small_patch14_dinov2.lvd142m", "a, b", "3")]
    ['vit_small_patch14_dinov2.lvd142m', "'a, b'", '3']
    """
    override = _parsed(f"key={value}")
    if override is not None and not override.is_sweep_override():
        own = override.value()
        if not isinstance(own, str) or own == value:
            return value
    return QuotedString(value, Quote.single).with_quotes()


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
