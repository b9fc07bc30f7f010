"""Each job of a sweep in a process of its own, whatever launches it.

Its memory is free afterwards, what a distributed job leaves in the environment (LOCAL_RANK) is
gone, and if it is killed the sweep goes on. Lightning starts the other ranks of a distributed
job by the command line of the first: that of a child is a single run's.
"""

import functools
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cavalcade.children import is_alive, run_child, sentence_of_exit
from cavalcade.processes import announced_rank
from cavalcade.sweeping.gpus import VISIBLE, gpus_of_job
from cavalcade.sweeping.jobs import load_jobs, name_of
from cavalcade.sweeping.outcome import Outcome, Task
from cavalcade.visiting.visited import Visited

PROGRAM = "cavalcade.programs.train"  # what a child runs
SWEEP_PID, SWEEP_GPUS = "CAVALCADE_SWEEP_PID", "CAVALCADE_SWEEP_GPUS"
SWEEP = "CAVALCADE_SWEEP"
WITHOUT_PRESENT_FOLDER = {"PYTHONSAFEPATH": "1"}  # whose modules come after installed ones
OUTPUT = "output.log"  # of a job that has no terminal
BASIC, JOBLIB, LOCAL, SLURM = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
)
SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
SWEEPING = (  # settings of a sweep, not of its jobs
    *("hydra.mode=", "hydra.run.", "hydra.sweep.", "hydra.sweeper", "hydra/sweeper"),
    *("hydra.launcher", "hydra/launcher", "hydra.output_subdir"),
)

# Our launchers bear the names of the plugins' own, whose types check them. Here, since this is
# what the processes of launchers import first.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/.*is validated against ConfigStore")


def runs_apart(job: Task) -> Task:
    """Run a job here if it is alone, and in a child if it is one of a sweep."""

    @functools.wraps(job)
    def started(config: DictConfig) -> Visited | None:
        hydra = cast(DictConfig, HydraConfig.get())
        if hydra.mode != RunMode.MULTIRUN:
            return job(config)
        run_apart(hydra, config)
        return None

    return started


def run_apart(hydra: DictConfig, config: DictConfig) -> None:
    """Run one job of a sweep in a child, and see to it that its folder says what became of it."""
    folder, environ = Path(hydra.runtime.output_dir), child_environment(os.environ)
    rank = announced_rank(environ)
    first = rank == 0
    if first:
        Outcome.forget(folder)
    log = folder / (OUTPUT if first else f"output-{rank}.log")
    terminal = hydra.launcher._target_ == BASIC
    sweep = name_of(load_jobs(Path(hydra.runtime.cwd) / hydra.sweep.dir))
    code = run_child(
        child_command(hydra),
        cwd=hydra.runtime.cwd,
        env=environ | _gpus(hydra, config) | {SWEEP: sweep, **WITHOUT_PRESENT_FOLDER},
        log=None if terminal else log,
        needed=_sweep_goes_on if hydra.launcher._target_ in (JOBLIB, LOCAL) else lambda: True,
    )
    if first and Outcome.load(folder) is None:
        seen = folder / f"{hydra.job.name}.log" if terminal else log
        Outcome.failed(sentence_of_exit(code, Path(os.path.relpath(seen)))).save(folder)
    if first and not terminal:  # nobody has seen it end
        found = Outcome.load(folder)
        assert found is not None
        what = f"job {hydra.job.num} ({', '.join(hydra.overrides.task)})"
        print(f"{what}: {found.status}: {found.reason or found.run or ''}", flush=True)


def sweep_name() -> str | None:
    """What the sweep is called that this job is one of; None for a single run."""
    return os.environ.get(SWEEP)


def child_command(hydra: DictConfig) -> list[str]:
    """The command line of one job as a single run."""
    folder = QuotedString(str(hydra.runtime.output_dir), Quote.single).with_quotes()
    return [
        *(sys.executable, "-m", PROGRAM),
        *_config_options(hydra),
        *(each for each in hydra.overrides.hydra if not each.lstrip("+~").startswith(SWEEPING)),
        *hydra.overrides.task,
        "hydra.mode=RUN",
        f"hydra.run.dir={folder}",
        "hydra.output_subdir=null",  # the launcher has written that
    ]


def _config_options(hydra: DictConfig) -> list[str]:
    flags = {"main": "--config-path", "command-line": "--config-dir"}
    sources = [s for s in hydra.runtime.config_sources if s.schema == "file"]
    places = [(flags[s.provider], s.path) for s in sources if s.provider in flags]
    options = [*places, ("--config-name", hydra.job.config_name)]
    return [str(part) for option in options for part in option]


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what an earlier distributed job may have left in it.

    What torchrun gave stays, and under Slurm the address that a script chose.

    >>> child_environment({"LOCAL_RANK": "1", "HOME": "/root"})
    {'HOME': '/root'}
    """
    left = {*SEEDS, SWEEP}
    if "TORCHELASTIC_RUN_ID" not in environ:
        left |= {*RANKS}
        left |= set() if "SLURM_JOB_ID" in environ else {*ADDRESS}
    return {name: value for name, value in environ.items() if name not in left}


def _gpus(hydra: DictConfig, config: DictConfig) -> dict[str, str]:
    """`CUDA_VISIBLE_DEVICES` of a job beside which others run on this machine."""
    gpus = [name for name in os.environ.get(SWEEP_GPUS, "").split(",") if name]
    if not gpus or hydra.launcher._target_ not in (JOBLIB, LOCAL):
        return {}
    single = str(OmegaConf.select(config, "trainer.devices")) == "1"
    return {VISIBLE: ",".join(gpus_of_job(int(hydra.job.num), gpus, single=single))}


def _sweep_goes_on() -> bool:
    return SWEEP_PID not in os.environ or is_alive(int(os.environ[SWEEP_PID]))
