"""What a user can choose: the options of a config group, or the names of a zoo."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd
import timm
from hydra.core.global_hydra import GlobalHydra

from cavalcade.backbones.torchvision_zoo import torchvision_names
from cavalcade.backbones.yolo_zoo import yolo_names
from cavalcade.errors import check_choice
from cavalcade.report.tables import print_sentence, print_table

GROUPS = {
    "backbones": "backbone",
    "data": "data",
    "concepts": "concepts",
    "trainers": "trainer",
    "loggers": "logger",
    "launchers": "hydra/launcher",
    "experiments": "experiment",
}
ZOOS: Mapping[str, Callable[[], Sequence[str]]] = {
    "timm": timm.list_models,
    "torchvision": torchvision_names,
    "yolo": yolo_names,
}
COMMENT = re.compile(r"(?:#.*\n)+")


def print_choices(what: str) -> None:
    """Print the options of a group with what their files say of them, or names, a line each.

    Args:
        what: a key of `GROUPS` or of `ZOOS`.

    Raises:
        InputError: for another word.
    """
    check_choice("list", what, [*GROUPS, *ZOOS])
    if what in ZOOS:
        with suppress(BrokenPipeError):  # of head, which has seen enough
            print("\n".join(ZOOS[what]()), flush=True)
        return
    group = GROUPS[what]
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    told = {option: description(f"{group}/{option}.yaml") for option in options}
    print_table(f"{group}=", pd.DataFrame({"option": told.keys(), "description": told.values()}))
    if what == "backbones":
        zoos = ", ".join(f"list={zoo}" for zoo in ZOOS)
        print_sentence(f"names for backbone.name= are listed by {zoos}")


def description(path: str) -> str:
    """The comment that a config file begins with.

    Args:
        path: within the folder of options, or of another one that Hydra searches.
    """
    text = next((file.read_text(encoding="utf-8") for file in _found(path) if file.is_file()), "")
    comment = COMMENT.match(text.removeprefix("# @package _global_\n"))
    return " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment else "-"


def _found(path: str) -> Iterator[Traversable]:
    """Where Hydra looks for a file, the first place first."""
    for source in GlobalHydra.instance().config_loader().get_sources():
        if source.scheme() == "file":
            yield Path(source.path) / path
        elif source.scheme() == "pkg" and source.provider != "hydra":
            yield files(source.path) / path
