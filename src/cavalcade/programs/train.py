"""Reduces networks on a data set to run folders: python train.py --help."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from cavalcade import cli
from cavalcade.concepts import ActivationCache
from cavalcade.data import ConceptDataModule
from cavalcade.errors import InputError
from cavalcade.report.choices import print_choices
from cavalcade.report.layers import print_layers
from cavalcade.report.public_config import without_secrets
from cavalcade.report.tracking import Tracker, tracker_of
from cavalcade.sweeping.apart import runs_apart, sweep_name
from cavalcade.sweeping.outcome import leaves_outcome
from cavalcade.visiting.signals import told_to_stop
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit
from cavalcade.visiting.visited import Visited

KEYS = (
    *("backbone", "data", "concepts", "trainer", "logger"),
    *("seed", "batch_size", "num_workers", "runs", "force", "list", "list_layers", "estimate"),
    *("artifacts", "compile", "cache", "cache_gigabytes"),
)
SWITCHES = ("force", "artifacts", "compile", "estimate")


@hydra.main(version_base="1.3", config_path="pkg://cavalcade.conf", config_name="train")
@cli.forgets_secrets
@runs_apart
@leaves_outcome
def main(config: DictConfig) -> Visited | None:
    """Visit one network; under -m one of many."""
    if config.list is not None:
        print_choices(str(config.list))
        return None
    cli.check_config(config, KEYS)
    cli.check_settings(config, SWITCHES, ("runs", "cache"), optional=("cache",))
    if config.cache is None and config.cache_gigabytes is not None:
        raise InputError("cache_gigabytes needs a folder that it bounds; add cache=…")
    if config.list_layers:
        print_layers(instantiate(config.backbone, _convert_="all"), config.list_layers)
        return None
    # the run of W&B starts once the visit knows what it is called, hence a factory
    make = instantiate(config.logger, _convert_="all", _partial_=True)
    tracker = tracker_of(make, group=sweep_name(), artifacts=config.artifacts)
    status = "failed"
    try:
        with told_to_stop():
            visited = train(config, tracker)
        status = "success"
    finally:
        tracker.finish(status)
    return visited


def train(config: DictConfig, tracker: Tracker) -> Visited:
    """Build what the config names, and visit the network."""
    trainers = Trainers(instantiate(config.trainer, _convert_="all"))
    trainers.start()
    cache = cache_of(config)  # before images are read
    data = instantiate(config.data, _convert_="all")
    backbone = instantiate(config.backbone, _convert_="all")
    if config.compile:
        backbone.compile_taps()
    method = instantiate(config.concepts, _convert_="all")
    loader = ConceptDataModule(
        data,
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        seed=config.seed,
        splits=method.splits,
    )
    return visit(
        backbone,
        loader,
        method,
        trainers,
        runs=Path(str(config.runs)).expanduser(),
        config=without_secrets(cli.as_plain(config)),  # a run folder may be passed on
        force=config.force,
        tracker=tracker,
        cache=cache,
    )


def cache_of(config: DictConfig) -> ActivationCache | None:
    """Where activations are kept, if anywhere."""
    if config.cache is None:
        return None
    folder = Path(str(config.cache)).expanduser()
    if config.cache_gigabytes is None:
        return ActivationCache(folder)
    return ActivationCache(folder, config.cache_gigabytes)


def run() -> None:
    """What `python train.py` and `cavalcade-train` do."""
    cli.run(main)


if __name__ == "__main__":
    run()
