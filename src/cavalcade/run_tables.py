"""Tables of run folders, checked as they are read: a row for each thing, numbers that are some."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cavalcade.errors import InputError
from cavalcade.meta_fields import WAY_OUT
from cavalcade.table_files import NAMES, read_table

DEPTH_DIGITS = 1e-5  # tables have six digits


@dataclass(frozen=True)
class Expected:
    """What a table must hold.

    Attributes:
        keys: columns that say what a row is about, `depth` among them.
        shares: columns of numbers from 0 to 1, or missing.
        numbers: columns of other numbers that are finite or missing.
        texts: columns of text, which may be missing.
        flags: columns of true and false.
        places: the keys of all rows, in their order.
    """

    keys: tuple[str, ...]
    shares: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    places: Sequence[tuple[object, ...]] = ()

    def rows(self, places: Sequence[tuple[object, ...]]) -> "Expected":
        """The same of some rows."""
        return replace(self, places=places)


PLACE = ("layer", "depth", "concept")
SCORED = Expected(
    keys=(*PLACE, "split"),
    shares=("jaccard", "jaccard_per_image", "area_with", "area_without"),
    numbers=("area_ratio",),
)
MINED = Expected(keys=PLACE, shares=("area",), numbers=("reproducibility", "relative_error"))
NAMED = Expected(
    keys=PLACE,
    shares=("jaccard", "sure", "area_with", "area_without"),
    numbers=("adjusted", "stderr", "second_adjusted"),
    texts=("label", "second"),
    flags=("named",),
)


def read_expected(path: Path, expected: Expected) -> pd.DataFrame:
    """Read a table of which is known what it must hold; at most one row more is read.

    Raises:
        InputError: naming the file and the column that is not as it must be.
    """
    table = read_table(path, rows=len(expected.places) + 1)
    numbers = (*expected.shares, *expected.numbers)
    wanted = (*expected.keys, *numbers, *expected.texts, *expected.flags)
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}; {WAY_OUT}")
    for column in (name for name in table.columns if name not in NAMES):
        kind, flag = table[column].dtype, column in expected.flags
        if pd.api.types.is_bool_dtype(kind) != flag or not pd.api.types.is_numeric_dtype(kind):
            what = "true and false" if flag else "numbers"
            raise InputError(f"{path}: {column} holds something else than {what}; {WAY_OUT}")
    for column in numbers:
        values = table[column].to_numpy(dtype=float)
        if np.isinf(values).any():
            raise InputError(f"{path}: {column} is infinite somewhere; {WAY_OUT}")
        if column in expected.shares and ((values < 0) | (values > 1)).any():
            raise InputError(f"{path}: {column} is not from 0 to 1 everywhere; {WAY_OUT}")
    if not _are_about(table, expected):
        raise InputError(
            f"{path} has other rows than one for each {', '.join(expected.keys)}; {WAY_OUT}"
        )
    return table


def _are_about(table: pd.DataFrame, expected: Expected) -> bool:
    """Whether rows are those that are expected, in their order."""
    if len(table) != len(expected.places):
        return False
    columns = zip(*expected.places, strict=True) if expected.places else [()] * len(expected.keys)
    for key, wanted in zip(expected.keys, columns, strict=True):
        found = table[key]
        if key == "depth":
            depths = found.to_numpy(dtype=float)
            if not np.allclose(depths, np.array(wanted, dtype=float), rtol=0, atol=DEPTH_DIGITS):
                return False
        elif found.tolist() != list(wanted):
            return False
    return True
