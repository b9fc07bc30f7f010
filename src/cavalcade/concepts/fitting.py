"""Fits the probes of all concepts at all layers in one forward of the frozen network."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.passes import BackbonePass, computed
from cavalcade.concepts.probes import (
    StackedProbes,
    logit_gradient,
    probe_loss,
    weighted_classes,
    weighted_cost,
)
from cavalcade.concepts.survey import Survey
from cavalcade.data.batches import WHOLE_FRAME, ConceptBatch
from cavalcade.errors import InputError

LOGGED = 10  # steps, of which one computes the loss itself

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class MeanOverImages(Metric):
    """Mean of each number over all images."""

    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, values: Float[Tensor, "images *shape"]) -> None:
        """Add the images of a batch."""
        self.total += values.sum(dim=0)
        self.images += len(values)

    def compute(self) -> Float[Tensor, "*shape"]:
        """The means."""
        return self.total / self.images


class ProbeFit(BackbonePass):
    """Trains every probe as if it were alone, all of them in one forward.

    The loss is the sum over layers, replicates and concepts, each averaged over its labelled
    pixels of all training images of its replicate. Nothing couples two probes: no gradient is
    clipped, the learning rate falls along a cosine that depends on the step alone, and every
    probe keeps the parameters of its own best epoch on the validation images, which are the
    same for all replicates.

    Args:
        backbone: the frozen network.
        concepts: their names.
        members: which training images each replicate learns from.
        loss: `balanced` or `net2vec`; see `probe_loss`.
        containing: average each concept over the images that contain it, as Net2Vec does.
        transform: what happens to activations first: `none` or `quantile`.
        optimizer: given the parameters, the optimizer.
        l2: strength of regularisation, see `Probes`.
        batch_size: images per step.
        seed: of the initial probes.
    """

    phase = "fitting probes"
    alpha: Tensor
    area: Tensor
    members: Tensor

    def __init__(
        self,
        backbone: FrozenBackbone,
        concepts: Sequence[str],
        members: Bool[Tensor, "replicates images"],
        *,
        loss: str,
        containing: bool,
        transform: str,
        optimizer: OptimizerFactory,
        l2: float,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(backbone)
        self.loss, self.containing = loss, containing
        self.optimizer, self.l2, self.batch_size = optimizer, l2, batch_size
        heads = (len(members), len(concepts))
        self.probes = [
            StackedProbes(
                layer.name,
                concepts,
                layer.channels,
                replicates=len(members),
                transform=transform,
                seed=seed,
            )
            for layer in backbone.layers
        ]
        self.val_losses = [MeanOverImages(*heads) for _ in backbone.layers]
        # a dictionary would forbid the dots in the names of layers
        self.heads = nn.ModuleList(self.probes)
        self.val_present = MeanOverImages(len(concepts))
        self.registered = nn.ModuleList(self.val_losses)
        self.history: list[list[float]] = []
        self._logging = True
        self.register_buffer("alpha", torch.ones(heads))
        self.register_buffer("area", torch.ones(heads))
        self.register_buffer("members", members, persistent=False)

    def start_from(self, survey: Survey) -> None:
        """Take channel statistics and concept sizes from the first pass."""
        self.alpha, self.area = (part.view_as(self.alpha) for part in computed(survey.shares))
        for probes, channels in zip(self.probes, survey.channels, strict=True):
            *quantiles, mean, deviation = computed(channels)
            if quantiles:
                probes.quantiles.copy_(quantiles[0])
            probes.standardise(mean, deviation)

    def absent(self) -> Bool[Tensor, "replicates concepts"]:
        """Concepts without a single labelled pixel in the training images of a replicate."""
        return (self.alpha >= 1) | (self.area <= 0)

    def training_step(self, batch: ConceptBatch, batch_idx: int = 0) -> Tensor:
        """A loss whose gradients are those of the summed loss of all probes on one batch.

        They are added up part by part, see `in_parts`, and the processes meet once. The summed
        loss of the first replicate is logged, of one step in ten: it takes longer than they do.
        """
        self._logging = batch_idx % LOGGED == 0
        gradients = [torch.zeros_like(each) for each in self.heads.parameters()]
        logged = torch.zeros((), device=self.device)
        for _, (total, own) in self.in_parts(batch, self._gradients):
            logged += total
            for gradient, part in zip(gradients, own, strict=True):
                gradient += part
        self._regularise(gradients)
        shares = processes.count()  # processes average what each has of the sum
        if self._logging:
            self.log(
                "train/loss",
                shares * logged,
                prog_bar=True,
                on_step=False,
                on_epoch=True,
                sync_dist=True,
                batch_size=1,
            )
        parameters = self.heads.parameters()
        with torch.autocast(self.device.type, enabled=False):
            pulls = [(each * own).sum() for each, own in zip(parameters, gradients, strict=True)]
            return shares * torch.stack(pulls).sum()

    def _gradients(self, batch: ConceptBatch) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss of the first replicate, if it is logged, and the gradients of that of all."""
        activations = self.activations(batch)
        # by the full batch size, so that no image of a short last batch weighs more
        weights = self._weights(batch).T[:, None] / self.area.clamp(min=1e-12)[..., None]
        weights = weights / self.batch_size
        if self.containing:
            weights = weights * (batch.targets[WHOLE_FRAME].present[:, :, 0, 0] > 0).T
        total = torch.zeros((), device=self.device)
        gradients: list[Tensor] = []
        with torch.autocast(self.device.type, enabled=False):  # probes have all digits
            classes = {
                grid: weighted_classes(batch.targets[grid], self.alpha, weights)
                for grid in {layer.grid for layer in self.backbone.layers}
            }
            for layer, probes in zip(self.backbone.layers, self.probes, strict=True):
                logits, rows = probes.logits_of_rows(activations[layer.name])
                shown, hidden = classes[layer.grid]
                if self._logging:
                    total += weighted_cost(logits[0], shown[0], hidden[0], self.loss).sum()
                residuals = logit_gradient(logits, shown, hidden, self.loss)
                gradients += probes.pull(residuals, rows)
        return total, gradients

    def _regularise(self, gradients: Sequence[Tensor]) -> None:
        """Add the gradient of the penalty, in proportion to the weight that a concept's loss has.

        Processes share it out, as they do the images.
        """
        size = 2 * self.alpha * (1 - self.alpha) * self.l2 / processes.count()
        weights = gradients[::2]  # of each layer, then its biases
        for probes, gradient in zip(self.probes, weights, strict=True):
            gradient.add_(size[..., None] * probes.weight.detach())

    def validation_step(self, batch: ConceptBatch) -> None:
        """Add up each probe's own loss on the validation images."""
        for part, losses in self.in_parts(batch, self._losses):
            self.val_present.update(part.targets[WHOLE_FRAME].present[:, :, 0, 0])
            for metric, loss in zip(self.val_losses, losses, strict=True):
                metric.update(loss)

    def on_validation_epoch_end(self) -> None:
        """Let each probe keep its best parameters."""
        (present,) = computed(self.val_present)
        self.val_present.reset()
        totals = []
        for name, probes, metric in zip(
            self.backbone.names, self.probes, self.val_losses, strict=True
        ):
            (loss,) = computed(metric)
            metric.reset()
            if not all(bool(own.isfinite().all()) for own in (loss, *probes.parameters())):
                raise InputError(
                    f"the probes of layer {name} diverged; lower concepts.optimizer.lr"
                )
            loss = loss.view_as(self.alpha)
            # what validation never shows cannot be judged by it: such a concept goes on
            probes.keep_best(torch.where(present > 0, loss, -torch.inf))
            totals.append(float(loss[0].sum()))
        self.history.append(totals)
        self.log("val/loss", sum(totals), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses so far, which belong to what an interrupted fit goes on from.

        What Lightning's own callbacks keep is where the checkpoint lies: it may be moved, and
        passed on.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint["history"] = self.history
        checkpoint["callbacks"] = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on after the losses of earlier epochs."""
        self.history = checkpoint["history"]

    def losses(self) -> pd.DataFrame:
        """A row for each epoch and layer: epoch, from 1, layer, depth, loss.

        The loss is the sum of all probes of the first replicate on the validation images.
        """
        rows = [
            (epoch, layer.name, layer.depth, loss)
            for epoch, totals in enumerate(self.history, start=1)
            for layer, loss in zip(self.backbone.layers, totals, strict=True)
        ]
        return pd.DataFrame(rows, columns=["epoch", "layer", "depth", "loss"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer over all probes; the cosine is a function of the step alone."""
        optimizer = self.optimizer(self.heads.parameters())
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _weights(self, batch: ConceptBatch) -> Float[Tensor, "images replicates"]:
        """How much each image of a batch counts in each replicate; 1 over all training images.

        Images of the other half weigh nothing, so that every probe gets a gradient, be it zero.
        """
        shares = self.members.float().mean(dim=1)
        return self.members[:, batch.positions].T / shares

    def _losses(self, batch: ConceptBatch) -> list[Float[Tensor, "images replicates concepts"]]:
        """For each layer the losses, relative to the mean labelled area."""
        activations = self.activations(batch)
        contained = batch.targets[WHOLE_FRAME].present[:, :, 0, 0] > 0
        losses = []
        with torch.autocast(self.device.type, enabled=False):  # probes have all digits
            for layer, probes in zip(self.backbone.layers, self.probes, strict=True):
                logits = probes(activations[layer.name].float())
                loss = probe_loss(logits, batch.targets[layer.grid], self.alpha, self.loss)
                if self.containing:
                    loss = loss * contained[:, None]
                losses.append(loss / self.area.clamp(min=1e-12))
        return losses
