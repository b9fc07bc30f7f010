"""What a visit returns."""

from pathlib import Path
from typing import NamedTuple


class Visited(NamedTuple):
    """A visit that is over."""

    path: Path
    """The run folder."""
    skipped: bool
    """It was finished before."""
