"""The first pass over the training images: channel statistics, and how large each concept is."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchmetrics import Metric

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.passes import BackbonePass
from cavalcade.data.batches import WHOLE_FRAME, ConceptBatch, Targets
from cavalcade.data.geometry import cells_inside

QUANTILE = 0.995
QUANTILE_ROWS = 20_000


class Channels(Metric, ABC):
    """A statistic of every channel over images; `look` sees what `update` takes of a batch."""

    full_state_update = False

    @abstractmethod
    def look(
        self,
        activations: Float[Tensor, "images channels rows columns"],
        inside: Bool[Tensor, "images rows columns"],
        positions: Int[Tensor, " images"],
    ) -> tuple[Tensor, ...]:
        """Of the pixels inside the images; changes nothing."""

    def fill_up(self) -> None:
        """Let a process that saw no image take part in what all of them compute."""


class ChannelMoments(Channels):
    """Mean and standard deviation of every channel over all pixels of images, in float64."""

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        zeros = torch.zeros(num_channels, dtype=torch.float64)
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("squares", zeros.clone(), dist_reduce_fx="sum")

    def look(
        self,
        activations: Float[Tensor, "images channels rows columns"],
        inside: Bool[Tensor, "images rows columns"],
        positions: Int[Tensor, " images"],  # noqa: ARG002
    ) -> tuple[Tensor, ...]:
        """How many pixels there are, their mean and variance."""
        count = inside.sum()
        if count == inside.numel():
            variance, mean = torch.var_mean(activations, dim=(0, 2, 3), correction=0)
        else:
            variance, mean = torch.var_mean(activations.movedim(1, -1)[inside], 0, correction=0)
        return count, mean.double(), variance.double()

    def update(
        self,
        count: Int[Tensor, ""],
        mean: Float[Tensor, " channels"],
        variance: Float[Tensor, " channels"],
    ) -> None:
        """Add what was seen of a batch."""
        self.count += count
        self.total += count * mean
        self.squares += count * (variance + mean**2)

    def compute(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Mean and standard deviation."""
        mean = self.total / self.count
        return mean.float(), (self.squares / self.count - mean**2).clamp(min=0).sqrt().float()


class ChannelQuantiles(Channels):
    """Each channel's quantile, from evenly spaced pixels of every image."""

    rows: list[Tensor]

    def __init__(self, num_channels: int, rows_per_image: int) -> None:
        super().__init__()
        self.num_channels, self.rows_per_image = num_channels, rows_per_image
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def look(
        self,
        activations: Float[Tensor, "images channels rows columns"],
        inside: Bool[Tensor, "images rows columns"],
        positions: Int[Tensor, " images"],
    ) -> tuple[Tensor, ...]:
        """Some pixels of each image; the start of the comb differs between images."""
        pixels = activations.flatten(2)
        size = pixels.shape[2]
        comb = (
            torch.arange(self.rows_per_image, device=positions.device) * size / self.rows_per_image
        )
        start = (positions * 0.6180339887498949 % 1) * size  # golden ratio: never in step
        cells = (comb[None] + start[:, None]).long() % size
        chosen = pixels.gather(2, cells[:, None].expand(-1, pixels.shape[1], -1))
        return (chosen.transpose(1, 2)[inside.flatten(1).gather(1, cells)].float(),)

    def update(self, rows: Float[Tensor, "rows channels"]) -> None:
        """Keep some pixels."""
        self.rows.append(rows)

    def fill_up(self) -> None:
        """Keep no pixel, where there is none: processes can exchange that, but not nothing."""
        if isinstance(self.rows, list) and not self.rows:
            self.rows.append(torch.empty(0, self.num_channels, device=self.device))

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """The quantiles (channels,), and mean and deviation of what exceeds them."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        rank = math.ceil(QUANTILE * len(rows))
        quantiles = rows.sort(dim=0).values[rank - 1]
        share = (rows > quantiles).float().mean(dim=0)
        return quantiles, share, (share * (1 - share)).sqrt()


class ConceptShares(Metric):
    """How much of the labelled area each concept covers, and how much area is labelled.

    Args:
        num_replicates: R, each of which looks at images of its own.
        num_concepts: K.
        containing: count only the images that contain the concept.
    """

    full_state_update = False
    present: Tensor
    labelled: Tensor
    images: Tensor

    def __init__(self, num_replicates: int, num_concepts: int, *, containing: bool) -> None:
        super().__init__()
        self.containing = containing
        zeros = torch.zeros(num_replicates, num_concepts, dtype=torch.float64)
        self.add_state("present", zeros, dist_reduce_fx="sum")
        self.add_state("labelled", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("images", zeros[:, :1].clone(), dist_reduce_fx="sum")

    def update(self, targets: Targets, members: Bool[Tensor, "replicates images"]) -> None:
        """Add the images of a batch, each to its replicates; targets for the whole frame."""
        present = targets.present.double().mean(dim=(2, 3))
        labelled = targets.labelled.double().mean(dim=(2, 3))
        counted = present > 0 if self.containing else torch.ones_like(present)
        own = members[..., None]
        self.present += (own * present * counted).sum(dim=1)
        self.labelled += (own * labelled * counted).sum(dim=1)
        self.images += own.sum(dim=1)

    def compute(
        self,
    ) -> tuple[Float[Tensor, "replicates concepts"], Float[Tensor, "replicates concepts"]]:
        """Weight alpha (1 - mean share) and mean labelled area per image of each concept."""
        share = torch.where(self.labelled > 0, self.present / self.labelled, 0.0)
        return (1 - share).float(), (self.labelled / self.images).float()


class Survey(BackbonePass):
    """One pass over the training images before any probe is fitted.

    Args:
        backbone: the frozen network.
        num_concepts: K.
        members: which training images each replicate learns from.
        transform: what happens to activations before they are probed.
        containing: a concept's size is that in the images that contain it.
    """

    phase = "surveying training images"
    members: Tensor

    def __init__(
        self,
        backbone: FrozenBackbone,
        num_concepts: int,
        members: Bool[Tensor, "replicates images"],
        *,
        transform: str,
        containing: bool,
    ) -> None:
        super().__init__(backbone)
        rows_per_image = math.ceil(QUANTILE_ROWS / members.shape[1])
        self.register_buffer("members", members, persistent=False)
        self.shares = ConceptShares(len(members), num_concepts, containing=containing)
        self.channels: list[Channels] = [
            ChannelQuantiles(layer.channels, rows_per_image)
            if transform == "quantile"
            else ChannelMoments(layer.channels)
            for layer in backbone.layers
        ]
        self.registered = nn.ModuleList(self.channels)  # follow the module to its device

    def test_step(self, batch: ConceptBatch) -> None:
        """Look at one batch."""
        for part, seen in self.in_parts(batch, self._look):
            self.shares.update(part.targets[WHOLE_FRAME], self.members[:, part.positions])
            for channels, found in zip(self.channels, seen, strict=True):
                channels.update(*found)

    def on_test_end(self) -> None:
        """Be ready to compute, whatever this process saw."""
        for channels in self.channels:
            channels.fill_up()

    def _look(self, batch: ConceptBatch) -> list[tuple[Tensor, ...]]:
        """What the statistics of each layer take of a batch."""
        activations = self.activations(batch)
        seen = []
        for name, channels in zip(self.backbone.names, self.channels, strict=True):
            inside = cells_inside(batch.frames, activations[name].shape[2:])
            seen.append(channels.look(activations[name], inside, batch.positions))
        return seen
