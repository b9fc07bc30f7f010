"""The supervised method: probes for labelled concepts, from survey to thresholds."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.checkpoints import WholeCheckpointIO, whole_epochs
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.fitting import OptimizerFactory, ProbeFit
from cavalcade.concepts.passes import TrainerFactory
from cavalcade.concepts.probes import LOSSES
from cavalcade.concepts.replicates import Found, replicate_members
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration
from cavalcade.data import ConceptDataModule
from cavalcade.errors import InputError, check_choice, check_whole

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Probes:
    """Fits one probe for every concept at every layer (Net2Vec, Fong & Vedaldi 2018).

    Attributes:
        optimizer: given parameters, the optimizer.
        epochs: passes over the training images.
        loss: `balanced`, the weighted cross-entropy, or `net2vec`, its form without logarithms.
        images: `all`, or `containing`: each concept learns from the images that contain it.
        input: `none`, or `quantile`: activations become 1 above their channel's 99.5 % quantile
            and 0 elsewhere, as Net2Vec does.
        threshold: `calibrated` for the highest Jaccard index on training pixels, or a
            probability, 0.5 in the paper.
        split_half: fit two replicates of every probe on halves of the training images, whose
            similarity is the ceiling of that of networks.
    """

    name = "probes"
    splits = ("train", "val", "test")
    checkpoint = "checkpoints/last.ckpt"  # from which an interrupted fit goes on

    optimizer: OptimizerFactory
    epochs: int = 5
    loss: str = "balanced"
    images: str = "all"
    input: str = "none"
    threshold: str | float = "calibrated"
    split_half: bool = True

    def __post_init__(self) -> None:
        check_choice("concepts.loss", self.loss, LOSSES)
        check_choice("concepts.images", self.images, ("all", "containing"))
        check_choice("concepts.input", self.input, ("none", "quantile"))
        check_whole("concepts.epochs", self.epochs, 1)
        if not isinstance(self.split_half, bool):
            raise InputError(f"concepts.split_half is {self.split_half!r}; give true or false")
        try:
            self.optimizer([torch.nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise InputError(f"concepts.optimizer cannot be built: {error}") from error
        a_probability = isinstance(self.threshold, float) and 0 < self.threshold < 1
        if self.threshold != "calibrated" and not a_probability:
            raise InputError(
                f"concepts.threshold is {self.threshold!r}; give calibrated, or a number between "
                "0 and 1"
            )

    def images_seen(self, sizes: Mapping[str, int]) -> int:
        """How many images go through the network, those of a split as often as they do."""
        passes = self.epochs + 1 + (self.threshold == "calibrated")
        return sizes["train"] * passes + sizes["val"] * (self.epochs + 1) + sizes["test"]

    def masks_of_layer(self, labels: Sequence[str]) -> int:
        """How many masks each test image gets at a layer."""
        return len(labels) * (3 if self.split_half else 1)

    def identity(self) -> dict[str, Any]:
        """All of the method that changes results, for the digest of a run."""
        return vars(self) | {"optimizer": _describe(self.optimizer), "method": self.name}

    def fit(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        new_trainer: TrainerFactory,
        checkpoints: Path,
    ) -> Found:
        """Find the probes; goes on where a fit was interrupted that left a checkpoint.

        Concepts without a training pixel are kept, with thresholds of NaN.

        Raises:
            InputError: if there are too few training images for two halves.
        """
        groups = data.splits["train"].groups
        members = replicate_members(groups, split_half=self.split_half)
        fit = self._fit(backbone, data, members, new_trainer, checkpoints)
        replicates = [
            ConceptSet({probes.layer: probes.fold(index) for probes in fit.probes})
            for index in range(len(members))
        ]
        if self.threshold == "calibrated":
            calibration = Calibration(backbone, replicates, members, data.data.grid)
            new_trainer().test(calibration, data.in_order("train"), verbose=False)
            thresholds = calibration.thresholds()
        else:
            logit = torch.logit(torch.tensor(float(self.threshold)))
            fixed = torch.where(fit.absent().cpu(), torch.nan, logit)
            thresholds = [dict.fromkeys(backbone.names, row) for row in fixed]
        concepts, *halves = (
            found.to(torch.device("cpu")).with_thresholds(each)
            for found, each in zip(replicates, thresholds, strict=True)
        )
        return Found(concepts, tuple(halves), fit.losses())

    def _fit(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        members: Bool[Tensor, "replicates images"],
        new_trainer: TrainerFactory,
        checkpoints: Path,
    ) -> ProbeFit:
        fit = ProbeFit(
            backbone,
            data.splits["train"].concepts,
            members,
            loss=self.loss,
            containing=self.images == "containing",
            transform=self.input,
            optimizer=self.optimizer,
            batch_size=data.batch_size,
            seed=data.seed,
        )
        interrupted = checkpoints / "last.ckpt"
        done = processes.from_first(lambda: whole_epochs(interrupted))
        if done:
            log.info("%s: goes on after epoch %d of %d", backbone.label, done, self.epochs)
        else:
            fit.start_from(self._survey(backbone, data, members, new_trainer))
        trainer = new_trainer(
            max_epochs=self.epochs,
            enable_checkpointing=True,
            extra_callbacks=[
                ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)
            ],
            plugins=[WholeCheckpointIO()],
            tracked=True,
        )
        trainer.fit(
            fit,
            data.train_dataloader(epoch=done),
            data.val_dataloader(),
            ckpt_path=interrupted if done else None,
        )
        return fit

    def _survey(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        members: Bool[Tensor, "replicates images"],
        new_trainer: TrainerFactory,
    ) -> Survey:
        survey = Survey(
            backbone,
            len(data.splits["train"].concepts),
            members,
            transform=self.input,
            containing=self.images == "containing",
        )
        new_trainer().test(survey, data.in_order("train", targets=True), verbose=False)
        return survey


def _describe(factory: OptimizerFactory) -> dict[str, Any]:
    if isinstance(factory, functools.partial):
        return {"name": _qualified(factory.func), **factory.keywords}
    return {"name": _qualified(factory)}


def _qualified(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
