"""Peak memory of visits with few and with many training images.

    python -m benchmarks.train_memory

EfficientNet-Lite0 on rendered faces, 13 layers x 7 concepts, 40 validation and 100 test images,
each visit in a process of its own, as train.py makes it. Prints the largest resident set of the
process, and its growth: what is kept of a layer has a bound.
"""

import argparse
import logging
import resource
import tempfile
from pathlib import Path

import pandas as pd
import torch

from benchmarks.own_process import in_own_process
from benchmarks.rendered import BATCH, lite0, trainers
from cavalcade.cli import prepare_process
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.report.tables import print_table
from cavalcade.visiting.visit import visit

WAYS = {"one_pass": Probes(), "stream": Probes(fit="stream", epochs=1)}


def main() -> None:
    """Visit with each number of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--fits", nargs="+", default=["one_pass"], choices=WAYS)
    args = parser.parse_args()
    rows = []
    for fit in args.fits:
        peaks = [in_own_process(peak_of_visit, fit, images)[0] for images in args.images]
        for images, peak in zip(args.images, peaks, strict=True):
            rows.append((fit, images, peak / 1e6, peak / peaks[0]))
    print_table(
        "Peak memory of a visit",
        pd.DataFrame(rows, columns=["fit", "training images", "GB", "times the first"]),
    )


def peak_of_visit(fit: str, images: int) -> float:
    """The largest resident set in kilobytes."""
    logging.disable(logging.WARNING)
    prepare_process()
    torch.set_num_threads(1)
    backbone = lite0()
    data = ConceptDataModule(
        Faces(num_images={"train": images, "val": 40, "test": 100}, size=144, grid=(72, 72)),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=BATCH,
    )
    with tempfile.TemporaryDirectory() as runs:
        visit(backbone, data, WAYS[fit], trainers("bf16-mixed"), runs=Path(runs), config={})
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
