"""What a job may leave behind: in its process, among the processes, in folders. All as JSON."""

import atexit
import ctypes
import gc
import logging
import os
import platform
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import wandb
from matplotlib import pyplot as plt
from torch.nn.modules import module as torch_module

PAGE = os.sysconf("SC_PAGE_SIZE")
LOGGERS = ("", "cavalcade", "lightning", "lightning.pytorch", "lightning.fabric", "wandb")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
KEPT_BY_WANDB = 100  # artifacts: the newest of a process, each with its run and its tables


def in_this_process(*folders: Path) -> dict[str, Any]:
    """All that can be counted, by its name; folders are those in which locks and parts lie."""
    _without_garbage()
    return {
        "memory": resident(),
        "open files": open_files(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "child processes, zombies too": children(os.getpid()),
        "hooks on all networks": sum(map(len, _global_hooks())),
        "temporary files": sorted(path.name for path in Path(tempfile.gettempdir()).iterdir()),
        "locks and parts of folders": hidden(*folders),
        "signal handlers": {number.name: str(_handler(number)) for number in signal.Signals},
        "handlers of logs": {
            name: [f"{handler} {id(handler)}" for handler in logging.getLogger(name).handlers]
            for name in LOGGERS
        },
        "filters of warnings": [str(entry) for entry in warnings.filters],
        "figures": plt.get_fignums(),
        "runs of W&B that go on": 0 if wandb.run is None else 1,
        "variables of the environment": dict(os.environ),
        "what is called at exit": atexit._ncallbacks(),
        "working folder": str(Path.cwd()),
    }


def _without_garbage() -> None:
    """Have what nobody refers to go, and what W&B keeps of its newest artifacts."""
    for _ in range(KEPT_BY_WANDB):
        wandb.Artifact("nothing", type="nothing")
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def resident(pid: int | str = "self") -> int:
    """Kilobytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024


def open_files(pid: int | str = "self") -> list[str]:
    """What the file descriptors of a process stand for: a path, or `socket`, `pipe`."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(link.readlink())
        except FileNotFoundError:  # that by which this folder is read
            continue
        found.append(name.partition(":[")[0])
    return sorted(found)


def children(pid: int) -> list[str]:
    """State and name of each child of a process; Z is a zombie."""
    found = [f"{state} {name}" for _, parent, state, name in processes() if parent == pid]
    return sorted(each.replace("R ", "S ", 1) for each in found)  # at work at this moment


def processes() -> Iterator[tuple[int, int, str, str]]:
    """Number, parent, state and name of every process of this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                before, _, after = (folder / "stat").read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = after.split()[:2]
            yield int(folder.name), int(parent), state, before.partition("(")[2]


def hooks_of(model: torch.nn.Module) -> int:
    """Hooks on any module of a network."""
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in HOOKS)


def hidden(*folders: Path) -> list[str]:
    """Locks, and folders of which a part is written."""
    return sorted(str(path) for folder in folders for path in folder.rglob(".*"))


def _global_hooks() -> Iterator[dict[Any, Any]]:
    for name, value in vars(torch_module).items():
        if name.startswith("_global_") and isinstance(value, dict):
            yield value


def _handler(number: signal.Signals) -> object:
    found = signal.getsignal(number)
    return getattr(found, "__qualname__", found)
