"""Tables as CSV files: long ones are written in a third of the time that pandas takes."""

import csv
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.errors import ParserWarning

from cavalcade.errors import InputError, one_line
from cavalcade.meta_fields import WAY_OUT

FLOATS = "%.6g"
ROWS = 2**16  # at a time: their text is held in memory
REPEATED = 1000  # entries that say whether a column of floats has few different ones
NAMES = (  # columns of text in our tables
    *("layer", "concept", "split", "measure", "network", "match", "to"),
    *("differs_from", "halved_at", "concept_a", "concept_b", "label", "second"),
    *("network_a", "layer_a", "network_b", "layer_b", "kind", "statistic", "nearer", "farther"),
)


def read_table(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Read a table that cavalcade wrote: a layer called `2` and a concept called `NA` are names.

    Args:
        path: of a CSV file.
        rows: how many are read at most; all if None.

    Raises:
        InputError: if it is missing, or no table.
    """
    try:
        header = list(pd.read_csv(path, nrows=0).columns)
        texts = {column: "str" for column in header if column in NAMES}
        numbers = {column: [""] for column in header if column not in NAMES}
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # of cells that would be dropped
            return pd.read_csv(
                path,
                dtype=texts,
                keep_default_na=False,
                na_values=numbers,
                nrows=rows,
                index_col=False,
                low_memory=False,
            )
    except (OSError, ValueError, OverflowError, ParserWarning) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); {WAY_OUT}") from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as `DataFrame.to_csv` does without its index, floats with six digits.

    A text that is repeated is made once. Tables of other columns than floats, whole numbers,
    booleans and texts are left to pandas, as are those of one column.
    """
    columns = [table.iloc[:, k] for k in range(table.shape[1])]
    if len(columns) < 2 or not all(map(_is_plain, columns)):
        table.to_csv(path, index=False, float_format=FLOATS)
        return
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(_quoted(str(name)) for name in table.columns) + "\n")
        for first in range(0, len(table), ROWS):
            texts = [_texts(column.iloc[first : first + ROWS]) for column in columns]
            file.write("\n".join([*map(",".join, zip(*texts, strict=True)), ""]))


def _is_plain(column: pd.Series) -> bool:
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "biuf":
        return True
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty")


def _texts(column: pd.Series) -> list[str]:
    """How each entry is written; nothing for NaN."""
    floats = pd.api.types.is_float_dtype(column.dtype)
    if floats and column.iloc[:REPEATED].nunique() > REPEATED // 2:
        return [FLOATS % value if value == value else "" for value in column.tolist()]
    codes, found = pd.factorize(column)
    if floats:
        texts = [FLOATS % value for value in np.asarray(found).tolist()]
    elif pd.api.types.is_numeric_dtype(column.dtype):  # booleans are, too
        texts = [str(value) for value in np.asarray(found).tolist()]
    else:
        texts = [_quoted(value) for value in found]
    return np.array([*texts, ""], dtype=object)[codes].tolist()  # the code of NaN is -1


def _quoted(text: str) -> str:
    """A text as a field, in quotation marks where it needs them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([text, ""])
    return line.getvalue().removesuffix(",\n")
