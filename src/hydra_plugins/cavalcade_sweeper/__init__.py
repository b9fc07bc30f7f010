"""A Hydra sweeper that no job stops: neither a mistyped option nor one that is killed.

Hydra looks for its plugins in packages under `hydra_plugins`, and nowhere else.
"""

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cavalcade import cli
from cavalcade.children import sigterm_raises
from cavalcade.errors import InputError
from cavalcade.hydra_errors import sentence
from cavalcade.report.public_config import without_secret_values
from cavalcade.sweeping.apart import BASIC, JOBLIB, LOCAL, SLURM, SWEEP_GPUS, SWEEP_PID
from cavalcade.sweeping.estimate import estimate, print_estimate
from cavalcade.sweeping.gpus import visible_gpus
from cavalcade.sweeping.jobs import SweepJob, print_outcomes, save_jobs
from cavalcade.sweeping.outcome import Outcome
from cavalcade.value_files import with_values

BESIDE = 2  # jobs of submitit at once on a machine without GPUs

log = logging.getLogger(__name__)


class TolerantSweeper(BasicSweeper):
    """Runs every job of a sweep that can be composed, and says what became of each."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher.

        Raises:
            InputError: if its package is missing.
        """
        _check_installed(config.hydra.launcher._target_)
        if config.hydra.launcher._target_ == SLURM:
            _check_devices(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Say what the jobs will cost, run them, and say what became of them."""
        assert self.config is not None
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if not cli.holds_secrets(self.config):  # which Hydra keeps in no job's folder either
            OmegaConf.save(self.config, folder / "multirun.yaml")
        jobs, configs = self._jobs(with_values([*self._parse_config(), *arguments]), folder)
        if any(config.get("list") is not None for config in configs):
            raise InputError("list= says what can be chosen, and needs no sweep; leave out -m")
        save_jobs(jobs, folder)
        self._tell_jobs()
        ready = [job for job in jobs if job.folder is not None]
        with sigterm_raises():
            listing = any(config.get("list_layers") for config in configs)
            if self.config.get("estimate") and configs and not listing:
                runs = Path(str(configs[0].runs))
                found = estimate(configs, folder)
                print_estimate(found, ready, runs, self._at_once(len(ready)))
            try:
                self._launch(ready)
            finally:
                save_jobs(jobs, folder)  # with what launchers said
                for reason in print_outcomes(folder):
                    cli.note_failure(reason)

    def _jobs(
        self, arguments: Sequence[str], folder: Path
    ) -> tuple[list[SweepJob], list[DictConfig]]:
        """All jobs, and the configs of those that can be composed."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (batch,) = self.split_arguments(parser.parse_overrides(list(arguments)), None)
        jobs: list[SweepJob] = []
        configs: list[DictConfig] = []
        for overrides in batch:
            try:
                config = self._composed(overrides, len(configs))
            except (HydraException, OmegaConfBaseException, InputError) as error:
                reason = sentence(error)
                given = " ".join(without_secret_values(overrides))
                cli.fail(f"job {given} left out: {reason}")
                jobs.append(SweepJob(list(overrides), None, reason))
                continue
            own = folder / str(OmegaConf.select(config, "hydra.sweep.subdir"))
            Outcome.forget(own)
            jobs.append(SweepJob(list(overrides), str(own)))
            configs.append(config)
        return jobs, configs

    def _composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config of a job as its launcher will compose it."""
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        if self.config.hydra.launcher._target_ == SLURM:
            for key in ("trainer.devices", "trainer.num_nodes"):
                if OmegaConf.select(config, key) != OmegaConf.select(self.config, key):
                    raise InputError(
                        f"{key} differs between jobs, and Slurm gives all jobs of a sweep the "
                        "same; make a sweep of each"
                    )
        return config

    def _tell_jobs(self) -> None:
        """What jobs that run on this machine find in their environment."""
        gpus = visible_gpus(os.environ, torch.cuda.device_count())  # which does not start CUDA
        os.environ[SWEEP_GPUS] = ",".join(gpus)
        os.environ[SWEEP_PID] = str(os.getpid())

    def _launch(self, jobs: Sequence[SweepJob]) -> None:
        """Launch batch after batch; one whose launcher gives up does not stop the next."""
        assert self.launcher is not None
        size = self._batch_size(len(jobs))
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            try:
                results = self.launcher.launch(
                    [job.overrides for job in batch], initial_job_idx=start
                )
                for result in results:
                    _ = result.return_value  # raises what the job did
            except Exception as error:
                line = str(error).strip().partition("\n")[0]
                log.error("the launcher gave up: %s: %s", type(error).__name__, line)
                for job in batch:
                    if Outcome.load(Path(str(job.folder))) is None:
                        job.reason = f"the launcher gave up ({type(error).__name__}: {line})"

    def _batch_size(self, count: int) -> int:
        """Jobs that are handed to the launcher together."""
        assert self.config is not None
        if self.max_batch_size is None and self.config.hydra.launcher._target_ == LOCAL:
            return len(os.environ[SWEEP_GPUS].split(",")) if os.environ[SWEEP_GPUS] else BESIDE
        return max(1, self.max_batch_size or count)

    def _at_once(self, count: int) -> int:
        """How many jobs run at the same time, as far as the launcher says."""
        assert self.config is not None
        launcher = self.config.hydra.launcher
        if launcher._target_ == JOBLIB:
            at_once = int(launcher.n_jobs)
            return at_once if at_once > 0 else os.cpu_count() or 1
        if launcher._target_ == SLURM:
            return int(launcher.array_parallelism)
        return self._batch_size(count) if launcher._target_ == LOCAL else 1


def _check_installed(target: str) -> None:
    """Raise unless the package of a launcher is installed.

    Raises:
        InputError: naming what to install.
    """
    package = ".".join(target.split(".")[:2])
    if target != BASIC and importlib.util.find_spec(package) is None:
        plugin = package.rpartition(".")[2].replace("_", "-")
        raise InputError(
            f"hydra/launcher needs the package {plugin}, which is not installed; run "
            "pip install 'cavalcade[sweep]'"
        )


def _check_devices(config: DictConfig) -> None:
    """Raise unless the trainer says how many devices to ask Slurm for.

    Raises:
        InputError: naming the setting.
    """
    for key in ("trainer.devices", "trainer.num_nodes"):
        count: Any = OmegaConf.select(config, key)
        if count is not None and not (str(count).isdigit() and int(count) > 0):
            raise InputError(f"{key} is {count!r}; give a number, which Slurm is asked for")
