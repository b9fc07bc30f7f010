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
        numbers: columns of numbers that are finite or missing.
        flags: columns of true and false.
        places: the keys of all rows, in their order.
    """

    keys: tuple[str, ...]
    numbers: tuple[str, ...]
    flags: tuple[str, ...] = ()
    places: Sequence[tuple[object, ...]] = ()

    def rows(self, places: Sequence[tuple[object, ...]]) -> "Expected":
        """The same of some rows."""
        return replace(self, places=places)


PLACE = ("layer", "depth", "concept")
SCORED = Expected(
    keys=(*PLACE, "split"),
    numbers=("jaccard", "jaccard_per_image", "area_ratio", "area_with", "area_without"),
)
MINED = Expected(keys=PLACE, numbers=("reproducibility", "relative_error", "area"))
NAMED = Expected(
    keys=PLACE,
    numbers=("jaccard", "adjusted", "area_with", "area_without"),
    flags=("named",),
)


def read_expected(path: Path, expected: Expected) -> pd.DataFrame:
    """Read a table of which is known what it must hold; at most one row more is read.

    Raises:
        InputError: naming the file and the column that is not as it must be.
    """
    table = read_table(path, rows=len(expected.places) + 1)
    wanted = (*expected.keys, *expected.numbers, *expected.flags)
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}; {WAY_OUT}")
    for column in table.columns:
        kind = table[column].dtype
        flag = column in expected.flags
        if column not in NAMES and not (
            pd.api.types.is_bool_dtype(kind) if flag else pd.api.types.is_numeric_dtype(kind)
        ):
            raise InputError(f"{path}: {column} holds something else than numbers; {WAY_OUT}")
    for column in expected.numbers:
        if np.isinf(table[column].to_numpy(dtype=float)).any():
            raise InputError(f"{path}: {column} is infinite somewhere; {WAY_OUT}")
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
