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

from cavalcade import cli, processes
from cavalcade.children import AGAIN
from cavalcade.value_files import check_no_files
from cavalcade.visiting.visited import Visited

OUTCOME_FILE = "outcome.json"

Task = Callable[[DictConfig], Visited | None]  # what Hydra calls a task function


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
        partial = folder / f".{OUTCOME_FILE}-{os.getpid()}"
        partial.write_text(self._text, encoding="utf-8")
        partial.replace(folder / OUTCOME_FILE)

    def save_first(self, folder: Path) -> bool:
        """Write the file unless there is one; whether there was none."""
        try:
            with (folder / OUTCOME_FILE).open("x", encoding="utf-8") as file:
                file.write(self._text)
        except FileExistsError:
            return False
        return True

    @property
    def _text(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def load(cls, folder: Path) -> "Outcome | None":
        """What a folder says; None if it says nothing."""
        try:
            return cls(**json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def leaves_outcome(job: Task) -> Task:
    """Write what becomes of a job into Hydra's folder for it, whatever happens.

    A user's error becomes its sentence, any other its traceback in the log. Of several processes
    the one that fails first says why, since what the others meet follows from it.
    """

    @functools.wraps(job)
    def recorded(config: DictConfig) -> Visited | None:
        start, visited, said = time.monotonic(), None, ""
        folder = Path(HydraConfig.get().runtime.output_dir)
        first = getattr(rank_zero_only, "rank", 0) == 0
        if first:
            (folder / OUTCOME_FILE).unlink(missing_ok=True)  # of an earlier job in the same folder
        outcome = Outcome.failed(f"interrupted; {AGAIN}")
        try:
            check_no_files(HydraConfig.get().overrides.task)
            visited = job(config)
            outcome = Outcome.of(visited)
        except Exception as error:
            reason = cli.user_error(error) or processes.sentence_of_loss(error)
            outcome = Outcome.failed(reason or _named(error))
            said = reason or traceback.format_exc().rstrip()
        finally:
            outcome = replace(outcome, seconds=round(time.monotonic() - start, 1))
            if outcome.status != "failed":
                if first:
                    outcome.save(folder)
            elif outcome.save_first(folder) and said:
                cli.fail(said)
            else:
                cli.note_failure(outcome.reason)
        return visited

    return recorded


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
