"""Peak memory of visits with few and with many training images.

    python -m benchmarks.train_memory

EfficientNet-Lite0, 13 layers x 7 concepts, 40 validation and 100 test images, which lie on the
disk as a user's do: rendered faces, written as a labelled folder first. Each visit is a process of
its own, as train.py makes it. Prints the largest resident set of the process, and its growth: what
is kept of a layer has a bound.
"""

import json
import logging
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.own_process import in_own_process
from benchmarks.quiet import quiet
from benchmarks.rendered import BATCH, lite0, trainers
from cavalcade.cli import prepare_process, run
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces, Folder
from cavalcade.data.face_parts import FACE_CONCEPTS
from cavalcade.report.tables import print_table
from cavalcade.visiting.visit import visit

WAYS = {"one_pass": Probes(), "stream": Probes(fit="stream", epochs=1)}


def main() -> None:
    """Visit with each number of images."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--images",
        type=at_least_one,
        nargs="+",
        default=[500, 5000],
        help="for training, of each visit",
    )
    parser.add_argument(
        "--fits", nargs="+", default=["one_pass"], choices=WAYS, help="as concepts.fit"
    )
    args = parser.parse_args()
    rows = []
    for fit in args.fits:
        peaks = []
        for images in args.images:
            with tempfile.TemporaryDirectory() as folder:
                write_faces(Path(folder), {"train": images, "val": 40, "test": 100})
                peaks.append(in_own_process(peak_of_visit, fit, Path(folder))[0])
        for images, peak in zip(args.images, peaks, strict=True):
            rows.append((fit, images, peak / 1e6, peak / peaks[0]))
    print_table(
        "Peak memory of a visit",
        pd.DataFrame(rows, columns=["fit", "training images", "GB", "times the first"]),
    )


def write_faces(root: Path, sizes: Mapping[str, int]) -> None:
    """Rendered faces as the labelled folder of a user."""
    (root / "classes.json").write_text(json.dumps({"names": FACE_CONCEPTS, "background": 255}))
    faces = Faces(num_images=dict(sizes), size=144)
    for split in sizes:
        drawn = faces.open(split)
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index, name in enumerate(drawn.ids):
            picture = drawn.image(index).movedim(0, -1).numpy()
            masks = drawn.labels(index).masks
            parts = torch.where(masks.any(dim=0), masks.int().argmax(dim=0), 255).byte().numpy()
            Image.fromarray(picture).save(root / "images" / split / f"{name}.png")
            Image.fromarray(parts).save(root / "masks" / split / f"{name}.png")


def peak_of_visit(fit: str, root: Path) -> float:
    """The largest resident set in kilobytes."""
    logging.disable(logging.WARNING)
    prepare_process()
    torch.set_num_threads(1)
    backbone = lite0()
    data = ConceptDataModule(
        Folder(root=str(root), grid=(72, 72)),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=BATCH,
    )
    with tempfile.TemporaryDirectory() as runs, quiet():
        visit(backbone, data, WAYS[fit], trainers("bf16-mixed"), runs=Path(runs), config={})
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    run(main)
