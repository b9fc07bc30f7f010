"""Compares finished runs, layer by layer: python compare.py --help."""

import logging
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from cavalcade import cli
from cavalcade.comparison import compare, find_runs, latest_runs
from cavalcade.comparison_folder import (
    default_name,
    print_comparison,
    track_comparison,
    write_comparison,
)
from cavalcade.errors import InputError
from cavalcade.report.tracking import finish, log_config
from cavalcade.runs import check_name

log = logging.getLogger(__name__)

KEYS = ("runs", "root", "name", "comparisons", "logger")


@hydra.main(version_base="1.3", config_path="conf", config_name="compare")
@cli.reports_errors
def main(config: DictConfig) -> None:
    """Compare runs, write tables and pictures, print the pairs."""
    cli.check_config(config, KEYS)
    patterns = config.runs
    if patterns is None:
        runs = latest_runs(Path(str(config.root)).expanduser())
    else:
        listed = patterns if isinstance(patterns, ListConfig) else [patterns]
        runs = find_runs([str(pattern) for pattern in listed])
    if not runs:
        raise InputError("runs= names no run; give folders of runs")
    name = str(config.name or default_name(runs))
    check_name("name", name)
    log.info("%s: comparing %s", runs[0].path.parents[1].name, ", ".join(r.label for r in runs))
    comparison = compare(runs)
    place = Path(str(config.comparisons)).expanduser() / name
    write_comparison(comparison, runs, place)
    logger = instantiate(config.logger, _convert_="all") or None  # logger=none is empty
    log_config(logger, cli.as_plain(config) | {"runs": [run.path.name for run in runs]})
    track_comparison(comparison, place, logger)
    finish(logger)
    print_comparison(comparison, place)


if __name__ == "__main__":
    cli.run(main)
