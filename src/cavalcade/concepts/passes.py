"""What every pass over a split has in common: a frozen network and a name for the user."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.concept_set import ConceptSet

Tensors = TypeVar("Tensors")


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
    """What several batches gave, dataclasses of tensors of which images come first, as one."""
    build: Callable[..., Tensors] = type(parts[0])
    return build(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def computed(metric: Metric) -> tuple[Tensor, ...]:
    """The vectors that a metric computes; torchmetrics makes scalars of those of one entry."""
    value = metric.compute()
    values = value if isinstance(value, tuple) else (value,)
    return tuple(entry.reshape(1) if entry.ndim == 0 else entry for entry in values)
