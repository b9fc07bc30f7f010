"""What Hydra and OmegaConf say of a command line, on one line and with the way out."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cavalcade import conf
from cavalcade.errors import InputError, closest

UNKNOWN = re.compile(r"Could not override '([^']+)'")
TO_SWEEP = re.compile(r"Could not find '[^']*/(@[^']+)'")
NO_FOLDER = re.compile(r"Primary config module '([^']+)' not found")
NO_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':([^:]+)")

NO_NAMES = (bool, int, float, dict, list, type(None))


def sentence(error: Exception) -> str:
    """What a user did wrong, of an error of Hydra or OmegaConf."""
    text = str(error).partition("Config search path")[0].strip()
    if unknown := UNKNOWN.search(text):
        return _unknown(unknown[1])
    if found := TO_SWEEP.search(text):
        return f"{found[1]} names values to sweep over; add -m to the command"
    if found := NO_OPTION.search(text):
        group, name, options = found.groups()
        way_out = _elsewhere(group, name) or closest(name, options.split())
        return f"there is no {group}={name}; {way_out}"
    if found := NO_FOLDER.search(text):
        folder = found[1].rpartition(".")[2]
        return (
            f"--config-path={folder} is no folder; give one with its whole path, or --config-dir "
            "for options beside those that there are"
        )
    return re.sub(r"\s*\n\s*", " ", text)


def check_choices(arguments: Iterable[str]) -> None:
    """Raise where an option cannot be chosen by its name, of which Hydra makes a traceback.

    Raises:
        InputError: naming the option.
    """
    parser, folder = OverridesParser.create(), Path(conf.__file__).parent
    for given in arguments:
        try:
            found = parser.parse_override(given)
        except HydraException:  # which it says well, or no option at all
            continue
        group, chosen = found.key_or_group, found.value()
        if not group:
            raise InputError(f"{given} names no setting; write OPTION=VALUE")
        names = chosen if isinstance(chosen, list) else [chosen]
        is_group = (folder / group).is_dir() and not found.is_delete()
        if is_group and any(isinstance(each, NO_NAMES) for each in names):
            raise InputError(f"there is no {group}={found.get_value_string()}; give it by its name")


def _elsewhere(group: str, name: str) -> str | None:
    """Where an option lies that was not looked for there."""
    beside = (Path.cwd(), Path(sys.argv[0]).absolute().parent)
    for folder in (each / "conf" for each in beside):
        if (folder / group / f"{name}.yaml").is_file():
            return f"{folder}/{group} has one: add --config-dir {folder} to the command"
    return None


def _unknown(key: str) -> str:
    of_hydra = key.startswith("hydra.")
    known = [name for name in _keys() if name.startswith("hydra") == of_hydra]
    near = difflib.get_close_matches(key, known, cutoff=0.5)
    nearest = f"closest: {', '.join(near)}; all" if near else "the keys"
    part = "hydra" if of_hydra else "job"
    return f"unknown config key {key}; {nearest} are listed by {command()} --cfg {part}"


def command() -> str:
    """How the program was called."""
    program = Path(sys.argv[0])
    return f"python {program.name}" if program.suffix == ".py" else program.name


def _keys() -> list[str]:
    """Those of the config that the command line chooses, or else of the default one."""
    config_name = Path(sys.argv[0]).stem.removeprefix("cavalcade-")
    folder = Path(conf.__file__).parent
    groups = [
        given
        for given in sys.argv[1:]
        # a sweep names several
        if (folder / given.partition("=")[0].lstrip("+")).is_dir() and "," not in given
    ]
    for chosen in (groups, []):
        try:
            with ExitStack() as stack:
                if not GlobalHydra.instance().is_initialized():
                    stack.enter_context(initialize_config_dir(str(folder), version_base="1.3"))
                loader = GlobalHydra.instance().config_loader()
                config = loader.load_configuration(config_name, chosen, RunMode.RUN)
        except (HydraException, OmegaConfBaseException):
            continue
        return list(_within(config, ""))
    return []


def _within(config: DictConfig, prefix: str) -> Iterator[str]:
    for key in map(str, config):
        if key.startswith("_"):
            continue
        yield prefix + key
        child = OmegaConf.select(
            config, key, throw_on_missing=False, throw_on_resolution_failure=False
        )
        if isinstance(child, DictConfig):
            yield from _within(child, f"{prefix}{key}.")
