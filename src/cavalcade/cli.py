"""What the programs share: strict configs, and errors as one sentence each."""

import ctypes
import functools
import inspect
import logging
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.utils import get_object
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from cavalcade import processes
from cavalcade.children import AGAIN, end_with_parent
from cavalcade.errors import InputError, check_switch, closest, shown
from cavalcade.hydra_errors import check_choices, sentence
from cavalcade.log_lines import AS_LINES
from cavalcade.report.public_config import hold_secrets, without_passwords, without_secrets
from cavalcade.value_files import with_values

RECORD = ("config.yaml", "hydra.yaml", "overrides.yaml")  # what Hydra keeps of a job
SCRIPTS = "CAVALCADE_SCRIPTS"  # names the folder of the script that was called

log = logging.getLogger(__name__)

_failures: list[str] = []
Job = TypeVar("Job")


def fail(sentence: str) -> None:
    """Say that a job failed, and why; the program goes on and exits with 1 at its end."""
    say_failure(sentence)
    note_failure(sentence)


def say_failure(sentence: str) -> None:
    """Print why a job failed."""
    if logging.getLogger().handlers:
        log.error(sentence, extra=AS_LINES)  # a bug has a traceback
    else:  # before the first job, nobody has set up logging
        print(shown(sentence, keep="\n\t"), file=sys.stderr)


def note_failure(sentence: str) -> None:
    """Exit with 1 at the end, for a failure that was said already."""
    _failures.append(sentence)


def user_error(error: BaseException | None) -> str | None:
    """The sentence of a user's error, also where Hydra or a data worker has wrapped it.

    It is kept in logs, so it shows no password of a URL that it names.
    """
    found = _sentence_of(error)
    return None if found is None else without_passwords(found)


def _sentence_of(error: BaseException | None) -> str | None:
    found = None
    while error is not None:
        if isinstance(error, InputError):
            return str(error)
        if isinstance(error, MisconfigurationException):
            return sentence(error)
        # a value of another type than its target takes, or a reference to nothing
        if isinstance(error, OmegaConfBaseException) or (
            isinstance(error, InstantiationException) and isinstance(error.__cause__, TypeError)
        ):
            found = sentence(error)
        error = error.__cause__
    return found


def forgets_secrets(job: Callable[[DictConfig], Job]) -> Callable[[DictConfig], Job]:
    """Remove Hydra's own record of a job's settings first where they hold a password.

    Whatever becomes of the job. What a run folder and W&B keep of them is without it.
    """

    @functools.wraps(job)
    def forgetting(config: DictConfig) -> Job:
        hydra = HydraConfig.get()
        record = Path(hydra.runtime.output_dir) / str(hydra.output_subdir)
        if hydra.output_subdir is not None and record.is_dir() and holds_secrets(config):
            for name in RECORD:  # other files of the folder are the user's
                (record / name).unlink(missing_ok=True)
            with suppress(OSError):
                record.rmdir()
            log.info("the settings hold a password, so that Hydra's record of them is removed")
        return job(config)

    return forgetting


def holds_secrets(config: DictConfig) -> bool:
    """Whether the settings of a job or of a sweep, as they were given, show a password."""
    given = OmegaConf.to_container(config)  # unresolved: it may be wrong, and so Hydra keeps it
    assert isinstance(given, dict)
    plain = {str(key): value for key, value in given.items() if key != "hydra"}
    overrides = HydraConfig.get().overrides if "hydra" not in config else config.hydra.overrides
    return without_secrets(plain) != plain or hold_secrets([*overrides.task, *overrides.hydra])


def run(main: Callable[[], None]) -> None:
    """Run a Hydra program; exit with 1 if a job failed or the command cannot be understood."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions reach us, not Hydra's printer
    prepare_process()
    _find_own_modules()
    try:
        check_choices(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):
            sys.argv[1:] = with_values(sys.argv[1:])
        main()
    except (HydraException, OmegaConfBaseException, InputError) as error:
        if isinstance(error, OverrideParseException) and hold_secrets(sys.argv[1:]):
            sys.exit("an option is not in Hydra's grammar, and one holds a password; quote values")
        sys.exit(shown(without_passwords(sentence(error))))
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(128 + signal.SIGINT)
    except SystemExit as end:
        if end.code == 128 + signal.SIGTERM:
            _say_interrupted()
        raise
    if _failures:
        sys.exit(1)


def _say_interrupted() -> None:
    if processes.is_first_of_job():
        tqdm.write(f"interrupted; {AGAIN}", file=sys.stderr)  # below what shows progress


def prepare_process() -> None:
    """What every program of ours does to its process first."""
    end_with_parent()
    _silence_known_noise()
    _reuse_freed_memory()
    _compute_exactly()


def _find_own_modules() -> None:
    """Import a user's modules from beside the script first, and last from the present folder.

    Python does the former for a script itself; children run a module of ours instead.
    """
    script = Path(sys.argv[0]).resolve()
    if script.suffix == ".py" and script.parent != Path(__file__).parent / "programs":
        os.environ[SCRIPTS] = str(script.parent)
    beside = os.environ.get(SCRIPTS)
    if beside is not None and beside not in sys.path:
        sys.path.insert(0, beside)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _compute_exactly() -> None:
    """Keep the convolutions of a GPU in float32: TF32 has three digits."""
    torch.backends.cudnn.allow_tf32 = False


def _reuse_freed_memory() -> None:
    """Keep glibc from handing each freed activation back to the kernel.

    Every forward would pay for the page faults again: half of its time on a CPU.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)


def check_settings(
    config: DictConfig,
    switches: Iterable[str],
    folders: Iterable[str],
    optional: Iterable[str] = (),
) -> None:
    """Raise for what is neither on nor off, or no folder, before anything is made.

    Args:
        config: the composed config.
        switches: keys that are true or false.
        folders: keys of folders.
        optional: those among them that may be null.

    Raises:
        InputError: naming the key.
    """
    for key in switches:
        check_switch(key, config[key])
    for key in folders:
        value, or_null = config[key], ", or null" if key in optional else ""
        named = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        if not named and not (or_null and value is None):
            raise InputError(f"{key} is {value!r}; give a folder{or_null}")


def check_config(config: DictConfig, known: Iterable[str]) -> None:
    """Raise unless every key means something and every required one is set.

    Args:
        config: the composed config.
        known: its keys at the top.

    Raises:
        InputError: naming the key and the closest one that exists.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError(f"{missing[0]} is not set; add {missing[0]}=… to the command")
    _check_keys("", config, known)
    for name, node in config.items():
        _check_target(str(name), node)


def _check_target(path: str, node: object) -> None:
    """Bind a node with a `_target_`, and those within it, to the signature it calls."""
    if not isinstance(node, DictConfig):
        return
    if "_target_" in node:
        try:
            target = get_object(node["_target_"])
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{path}._target_ names {node['_target_']}, which cannot be imported; mend it"
            ) from error
        parameters = inspect.signature(target).parameters.values()
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            _check_keys(f"{path}.", node, [p.name for p in parameters])
    for name, child in node.items():
        _check_target(f"{path}.{name!s}", child)


def _check_keys(prefix: str, node: DictConfig, known: Iterable[str]) -> None:
    known = [f"{prefix}{name}" for name in known]
    for key in map(str, node):
        if not key.startswith("_") and prefix + key not in known:
            raise InputError(f"unknown config key {prefix}{key}; {closest(prefix + key, known)}")


def as_plain(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain containers."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _silence_known_noise() -> None:
    for name in (
        *("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"),
        "fontTools",  # tells of every table of the fonts in a PDF
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*exists and is not empty.*",  # a resumed fit goes on in the folder of its checkpoint
        ".*module\\(s\\) in eval mode at the start of training.*",
        ".*treespec, LeafSpec.* is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
