"""What a sweep will cost, said before it starts."""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cavalcade.children import run_child
from cavalcade.errors import counted
from cavalcade.report.tables import print_sentence, print_table
from cavalcade.sweeping.apart import child_environment
from cavalcade.sweeping.jobs import SweepJob, differing
from cavalcade.visiting.cost import BESIDE_CACHE, IF_CACHED, Cost

NEEDED = ("backbone", "data", "concepts", "trainer", "batch_size")
MANY, DEAREST = 20, 5  # jobs; more than so many are not all shown


@dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        costs: of each job; None where it is unknown.
        networks: seconds that each network took, to build and to measure it.
        seconds: that all of it took.
        cached: whether any job has a cache, which spares forwards.
    """

    costs: list[Cost | None]
    networks: list[float]
    seconds: float
    cached: bool = False

    def table(self) -> pd.DataFrame:
        """A row for each job, a dash for what is unknown."""
        rows = [
            (f"{c.images:,}", f"{c.seconds:.0f}", f"{c.megabytes:.1f}") if c else ("-", "-", "-")
            for c in self.costs
        ]
        return pd.DataFrame(rows, columns=["images", "forward seconds", "MB"])

    @property
    def total(self) -> Cost:
        """Of all jobs whose cost is known."""
        known = [cost for cost in self.costs if cost]
        return Cost(
            sum(cost.images for cost in known),
            float(sum(cost.seconds for cost in known)),
            float(sum(cost.num_bytes for cost in known)),
        )


def estimate(configs: Sequence[DictConfig], folder: Path) -> Estimate:
    """Measure the jobs in one process, so that no memory and no CUDA context stays in this one.

    Args:
        configs: of the jobs.
        folder: for `estimate.json`, what was asked, and `estimate.jsonl`, the answer.
    """
    start = time.perf_counter()
    asked, answer = folder / "estimate.json", folder / "estimate.jsonl"
    asked.write_text(json.dumps([_needed(config) for config in configs]), encoding="utf-8")
    answer.unlink(missing_ok=True)
    run_child(
        [sys.executable, "-m", "cavalcade.sweeping.measure", str(asked), str(answer)],
        cwd=Path.cwd(),
        # a user's own network may lie beside the script
        env=child_environment(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        log=folder / "estimate.log",
    )
    lines = answer.read_text(encoding="utf-8").splitlines() if answer.exists() else []
    answers = [json.loads(line) for line in lines]
    answers += [None] * (len(configs) - len(answers))  # the process may have been killed
    networks = {each.pop("network"): each.pop("took") for each in answers if each}
    costs = [Cost(**each) if each else None for each in answers]
    cached = any(config.get("cache") is not None for config in configs)
    return Estimate(costs, list(networks.values()), time.perf_counter() - start, cached)


def _needed(config: DictConfig) -> Mapping[str, Any] | None:
    """The part of a job's config that decides on its cost; None if it is not complete."""
    try:
        found = {
            key: OmegaConf.to_container(config[key], resolve=True, throw_on_missing=True)
            if OmegaConf.is_config(config[key])
            else config[key]
            for key in NEEDED
        }
        json.dumps(found)
    except (OmegaConfBaseException, TypeError):
        return None
    return found


def print_estimate(found: Estimate, jobs: Sequence[SweepJob], runs: Path, at_once: int) -> None:
    """Print what all jobs will cost, the dearest of many, and whether the disk holds it.

    Args:
        found: what was measured.
        jobs: the same jobs.
        runs: where run folders will lie.
        at_once: how many jobs run at the same time.
    """
    title = "What the jobs will cost (those that are finished will be skipped)"
    table = pd.concat([differing(jobs), found.table()], axis=1)
    if len(jobs) > MANY:
        seconds = [cost.seconds if cost else -1.0 for cost in found.costs]
        dearest = sorted(range(len(jobs)), key=lambda job: -seconds[job])[:DEAREST]
        table, title = table.iloc[dearest], f"The dearest {DEAREST} of {len(jobs)} jobs"
    print_table(title, table)
    print_sentence(totals(found, at_once))
    free = free_bytes(runs)
    print_sentence(f"{free / 1e9:.1f} GB are free at {runs}")
    if found.total.num_bytes > free:
        print_sentence(
            f"the sweep needs {found.total.num_bytes / 1e9:.1f} GB there, more than is free: "
            "it will stop for lack of space unless some is made, or runs= names another disk"
        )


def totals(found: Estimate, at_once: int) -> str:
    """What all jobs cost together, and what it cost to find out."""
    known, total = sum(cost is not None for cost in found.costs), found.total
    at_once = max(1, min(at_once, known))
    share = "" if known == len(found.costs) else f" ({known} of {len(found.costs)} jobs)"
    beside = "" if at_once == 1 else f", {at_once} jobs at once"
    count = len(found.networks)
    mean = f"{sum(found.networks) / count:.1f} s" if count else ""
    each = f", {mean} for each of {counted(count, 'network')}" if count else ""
    fewer, apart = (IF_CACHED, BESIDE_CACHE) if found.cached else ("", "")
    return (
        f"in all{share}: {total.images:,} images through networks{fewer}, forwards alone about "
        f"{total.seconds / at_once:.0f} s{beside}; {total.megabytes:.1f} MB on disk{apart}; "
        f"measured in {found.seconds:.0f} s{each} (estimate=false leaves it out)"
    )


def free_bytes(place: Path) -> int:
    """Of the disk on which a folder lies, or will lie."""
    place = place.expanduser().absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
