"""What became of a job: done, skipped, or failed for a reason; a file in its folder says it."""

import functools
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from cavalcade import cli
from cavalcade.sweeping.children import AGAIN
from cavalcade.sweeping.value_files import check_no_files
from cavalcade.visiting.visited import Visited

FILE = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        status: `done`, `skipped` (finished before) or `failed`.
        reason: why it failed, on one line.
        run: its run folder, if it has one.
        seconds: that it took.
    """

    status: str
    reason: str = ""
    run: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, visited: Visited | None) -> "Outcome":
        """Of a job that went well; None is one that visits nothing, as of `list_layers`."""
        if visited is None:
            return cls("done")
        return cls("skipped" if visited.skipped else "done", run=str(visited.path))

    @classmethod
    def failed(cls, reason: str) -> "Outcome":
        """Of one that did not; the reason becomes one line."""
        return cls("failed", " ".join(reason.split()))

    def save(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        partial = folder / f".{FILE}-{os.getpid()}"
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        partial.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Outcome | None":
        """What a folder says; None if it says nothing."""
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def leaves_outcome(
    job: Callable[[DictConfig], Visited | None],
) -> Callable[[DictConfig], Visited | None]:
    """Write what becomes of a job into Hydra's folder for it, whatever happens.

    A user's error becomes its sentence, any other its traceback in the log.
    """

    @functools.wraps(job)
    def recorded(config: DictConfig) -> Visited | None:
        start, visited = time.monotonic(), None
        outcome = Outcome.failed(f"interrupted; {AGAIN}")
        try:
            check_no_files(HydraConfig.get().overrides.task)
            visited = job(config)
            outcome = Outcome.of(visited)
        except Exception as error:
            reason = cli.user_error(error)
            outcome = Outcome.failed(reason or _named(error))
            cli.fail(reason or traceback.format_exc().rstrip())
        finally:
            if getattr(rank_zero_only, "rank", 0) == 0:
                seconds = round(time.monotonic() - start, 1)
                folder = Path(HydraConfig.get().runtime.output_dir)
                replace(outcome, seconds=seconds).save(folder)
        return visited

    return recorded


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
