"""What became of a job: done, skipped, or failed for a reason; a file in its folder says it."""

import functools
import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
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
        self._partial(folder).replace(folder / OUTCOME_FILE)

    def save_first(self, folder: Path) -> bool:
        """Write the file unless there is one; whether there was none."""
        partial = self._partial(folder)
        try:
            os.link(partial, folder / OUTCOME_FILE)
        except FileExistsError:
            return False
        except OSError:  # of a file system without links
            partial.replace(folder / OUTCOME_FILE)
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _partial(self, folder: Path) -> Path:
        partial = folder / f".{OUTCOME_FILE}-{socket.gethostname()}-{os.getpid()}"
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        return partial

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove what an earlier job in the same folder has left."""
        (folder / OUTCOME_FILE).unlink(missing_ok=True)

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
    the one that fails first says why: what the others meet follows from it.
    """

    @functools.wraps(job)
    def recorded(config: DictConfig) -> Visited | None:
        start, visited, failure = time.monotonic(), None, None
        folder = Path(HydraConfig.get().runtime.output_dir)
        if processes.is_first_of_job():
            Outcome.forget(folder)
        outcome = Outcome.failed(f"interrupted; {AGAIN}")
        try:
            check_no_files(HydraConfig.get().overrides.task)
            visited = job(config)
            outcome = Outcome.of(visited)
        except Exception as error:
            failure = error
            outcome = Outcome.failed(_reason(error) or _named(error))
        finally:
            outcome = replace(outcome, seconds=round(time.monotonic() - start, 1))
            if outcome.status == "failed":
                _fail(outcome, folder, failure)
            elif processes.is_first_of_job():
                outcome.save(folder)
        return visited

    return recorded


def _fail(outcome: Outcome, folder: Path, error: Exception | None) -> None:
    """Write that a job failed, and say so unless another of its processes does."""
    cli.note_failure(outcome.reason)
    try:
        is_first_word = outcome.save_first(folder)
    except OSError:  # what went wrong first is what matters
        is_first_word = True
    if error is None:
        return
    elsewhere = processes.said_elsewhere(error)
    if elsewhere is False or (elsewhere is None and (is_first_word or processes.count() == 1)):
        cli.say_failure(_reason(error) or "".join(traceback.format_exception(error)).rstrip())


def _reason(error: Exception) -> str | None:
    return cli.user_error(error) or processes.sentence_of_loss(error)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
