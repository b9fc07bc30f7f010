"""Reduces networks on a data set to run folders: python train.py --help."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from cavalcade import cli
from cavalcade.data import ConceptDataModule
from cavalcade.report.layers import print_layers
from cavalcade.report.tracking import finish
from cavalcade.sweeping.apart import runs_apart
from cavalcade.sweeping.outcome import leaves_outcome
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit
from cavalcade.visiting.visited import Visited

KEYS = (
    *("backbone", "data", "concepts", "trainer", "logger"),
    *("seed", "batch_size", "num_workers", "runs", "force", "list_layers", "estimate"),
)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@runs_apart
@leaves_outcome
def main(config: DictConfig) -> Visited | None:
    """Visit one network; under -m one of many."""
    cli.check_config(config, KEYS)
    if config.list_layers:
        print_layers(instantiate(config.backbone, _convert_="all"), config.list_layers)
        return None
    logger = instantiate(config.logger, _convert_="all") or None  # logger=none is empty
    status = "failed"
    try:
        visited = train(config, logger)
        status = "success"
    finally:
        finish(logger, status)
    return visited


def train(config: DictConfig, logger: Logger | None) -> Visited:
    """Build what the config names, and visit the network."""
    trainers = Trainers(instantiate(config.trainer, _convert_="all"), logger)
    trainers.start()
    data = instantiate(config.data, _convert_="all")
    backbone = instantiate(config.backbone, _convert_="all")
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
        config=cli.as_plain(config),
        force=config.force,
    )


if __name__ == "__main__":
    cli.run(main)
