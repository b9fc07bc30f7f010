"""Samples that cannot be read and are left out, because the user asked for it: what is said."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cavalcade import processes
from cavalcade.data.sample import ConceptData, ConceptDataset
from cavalcade.errors import InputError, listed

LEFT_OUT = "left_out.csv"
MOST_NAMED = 3  # in the log
_PATH = re.compile(r"(?<![\w/.…])~?/(?:[^/\s'\"]+/)+")

log = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """A sample that could not be read."""

    id: str
    reason: str
    """The sentence that it would have stopped with."""


def say_left_out(name: str, split: str, found: Sequence[LeftOut], dataset: ConceptDataset) -> None:
    """Warn of what was left out of a split.

    Args:
        name: of the data set.
        split: of it.
        found: what was left out.
        dataset: the whole split.

    Raises:
        InputError: if nothing is left.
    """
    if found and len(found) == len(dataset):
        raise InputError(
            f"{name}: none of the {len(dataset)} {split} images can be read, the first for this "
            f"reason: {found[0].reason}"
        )
    if found:
        log.warning(
            "%s: %d of %d %s images are left out, since they cannot be read (data.on_error=skip): "
            "%s",
            *(name, len(found), len(dataset), split),
            listed([f"{each.id} ({each.reason})" for each in found], MOST_NAMED),
        )


def check_agreed(data: ConceptData, found: Mapping[str, Sequence[LeftOut]]) -> None:
    """Raise unless all processes have left out the same samples.

    Raises:
        InputError: in all of them, naming one that they differ in.
    """
    everything = processes.gathered({split: [e.id for e in own] for split, own in found.items()})

    def check() -> None:
        for rank, other in enumerate(everything or []):
            for split, ids in other.items():
                differing = sorted(set(ids) ^ {each.id for each in found[split]})
                if differing:
                    raise InputError(
                        f"{data.name}: process {rank} can read other {split} images than the "
                        f"first, which differ in {differing[0]}; mend it, or where they read it"
                    )

    processes.from_first(check)


def table_of(data: ConceptData, found: Mapping[str, Sequence[LeftOut]]) -> pd.DataFrame:
    """A row for each sample left out: `split`, `id` and `reason`, which names no folder outside.

    What is in the folder of the data set is named from there, since a table may be passed on.
    """
    home = str(getattr(data, "path", ""))
    rows = [
        (split, each.id, _shortened(each.reason, home))
        for split, own in found.items()
        for each in own
    ]
    return pd.DataFrame(rows, columns=["split", "id", "reason"])


def _shortened(reason: str, home: str) -> str:
    inside = re.sub(rf"(?<![\w/.]){re.escape(home)}/", "", reason) if home else reason
    return " ".join(_PATH.sub("…/", inside).split())
