"""What is logged to Weights & Biases, or to any other of Lightning's loggers."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

log = logging.getLogger(__name__)


def log_config(logger: Logger | None, config: Mapping[str, Any]) -> None:
    """Log the resolved configuration of a job."""
    if logger is not None:
        logger.log_hyperparams(dict(config))


def log_table(logger: Logger | None, key: str, table: pd.DataFrame) -> None:
    """Log a frame as one table; other loggers find it in the run's own CSV files."""
    if isinstance(logger, WandbLogger):
        logger.log_table(key, dataframe=table)


def log_picture(logger: Logger | None, key: str, path: Path) -> None:
    """Log a PNG file."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key, images=[str(path)])


def log_summary(logger: Logger | None, numbers: Mapping[str, float | str]) -> None:
    """Log single numbers that a sweep is sorted by."""
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(numbers))


def finish(logger: Logger | None, status: str = "success") -> None:
    """End the tracked run, so that the next job of a sweep gets one of its own."""
    if logger is not None:
        logger.finalize(status)
    if isinstance(logger, CSVLogger):
        log.info("tracked in %s", Path(os.path.relpath(logger.log_dir)))
    if isinstance(logger, WandbLogger) and wandb.run is not None:
        log.info("tracked in %s", Path(os.path.relpath(wandb.run.settings.sync_dir)))
        wandb.finish(exit_code=0 if status == "success" else 1)
