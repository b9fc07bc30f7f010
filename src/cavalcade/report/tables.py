"""Short tables for the terminal."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.table import Table

from cavalcade.errors import shown


def print_table(
    title: str, frame: pd.DataFrame, *, apart: Sequence[int] = (), width: int | None = None
) -> None:
    """Print a frame: numbers to the right with three digits, NaN as a dash.

    Args:
        title: above it.
        frame: its columns are headed by their names, in two lines.
        apart: numbers of the rows that have a line below them.
        width: of the terminal in characters; what it is if None.
    """
    table = Table(title=shown(title), title_justify="left")
    for name, kind in frame.dtypes.items():
        justify: JustifyMethod = "right" if pd.api.types.is_numeric_dtype(kind) else "left"
        header = "\n".join(shown(str(name)).rsplit(" ", 1))
        table.add_column(header, justify=justify, overflow="fold")
    for number, row in enumerate(frame.itertuples(index=False)):
        table.add_row(*(_written(value) for value in row), end_section=number in apart)
    _console(width=width).print(table)


def print_places(places: dict[str, Path]) -> None:
    """Say where results lie, a line each."""
    console = _console(soft_wrap=True)
    for what, path in places.items():
        console.print(shown(f"{what}: {path}"))


def print_sentence(sentence: str) -> None:
    """Print a sentence, broken at words."""
    _console().print(shown(sentence))


def _console(*, width: int | None = None, soft_wrap: bool = False) -> Console:
    """One that prints names as they are: `[red]` and `:car:` may be the names of concepts."""
    return Console(width=width, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def _written(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3f}"
    return shown(str(value), keep="\n")  # a cell may have lines
