"""What every pass over a split has in common: a frozen network and a name for the user."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.memory import garbage_collection_cuda
from torch import Tensor
from torchmetrics import Metric

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.backbones.memory import is_out_of_memory
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.finite import are_usable, check_each
from cavalcade.data.batches import ConceptBatch, NetworkView
from cavalcade.errors import InputError

TrainerFactory = Callable[..., Trainer]
Tensors = TypeVar("Tensors")
Seen = TypeVar("Seen")

log = logging.getLogger(__name__)


def as_memory_allows(backbone: FrozenBackbone, images: int, work: Callable[[int], Seen]) -> Seen:
    """What some work gives with as many images at once as the device has memory for.

    Whenever it has not, half as many go through the network from then on.

    Args:
        backbone: the network.
        images: the most.
        work: of a number of images; it is done again after memory ran out.

    Raises:
        InputError: if there is no memory for a single image.
    """
    while True:
        most = min(images, backbone.images_at_once, backbone.fastest_at_once)
        try:
            return work(most)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # what was seen so far is let go with the error, so that its memory is free by now
        _halve(backbone, most)


def _halve(backbone: FrozenBackbone, images: int) -> None:
    if images == 1:
        raise InputError(
            f"the device has no memory for one image of {backbone.label}; set a smaller "
            "backbone.image_size or fewer backbone.layers, or trainer.accelerator=cpu"
        )
    backbone.images_at_once = images // 2
    log.warning(
        "the device has no memory for %d images of %s at once; %d go through it, "
        "with the same results up to rounding",
        *(images, backbone.label, images // 2),
    )
    garbage_collection_cuda()


class BackbonePass(LightningModule):
    """A LightningModule around a frozen network, which never enters a checkpoint.

    Attributes:
        phase: what the pass does, in a word for the progress bar.
    """

    phase = ""

    def __init__(self, backbone: FrozenBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.strict_loading = False  # the network is not in the checkpoint, see below

    def activations(self, batch: ConceptBatch) -> dict[str, Tensor]:
        """Maps (images, channels, rows, columns) of every layer: computed, unless stored.

        Raises:
            InputError: for some with which nothing can be computed; see `check_each`.
        """
        maps = batch.activations or self.backbone(batch.inputs)
        # an idle batch, of an image that another process has, names none
        if not are_usable(maps.values()) and batch.positions[0] >= 0:
            check_each(self.backbone.label, self.backbone.model, maps, self._ids(batch))
        return maps

    def _ids(self, batch: ConceptBatch) -> list[str]:
        """Of the images of a batch, as their data set calls them."""
        if self.trainer.training:
            loader = self.trainer.train_dataloader
        elif self.trainer.validating:
            loader = self.trainer.val_dataloaders
        else:
            loader = self.trainer.test_dataloaders
        assert loader is not None
        view = loader.dataset
        assert isinstance(view, NetworkView)
        return [view.dataset.ids[place] for place in batch.positions.tolist()]

    def in_parts(
        self, batch: ConceptBatch, look: Callable[[ConceptBatch], Seen]
    ) -> Iterator[tuple[ConceptBatch, Seen]]:
        """The parts of a batch, and what `look` sees in each.

        There is one part, of as many images as are fastest on the device. Where it runs out of
        memory, parts have half as many from then on, and that one is looked at again. So `look`
        must change nothing. There is none of a batch that only keeps a process busy.

        Raises:
            InputError: if there is no memory for a single image.
        """
        if processes.count() > 1 and batch.positions[0] < 0:
            return
        first = 0

        def look_at(images: int) -> tuple[ConceptBatch, Seen]:
            part = batch.part(first, first + images)
            return part, look(part)

        while first < len(batch.positions):
            part, seen = as_memory_allows(self.backbone, len(batch.positions) - first, look_at)
            yield part, seen
            first += len(part.positions)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the network's weights out: they belong to the zoo."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key: value for key, value in state.items() if not key.startswith("backbone.")
        }


class ConceptPass(BackbonePass):
    """A pass that looks where the concepts of all replicates fire."""

    def __init__(
        self, backbone: FrozenBackbone, replicates: Sequence[ConceptSet], grid: Sequence[int]
    ) -> None:
        super().__init__(backbone)
        self.replicates, self.grid = tuple(replicates), grid

    def on_test_start(self) -> None:
        """Take the concepts to the network's device."""
        self.replicates = tuple(concepts.to(self.device) for concepts in self.replicates)


def joined(parts: Sequence[Tensors]) -> Tensors:
    """What several batches gave, tensors or dataclasses of them with images first, as one."""
    return _of_tensors(lambda *each: torch.cat(each), *parts)


def taken(whole: Tensors, order: Tensor) -> Tensors:
    """The images of a tensor, or of a dataclass of them, in another order."""
    return _of_tensors(lambda tensor: tensor[order], whole)


def copied(whole: Tensors) -> Tensors:
    """A copy with memory of its own, of a view too."""
    return _of_tensors(lambda tensor: tensor.clone(), whole)


def _of_tensors(work: Callable[..., Tensor], *parts: Tensors) -> Tensors:
    build: Callable[..., Tensors] = type(parts[0])
    if isinstance(parts[0], Tensor):
        made: Any = work(*parts)
        return made
    return build(*(work(*(getattr(part, name) for part in parts)) for name in vars(parts[0])))


def computed(metric: Metric) -> tuple[Tensor, ...]:
    """The vectors that a metric computes; torchmetrics makes scalars of those of one entry."""
    value = metric.compute()
    values = value if isinstance(value, tuple) else (value,)
    return tuple(entry.reshape(1) if entry.ndim == 0 else entry for entry in values)
