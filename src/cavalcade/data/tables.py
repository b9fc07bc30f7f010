"""Text files that say what a data set holds: JSON, lines and CSV, read as they must be."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cavalcade.data.names import brief
from cavalcade.errors import InputError
from cavalcade.file_bytes import read_bytes

MOST_DIGITS = 18  # of a number in a text, far above any that means something


def read_lines(path: Path, way_out: str) -> list[str]:
    """The lines of a text, those at its end that are empty left out.

    Raises:
        InputError: if it is missing or cannot be read; `way_out` says what to do.
    """
    try:
        return read_bytes(path).decode("utf-8-sig").rstrip().splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {way_out}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {way_out}") from error


def read_json_list(path: Path, *, missing: str, damaged: str) -> Any:  # noqa: ANN401
    """The contents of a JSON file, in which no key stands twice and every number is finite.

    It may be of any size: COCO's list of training images has 450 MB.

    Raises:
        InputError: if it is `missing` or `damaged`, which say what to do then.
    """
    try:
        return json.loads(
            read_bytes(path),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {missing}") from error
    except RecursionError as error:
        raise InputError(
            f"{path} cannot be read as JSON (it is nested too deeply); {damaged}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {damaged}") from error


def read_rows(
    path: Path, columns: Sequence[str], missing: str, where: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and some fields, in the order asked for, of each row of a CSV.

    Args:
        path: of the file.
        columns: that the first line must name, among others.
        missing: what to do if there is no such file.
        where: what it is called in messages; its path by default.

    Raises:
        InputError: if it cannot be read, lacks a column or names one twice, or a row has another
            number of fields than the first line.
    """
    where = where or str(path)
    try:
        text = read_bytes(path).decode("utf-8-sig")  # Excel writes a byte order mark
        # strict: a quote that is never closed would swallow the rest of the file
        table = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(table, [])
        for name in columns:
            if header.count(name) != 1:
                found = "lacks the column" if name not in header else "has twice the column"
                raise InputError(
                    f"{where} {found} {name}; its first line must name the columns, with "
                    f"{', '.join(columns)}"
                )
        places = [header.index(name) for name in columns]
        for row in table:
            if row and len(row) != len(header):
                raise InputError(
                    f"{where}, line {table.line_num} has another number of fields than the first "
                    "line; correct it"
                )
            if row:
                yield table.line_num, [row[place] for place in places]
    except FileNotFoundError as error:
        raise InputError(f"{where} is missing; {missing}") from error
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{where} cannot be read ({error}); mend it") from error


def whole_number(text: str) -> int | None:
    """The whole number from 0 up that a text is, if it is one of at most 18 digits.

    >>> whole_number("007"), whole_number("-1"), whole_number("9" * 5000)
    (7, None, None)
    """
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = (Counter(key for key, _ in pairs) - Counter([*found])).items()
        raise ValueError(f"an object has the key {brief(twice)} twice")
    return found


def _finite(text: str) -> float:
    """A number of JSON, which may be written larger than any."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{brief(text)} is larger than a number can be")
    return value


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")
