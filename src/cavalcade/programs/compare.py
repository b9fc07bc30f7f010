"""Compares finished runs, layer by layer: python compare.py --help."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from cavalcade import cli
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparable import distinct_names, find_runs, latest_runs
from cavalcade.comparing.comparison import check_measures, compare
from cavalcade.comparing.comparison_folder import default_name, tables_of, write_comparison
from cavalcade.comparing.pictures import print_comparison, track_comparison
from cavalcade.comparing.series import check_series
from cavalcade.errors import InputError, check_whole
from cavalcade.folders import check_name
from cavalcade.names import names_of_runs
from cavalcade.report.artifacts import (
    artifact_names,
    log_comparison_artifact,
    use_runs,
    with_fetched,
)
from cavalcade.report.tracking import TrackedJob, Tracker, tracker_of
from cavalcade.runs import MinedRun, ProbedRun, Run
from cavalcade.sweeping.outcome import leaves_outcome

log = logging.getLogger(__name__)

KEYS = (
    *("runs", "root", "name", "comparisons", "similarity", "agreement", "repairings", "series"),
    *("cache", "pictures", "report", "names", "logger", "artifacts"),
)
SWITCHES = ("series", "report", "artifacts")


@hydra.main(version_base="1.3", config_path="pkg://cavalcade.conf", config_name="compare")
@cli.forgets_secrets
@leaves_outcome
def main(config: DictConfig) -> None:
    """Compare runs, write tables and pictures, print the pairs."""
    cli.check_config(config, KEYS)
    cli.check_settings(config, SWITCHES, ("root", "comparisons", "cache"), optional=("cache",))
    tracker = new_tracker(config)  # says what is misspelt before the work
    measure = str(config.similarity)
    against = listed(config.agreement)
    check_measures(measure, against)
    check_whole("repairings", config.repairings, 2)
    if config.pictures is not None:
        check_whole("pictures", config.pictures, 0)
    runs = runs_of(config)
    named_by = naming_run(config.names, runs)
    name = config.name or default_name(runs, measure, series=config.series, named_by=named_by)
    check_name("name", str(name))
    log.info("%s: comparing %s", runs[0].path.parents[1].name, ", ".join(r.label for r in runs))
    names = names_of_runs(runs, distinct_names(runs), named_by)
    compared = compare(runs, measure, against, config.repairings, config.cache)
    analysis = Analysis(compared)
    place = Path(str(config.comparisons)).expanduser() / str(name)
    tables = tables_of(analysis, names, series=config.series)
    write_comparison(analysis, runs, place, tables, named_by, config.pictures, report=config.report)
    track(tracker, config, runs, analysis, place, tables)
    print_comparison(analysis, place)


def track(
    tracker: Tracker,
    config: DictConfig,
    runs: Sequence[Run],
    analysis: Analysis,
    place: Path,
    tables: Mapping[str, pd.DataFrame],
) -> None:
    """Track a comparison that is written."""
    inputs = [{"name": run.path.name, "digest": str(run.meta["digest"])} for run in runs]
    facts = {"runs": [run.path.name for run in runs], "inputs": inputs}
    status = "failed"
    try:
        logger = tracker.begin(compare_job(place, runs, facts), cli.as_plain(config))
        track_comparison(analysis, place, tables, logger)
        if tracker.artifacts:
            use_runs(logger, artifact_names([run.path for run in runs], listed(config.runs)))
            log_comparison_artifact(logger, place)
        status = "success"
    finally:
        tracker.finish(status)


def compare_job(place: Path, runs: Sequence[Run], facts: Mapping[str, Any]) -> TrackedJob:
    """What is tracked of a comparison."""
    tags = (runs[0].meta["data"]["name"], runs[0].method, *(run.label for run in runs))
    return TrackedJob(name=place.name, kind="compare", tags=tags, facts=facts)


def new_tracker(config: DictConfig) -> Tracker:
    """The tracker that the config asks for."""
    make = instantiate(config.logger, _convert_="all", _partial_=True)
    return tracker_of(make, artifacts=config.artifacts)


def runs_of(config: DictConfig) -> list[Run]:
    """The runs that were asked for, in their order."""
    patterns = listed(config.runs)
    if config.series and (not patterns or any(set(pattern) & set("*?[") for pattern in patterns)):
        raise InputError("series=true needs its checkpoints one by one, in order: runs=[a,b,c]")
    if config.runs is None:
        return latest_runs(Path(str(config.root)).expanduser())
    runs = find_runs(with_fetched(patterns, Path(str(config.root)).expanduser()))
    if not runs:
        raise InputError("runs= names no run; give folders of runs")
    if config.series:
        check_series(runs)
    return runs


def naming_run(path: str | None, runs: list[Run]) -> ProbedRun | None:
    """The probed run that names mined concepts; None for the truth."""
    if path is None:
        return None
    if not isinstance(runs[0], MinedRun):
        raise InputError(
            "names= names mined concepts, and these runs were probed; leave it out, or give mined "
            "runs with runs="
        )
    found = find_runs([path])
    if len(found) != 1 or not isinstance(found[0], ProbedRun):
        raise InputError(f"names is {path!r}; give the folder of one probed run, or null")
    return found[0]


def listed(value: object) -> list[str]:
    """One name or a list of names as a list; none for null."""
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, ListConfig) else [str(value)]


def run() -> None:
    """What `python compare.py` and `cavalcade-compare` do."""
    cli.run(main)


if __name__ == "__main__":
    run()
