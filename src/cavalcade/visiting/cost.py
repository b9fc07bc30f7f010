"""What a visit will cost: images through the network, seconds of forwards, bytes on disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts import Factorisation, Probes
from cavalcade.concepts.passes import as_memory_allows
from cavalcade.data import ConceptData
from cavalcade.galleries import ROW_BYTES
from cavalcade.visiting.trainers import FULL_PRECISION, autocast

CPU = torch.device("cpu")
FLOAT = 4  # bytes
STRENGTH = 2
CHECKPOINT = 4  # numbers of each coefficient: as it is, at its best, two moments
PICTURE_BYTES = 140_000  # scores.png and what else does not grow
LINE_BYTES = 60  # of a table
# what a cache changes, in words
IF_CACHED, BESIDE_CACHE = " (fewer where the cache holds them)", " beside the cache"
LONG = 0.2  # seconds for one image, above which a batch is not worth its time


@dataclass(frozen=True)
class Cost:
    """Of a visit.

    Attributes:
        images: that go through the network, each as often as it does.
        seconds: that the forwards alone take.
        num_bytes: of the run folder.
    """

    images: int
    seconds: float
    num_bytes: float

    @property
    def megabytes(self) -> float:
        """Of the run folder."""
        return self.num_bytes / 1e6


def cost_of(
    backbone: FrozenBackbone,
    data: ConceptData,
    method: Probes | Factorisation,
    *,
    sizes: Mapping[str, int],
    labels: Sequence[str],
    seconds_per_image: float,
) -> Cost:
    """What a visit will cost, as far as it is known before.

    Args:
        backbone: the network.
        data: the images.
        method: how concepts are found.
        sizes: images of each split.
        labels: names of the labelled concepts.
        seconds_per_image: of a forward.
    """
    images = method.images_seen(sizes)
    return Cost(images, images * seconds_per_image, _bytes(backbone, data, method, sizes, labels))


def _bytes(
    backbone: FrozenBackbone,
    data: ConceptData,
    method: Probes | Factorisation,
    sizes: Mapping[str, int],
    labels: Sequence[str],
) -> float:
    masks, layers = method.masks_of_layer(labels), len(backbone.layers)
    rows, columns = data.grid
    channels = sum(layer.channels for layer in backbone.layers)
    bits = sizes["test"] * (masks * layers + 1) * rows * columns  # and where the network saw
    pooled = sizes["test"] * (channels * FLOAT + masks * layers * STRENGTH)
    mined = isinstance(method, Factorisation)
    vectors = masks * channels * FLOAT * (1 if method.checkpoints is None else 1 + CHECKPOINT)
    pages = ROW_BYTES * masks * layers if mined and data.thumbnails is not None else 0
    return bits / 8 + pooled + vectors + pages + PICTURE_BYTES + LINE_BYTES * masks * layers


def seconds_per_image(
    backbone: FrozenBackbone,
    batch_size: int,
    precision: str = FULL_PRECISION[0],
    device: torch.device = CPU,
) -> float:
    """Of a forward after a first one; in a batch, unless one image takes long by itself.

    The batch is as large as the device has memory for, which says nothing of other devices.
    The forward is not compiled.

    Args:
        backbone: stays where it is.
        batch_size: images of a batch.
        precision: of the trainer that will run it.
        device: on which `backbone` is.
    """

    def measured(images: int) -> float:
        inputs = torch.zeros(images, 3, *backbone.preprocessing.size, device=device)
        with autocast(precision, device):
            _timed(backbone, inputs)  # allocates, and chooses its algorithms
            return _timed(backbone, inputs) / images

    before = backbone.images_at_once
    try:
        single = as_memory_allows(backbone, 1, measured)
        if single > LONG or batch_size == 1:
            return single
        return as_memory_allows(backbone, batch_size, measured)
    finally:
        backbone.images_at_once = before


def _timed(backbone: FrozenBackbone, inputs: torch.Tensor) -> float:
    start = time.perf_counter()
    maps = backbone.uncompiled(inputs.contiguous(memory_format=torch.channels_last))
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    del maps
    return time.perf_counter() - start
