"""What is logged to Weights & Biases, or to any other of Lightning's loggers."""

import functools
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from cavalcade.errors import InputError, closest
from cavalcade.report.public_config import (
    hold_secrets,
    without_passwords,
    without_paths,
    without_secrets,
)

MAX_LENGTH = 64  # characters of the id and of a tag of a W&B run
MERGED = ("tags", "settings")  # hold what the user set and more

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedJob:
    """What is tracked as one run, known before its results are.

    Attributes:
        name: of the run.
        kind: `train` or `compare`.
        id: the same whenever the same job is run again, so that it goes on with its run; None
            for a new one each time.
        tags: what runs are filtered by.
        facts: what the configuration does not say.
    """

    name: str
    kind: str
    id: str | None = None
    tags: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def train_job(place: Path, meta: Mapping[str, Any], num_layers: int, *, force: bool) -> TrackedJob:
    """The job that makes a run folder.

    Args:
        place: the folder.
        meta: what its `meta.json` will say.
        num_layers: how many taps.
        force: it is made again, hence is another run.
    """
    network, state = meta["identity"]["backbone"], "random" if meta["random"] else "trained"
    return TrackedJob(
        name=place.name,
        kind="train",
        id=None if force else safe_name(place.name, MAX_LENGTH),
        tags=(meta["data"]["name"], meta["method"], meta["label"], state),
        facts={
            "network": {
                "label": meta["label"],
                "architecture": network["architecture"],
                "weights": network["weights"],
                "random": meta["random"],
                "num_layers": num_layers,
            },
            "data_folder": place.parents[1].name,
            "run": place.name,
            "digest": meta["digest"],
        },
    )


def safe_name(name: str, longest: int) -> str:
    """A name of the characters that W&B allows, shortened in front of its digest.

    >>> safe_name("my net-0123456789ab", 16)
    'my--0123456789ab'
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    head, _, digest = safe.rpartition("-")
    if len(safe) <= longest:
        return safe
    return f"{head[: longest - len(digest) - 1]}-{digest}" if head else safe[:longest]


class Tracker:
    """Makes the logger of a job once it is known what the job is; a job that is skipped has none.

    Args:
        make: a logger's class with the user's settings; None to track nothing.
        group: what the jobs of a sweep have in common.
        artifacts: log files as well.

    Raises:
        InputError: for a setting that W&B does not know.
    """

    def __init__(
        self,
        make: Callable[..., Logger] | None = None,
        *,
        group: str | None = None,
        artifacts: bool = True,
    ) -> None:
        self.make, self.group, self.artifacts = make, group, artifacts
        self.logger: Logger | None = None
        if self._settings is not None:
            _check_settings(self._settings)

    def begin(self, job: TrackedJob, config: Mapping[str, Any]) -> Logger | None:
        """The logger of a job, which is told the configuration.

        Raises:
            InputError: if W&B refuses.
        """
        if self.make is not None:
            try:
                self.logger = self.make(**self._chosen(job))
                log_config(self.logger, {**config, **job.facts})
            except wandb.Error as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"W&B starts no run ({reason}); log in with wandb login, or leave the record "
                    "on this machine with logger=wandb"
                ) from error
        return self.logger

    def finish(self, status: str = "success") -> None:
        """End the tracked run, so that the next job of a sweep gets one of its own."""
        finish(self.logger, status)
        self.logger = None

    @property
    def _settings(self) -> Mapping[str, Any] | None:
        """What the user set of a W&B logger; None for loggers of other kinds."""
        if isinstance(self.make, functools.partial) and self.make.func is WandbLogger:
            return self.make.keywords
        return None

    def _chosen(self, job: TrackedJob) -> dict[str, Any]:
        """What a W&B run is called, where the user or W&B's agent does not say.

        And the user's own words without passwords: W&B keeps notes in the run and in its logs.
        """
        given = self._settings
        if given is None:
            return {}
        tags = [*map(without_passwords, given.get("tags") or ()), *job.tags]
        tags = [tag[:MAX_LENGTH] for tag in tags]
        chosen: dict[str, Any] = {"job_type": job.kind, "tags": list(dict.fromkeys(tags))}
        chosen |= {"name": job.name} if not os.environ.get("WANDB_NAME") else {}
        chosen |= {"group": self.group} if not os.environ.get("WANDB_RUN_GROUP") else {}
        if not (os.environ.get("WANDB_SWEEP_ID") or os.environ.get("WANDB_RUN_ID")):
            chosen |= {"id": job.id, "resume": "allow"}
        if given.get("version"):
            chosen.pop("id", None)  # another word of Lightning's for the id
        if hold_secrets(sys.argv):  # W&B would record the command
            settings = given.get("settings") or wandb.Settings()
            chosen["settings"] = settings.model_copy(update={"x_disable_meta": True})
        own = {name: value for name, value in given.items() if value is not None}
        shown = without_secrets({k: v for k, v in own.items() if k not in MERGED})
        hidden = {name: value for name, value in shown.items() if value != own[name]}
        chosen = {name: x for name, x in chosen.items() if name not in own or name in MERGED}
        return chosen | hidden


def tracker_of(
    make: Callable[..., Logger] | Mapping[str, Any] | None,
    *,
    group: str | None = None,
    artifacts: object = True,
) -> Tracker:
    """The tracker of a program; `logger=none` is an empty mapping.

    Args:
        make: what the config says, see `Tracker`.
        group: the sweep.
        artifacts: log files as well.
    """
    if not isinstance(artifacts, bool):
        raise InputError(f"artifacts is {artifacts!r}; give true or false")
    return Tracker(make if callable(make) else None, group=group, artifacts=artifacts)


def _check_settings(given: Mapping[str, Any]) -> None:
    """Raise for a key that neither Lightning's logger nor `wandb.init` takes."""
    parameters = inspect.signature(WandbLogger.__init__).parameters
    known = {name for name in parameters if name not in ("self", "kwargs")}
    known |= set(inspect.signature(wandb.init).parameters)
    for name in given:
        if name not in known:
            key = f"logger.{name}"
            raise InputError(
                f"unknown config key {key}; {closest(key, [f'logger.{k}' for k in sorted(known)])}"
            )


def log_config(logger: Logger | None, config: Mapping[str, Any]) -> None:
    """Log the resolved configuration of a job, without passwords and the machine's paths."""
    if logger is not None:
        logger.log_hyperparams(without_paths(without_secrets(config)))


def log_table(logger: Logger | None, key: str, table: pd.DataFrame) -> None:
    """Log a frame as one table; other loggers find it in the run's own CSV files."""
    if not isinstance(logger, WandbLogger):
        return
    most = wandb.Table.MAX_ARTIFACT_ROWS
    if len(table) > most:
        log.info(
            "W&B takes %d rows of a table: %d rows of %s are left out there; %s.csv has all",
            *(most, len(table) - most, key, key),
        )
    logger.log_table(key, dataframe=table[:most])


def log_picture(logger: Logger | None, key: str, path: Path) -> None:
    """Log a PNG file."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key, images=[str(path)])


def log_summary(logger: Logger | None, numbers: Mapping[str, float | str]) -> None:
    """Log single numbers that a sweep is sorted by."""
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(numbers))


def finish(logger: Logger | None, status: str = "success") -> None:
    """End the tracked run of a logger."""
    if logger is not None:
        logger.finalize(status)
    if isinstance(logger, CSVLogger):
        log.info("tracked in %s", Path(os.path.relpath(logger.log_dir)))
    if isinstance(logger, WandbLogger) and wandb.run is not None:
        log.info("tracked in %s", Path(os.path.relpath(wandb.run.settings.sync_dir)))
        wandb.finish(exit_code=0 if status == "success" else 1)
