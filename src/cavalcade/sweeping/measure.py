"""Measures what visits will cost, in a process of its own: python -m cavalcade.sweeping.measure.

Networks get random weights, since only their size matters: nothing is downloaded.
"""

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from cavalcade.backbones import FrozenBackbone
from cavalcade.cli import prepare_process
from cavalcade.data import ConceptData, ConceptDataset
from cavalcade.visiting.cost import Cost, cost_of, seconds_per_image
from cavalcade.visiting.trainers import Trainers

BUDGET = 120.0  # seconds, after which no other network is built
UNIMPORTANT = ("seed", "label")  # to the cost of a network

Config = Mapping[str, Any]


def main(asked: Path, answer: Path) -> None:
    """Write a line for each config: images, seconds, bytes, its network, or null."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    with answer.open("w", encoding="utf-8") as file:
        for config in json.loads(asked.read_text(encoding="utf-8")):
            line = None
            with contextlib.suppress(Exception):  # the job itself will say what is wrong
                network = config and _network_key(config)
                known = network in _measured
                if config and (known or time.perf_counter() - start < BUDGET):
                    line = {**vars(measure(config)), "network": network, "took": _took[network]}
            file.write(json.dumps(line) + "\n")
            file.flush()


def measure(config: Config) -> Cost:
    """The cost of one job."""
    data, method = _data(_frozen(config["data"])), _instantiated(config["concepts"])
    backbone, seconds = _network(config)
    sets = {split: _split(_frozen(config["data"]), split) for split in method.splits}
    return cost_of(
        backbone,
        data,
        method,
        sizes={split: len(dataset) for split, dataset in sets.items()},
        labels=sets["test"].concepts,
        seconds_per_image=seconds / _processes(config["trainer"]),
    )


_measured: dict[str, tuple[FrozenBackbone, float] | None] = {}
_took: dict[str, float] = {}  # seconds, to build and to measure it


def _network(config: Config) -> tuple[FrozenBackbone, float]:
    """A network, on the meta device by now, and seconds for an image."""
    key = _network_key(config)
    if key not in _measured:
        _measured[key], start = None, time.perf_counter()  # one that fails is not tried again
        own = dict(config["backbone"])
        backbone = _instantiated(own | ({"weights": "random"} if "weights" in own else {}))
        trainers = _trainers(config)
        seconds = seconds_per_image(
            backbone.to(trainers.device),
            config["batch_size"],
            trainers.precision,
            trainers.device,
        )
        _measured[key] = backbone.to("meta"), seconds
        _took[key] = time.perf_counter() - start
    found = _measured[key]
    if found is None:
        raise ValueError("a network that cannot be built")
    return found


def _network_key(config: Config) -> str:
    own = {k: v for k, v in config["backbone"].items() if k not in (*UNIMPORTANT, "weights")}
    trainers = _trainers(config)
    asked = [own, config["batch_size"], trainers.precision, str(trainers.device)]
    return json.dumps(asked, sort_keys=True)


def _trainers(config: Config) -> Trainers:
    return Trainers(_instantiated(config["trainer"]))


def _processes(trainer: Config) -> int:
    """Among which images are shared out, where the numbers are given."""
    counts = [trainer.get(key, 1) for key in ("devices", "num_nodes")]
    devices, nodes = (int(n) if str(n).isdigit() else 1 for n in counts)
    return max(1, devices * nodes)


def _frozen(config: Config) -> str:
    return json.dumps(config, sort_keys=True)


@lru_cache(maxsize=8)
def _data(config: str) -> ConceptData:
    return _instantiated(json.loads(config))


@lru_cache(maxsize=24)
def _split(config: str, split: str) -> ConceptDataset:
    return _data(config).split(split)


def _instantiated(config: Config) -> Any:  # noqa: ANN401
    return instantiate(OmegaConf.create(dict(config)), _convert_="all")


if __name__ == "__main__":
    prepare_process()
    main(*map(Path, sys.argv[1:]))
