"""Probes of all layers by gradient, in several passes over the training images."""

import logging
from pathlib import Path

import pandas as pd
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
from cavalcade.concepts.survey import Survey
from cavalcade.concepts.thresholds import Calibration
from cavalcade.data import ConceptDataModule

log = logging.getLogger(__name__)


def fit_by_stream(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    members: Bool[Tensor, "replicates images"],
    new_trainer: TrainerFactory,
    *,
    epochs: int,
    loss: str,
    containing: bool,
    transform: str,
    optimizer: OptimizerFactory,
    l2: float,
    threshold: float | None,
    checkpoint: Path,
) -> tuple[list[ConceptSet], pd.DataFrame]:
    """The probes of each replicate, after a survey, some epochs, and a pass for thresholds.

    Args:
        backbone: the network.
        data: its images.
        members: which training images each replicate learns from.
        new_trainer: makes the trainer of each pass.
        epochs: passes that follow the gradient.
        loss: see `probe_loss`.
        containing: average each concept over the images that contain it.
        transform: what happens to activations first.
        optimizer: given the parameters, the optimizer.
        l2: strength of regularisation.
        threshold: a logit, or None to calibrate; NaN for a concept that no image shows.
        checkpoint: goes on from here where a fit was interrupted.

    Returns:
        The probes, and their losses, see `ProbeFit.losses`.
    """
    fit = ProbeFit(
        backbone,
        data.splits["train"].concepts,
        members,
        loss=loss,
        containing=containing,
        transform=transform,
        optimizer=optimizer,
        l2=l2,
        batch_size=data.batch_size,
        seed=data.seed,
    )
    done = processes.from_first(lambda: whole_epochs(checkpoint))
    if done:
        log.info("%s: goes on after epoch %d of %d", backbone.label, done, epochs)
    else:
        fit.start_from(_survey(backbone, data, members, new_trainer, transform, containing))
    trainer = new_trainer(
        max_epochs=epochs,
        enable_checkpointing=True,
        extra_callbacks=[
            ModelCheckpoint(
                checkpoint.parent, filename=checkpoint.stem, enable_version_counter=False
            )
        ],
        plugins=[WholeCheckpointIO()],
        tracked=True,
    )
    trainer.fit(
        fit,
        data.train_dataloader(epoch=done),
        data.val_dataloader(),
        ckpt_path=checkpoint if done else None,
    )
    replicates = [
        ConceptSet({probes.layer: probes.fold(index) for probes in fit.probes})
        for index in range(len(members))
    ]
    if threshold is None:
        calibration = Calibration(backbone, replicates, members, data.data.grid)
        new_trainer().test(calibration, data.in_order("train"), verbose=False)
        thresholds = calibration.thresholds()
    else:
        fixed = torch.where(fit.absent().cpu(), torch.nan, threshold)
        thresholds = [dict.fromkeys(backbone.names, row) for row in fixed]
    found = [
        concepts.to(torch.device("cpu")).with_thresholds(each)
        for concepts, each in zip(replicates, thresholds, strict=True)
    ]
    return found, fit.losses()


def _survey(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    members: Bool[Tensor, "replicates images"],
    new_trainer: TrainerFactory,
    transform: str,
    containing: bool,
) -> Survey:
    survey = Survey(
        backbone,
        len(data.splits["train"].concepts),
        members,
        transform=transform,
        containing=containing,
    )
    new_trainer().test(survey, data.in_order("train", targets=True), verbose=False)
    return survey
