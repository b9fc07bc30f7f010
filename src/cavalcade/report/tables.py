"""Short tables for the terminal."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table


def print_table(title: str, frame: pd.DataFrame) -> None:
    """Print a frame: numbers to the right with three digits, NaN as a dash."""
    table = Table(title=title, title_justify="left")
    for name, kind in frame.dtypes.items():
        numeric = pd.api.types.is_numeric_dtype(kind)
        table.add_column(str(name), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_written(value) for value in row))
    Console().print(table)


def print_places(places: dict[str, Path]) -> None:
    """Say where results lie, a line each."""
    console = Console(soft_wrap=True)
    for what, path in places.items():
        console.print(f"{what}: {path}", highlight=False, markup=False)


def print_sentence(sentence: str) -> None:
    """Print a sentence, broken at words."""
    Console().print(sentence, highlight=False, markup=False)


def _written(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3f}"
    return str(value)
