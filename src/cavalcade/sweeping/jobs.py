"""The jobs of a sweep, kept in its folder, and the table of what became of them."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from cavalcade.folders import digest_of
from cavalcade.report.tables import print_sentence, print_table
from cavalcade.sweeping.outcome import Outcome

JOBS_FILE = "jobs.json"


@dataclass
class SweepJob:
    """One job of a sweep.

    Attributes:
        overrides: what it is asked, as on the command line.
        folder: of Hydra, for its log and outcome; None for one that cannot be composed.
        reason: why it has no outcome, if that is known.
    """

    overrides: list[str]
    folder: str | None
    reason: str = ""

    def outcome(self) -> Outcome:
        """What became of it."""
        if self.folder is None:
            return Outcome.failed(self.reason)
        folder = Path(self.folder)
        if not folder.is_dir():
            return Outcome.failed(self.reason or "not started")
        found = Outcome.load(folder)
        logs = [*sorted(folder.glob("output*.log")), *sorted(folder.glob("*.log")), folder]
        seen = f"left no outcome; see {os.path.relpath(logs[0])}"
        return found or Outcome.failed(f"{self.reason}; {seen}" if self.reason else seen)


def save_jobs(jobs: Sequence[SweepJob], folder: Path) -> None:
    """Write what a sweep consists of into its folder."""
    text = json.dumps([asdict(job) for job in jobs], indent=1)
    (folder / JOBS_FILE).write_text(text, encoding="utf-8")


def load_jobs(folder: Path) -> list[SweepJob]:
    """What a sweep consists of."""
    return [
        SweepJob(**each) for each in json.loads((folder / JOBS_FILE).read_text(encoding="utf-8"))
    ]


def name_of(jobs: Sequence[SweepJob]) -> str:
    """What a sweep is called: the same whenever the same jobs are asked for."""
    return f"sweep-{digest_of({'jobs': [job.overrides for job in jobs]})}"


def differing(jobs: Sequence[SweepJob]) -> pd.DataFrame:
    """A row for each job: its number, and a column for each key in which jobs differ."""
    values = [dict(each.split("=", 1) for each in job.overrides if "=" in each) for job in jobs]
    keys = list(dict.fromkeys(key for own in values for key in own))
    kept = [key for key in keys if len({own.get(key) for own in values}) > 1]
    numbers = iter(range(len(jobs)))
    table = pd.DataFrame({"job": ["-" if j.folder is None else str(next(numbers)) for j in jobs]})
    for key in kept:
        table[key] = [own.get(key, "") for own in values]
    return table


def outcome_table(jobs: Sequence[SweepJob]) -> pd.DataFrame:
    """What became of each job: in what it differs, status, run folder or the reason it failed."""
    outcomes = [job.outcome() for job in jobs]
    table = differing(jobs)
    table["status"] = [outcome.status for outcome in outcomes]
    table["run folder, or why it failed"] = [o.reason or o.run or "" for o in outcomes]
    return table


def print_outcomes(folder: Path) -> list[str]:
    """Print what became of the jobs of a sweep.

    Returns:
        The reasons of those that failed.
    """
    table = outcome_table(load_jobs(folder))
    print_table(f"Sweep {os.path.relpath(folder)}", table)
    counts = {status: int((table["status"] == status).sum()) for status in ("done", "skipped")}
    failed = table.loc[table["status"] == "failed", table.columns[-1]].tolist()
    print_sentence(
        ", ".join(f"{n} {what}" for what, n in {**counts, "failed": len(failed)}.items())
    )
    if failed:
        print_sentence("run the same command again: it retries what failed")
    return failed
