"""The supervised method: probes for labelled concepts, and how they are fitted."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.checkpoints import FOLDER, LAST
from cavalcade.concepts.fitting import OptimizerFactory
from cavalcade.concepts.one_pass import fit_in_one_pass
from cavalcade.concepts.passes import TrainerFactory
from cavalcade.concepts.probes import LOSSES
from cavalcade.concepts.replicates import Found, replicate_members
from cavalcade.concepts.stream import fit_by_stream
from cavalcade.data import ConceptDataModule
from cavalcade.errors import InputError, check_choice, check_whole

OWN = {"one_pass": ("rows",), "stream": ("epochs", "optimizer")}  # settings of one fit alone
FITS = tuple(OWN)
ROWS = 70_000
EPOCHS = 5
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
STRENGTH = 1e-3  # where one alone is tried
ADAM = functools.partial(torch.optim.Adam, lr=0.03)


@dataclass(kw_only=True)
class Probes:
    """Fits one probe for every concept at every layer (Net2Vec, Fong & Vedaldi 2018).

    A setting that only the other way to fit would use is an error.

    Attributes:
        fit: `one_pass` keeps places of every layer while the images stream by, and then solves
            for the optimum; `stream` follows the gradient in several passes over all places.
        l2: strength of regularisation: half of it times the squared length of the vector of
            standardised activations, where a loss that knows nothing is log 2. Of several, each
            concept of each layer takes the strongest that is as good on validation images as the
            best. None tries `STRENGTHS`; by stream there is one, `STRENGTH`.
        rows: places of each layer that are kept for a fit in one pass, about so many; None is
            `ROWS`.
        epochs: passes over the training images by stream; None is `EPOCHS`.
        optimizer: given parameters, the optimizer by stream; None is `ADAM`.
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

    fit: str = "one_pass"
    l2: float | Sequence[float] | None = None
    rows: int | None = None
    epochs: int | None = None
    optimizer: OptimizerFactory | None = None
    loss: str = "balanced"
    images: str = "all"
    input: str = "none"
    threshold: str | float = "calibrated"
    split_half: bool = True

    def __post_init__(self) -> None:
        check_choice("concepts.fit", self.fit, FITS)
        check_choice("concepts.loss", self.loss, LOSSES)
        check_choice("concepts.images", self.images, ("all", "containing"))
        check_choice("concepts.input", self.input, ("none", "quantile"))
        for name in ("epochs", "rows"):
            if getattr(self, name) is not None:
                check_whole(f"concepts.{name}", getattr(self, name), 1)
        if not isinstance(self.split_half, bool):
            raise InputError(f"concepts.split_half is {self.split_half!r}; give true or false")
        try:
            (self.optimizer or ADAM)([torch.nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise InputError(f"concepts.optimizer cannot be built: {error}") from error
        a_probability = isinstance(self.threshold, float) and 0 < self.threshold < 1
        if self.threshold != "calibrated" and not a_probability:
            raise InputError(
                f"concepts.threshold is {self.threshold!r}; give calibrated, or a number between "
                "0 and 1"
            )
        self._check_fit()

    def _check_fit(self) -> None:
        """Raise for what a way to fit cannot do, or has no use for."""
        for what, only in (("loss", "balanced"), ("input", "none")):
            asked = getattr(self, what)
            if self.fit == "one_pass" and asked != only:
                raise InputError(
                    f"concepts.{what}={asked} cannot be fitted in one pass; set concepts.fit=stream"
                )
        for other, names in OWN.items():
            for name in names:
                if other != self.fit and self._is_given(name):
                    raise InputError(
                        f"concepts.{name} has no effect with concepts.fit={self.fit}; leave it "
                        f"out, set concepts.{name}=null (where a preset gives it), or "
                        f"concepts.fit={other}"
                    )
        given = self.l2 if isinstance(self.l2, Sequence) else self.strengths
        if not given or not all(map(_is_strength, given)):
            raise InputError(f"concepts.l2 is {self.l2!r}; give one number above 0, or several")
        if self.fit == "stream" and len(self.strengths) > 1:
            raise InputError(
                f"concepts.l2 is {self.l2!r}, and concepts.fit=stream takes one number; give one, "
                "or set concepts.fit=one_pass"
            )

    def _is_given(self, name: str) -> bool:
        if name == "optimizer" and self.optimizer:
            # conf/ has the usual one in any case, so that a key of it can be overridden
            return _describe(self.optimizer) != _describe(ADAM)
        return getattr(self, name) is not None

    @property
    def strengths(self) -> tuple[float, ...]:
        """Of regularisation, those that are tried."""
        if self.l2 is None:
            return STRENGTHS if self.fit == "one_pass" else (STRENGTH,)
        return tuple(sorted(set(self.l2 if isinstance(self.l2, Sequence) else (self.l2,))))

    @property
    def checkpoints(self) -> str | None:
        """Folder from which an interrupted fit goes on, in the run's; one pass starts over."""
        return FOLDER if self.fit == "stream" else None

    def images_seen(self, sizes: Mapping[str, int]) -> int:
        """How many images go through the network, those of a split as often as they do."""
        if self.fit == "one_pass":
            return sizes["train"] + 2 * sizes["val"] + sizes["test"]
        epochs = self.epochs or EPOCHS
        passes = epochs + 1 + (self.threshold == "calibrated")
        return sizes["train"] * passes + sizes["val"] * (epochs + 1) + sizes["test"]

    def masks_of_layer(self, labels: Sequence[str]) -> int:
        """How many masks each test image gets at a layer."""
        return len(labels) * (3 if self.split_half else 1)

    def identity(self) -> dict[str, Any]:
        """All of the method that changes results, for the digest of a run."""
        settings = vars(self) | {
            "rows": self.rows or ROWS,
            "epochs": self.epochs or EPOCHS,
            "optimizer": _describe(self.optimizer or ADAM),
            "l2": list(self.strengths),
            "method": self.name,
        }
        unused = {name for fit, names in OWN.items() if fit != self.fit for name in names}
        return {name: value for name, value in settings.items() if name not in unused}

    def find(
        self,
        backbone: FrozenBackbone,
        data: ConceptDataModule,
        new_trainer: TrainerFactory,
        folder: Path,
    ) -> Found:
        """Find the probes; by stream it goes on where a fit was interrupted in this folder.

        Concepts without a training pixel are kept, with thresholds of NaN.

        Raises:
            InputError: if there are too few training images for two halves.
        """
        groups = data.splits["train"].groups
        members = replicate_members(groups, split_half=self.split_half)
        probability = None if isinstance(self.threshold, str) else self.threshold
        threshold = probability and math.log(probability / (1 - probability))
        if self.fit == "one_pass":
            (concepts, *halves), losses = fit_in_one_pass(
                backbone,
                data,
                members,
                new_trainer,
                l2=self.strengths,
                rows=self.rows or ROWS,
                containing=self.images == "containing",
                threshold=threshold,
            )
        else:
            (concepts, *halves), losses = fit_by_stream(
                backbone,
                data,
                members,
                new_trainer,
                epochs=self.epochs or EPOCHS,
                loss=self.loss,
                containing=self.images == "containing",
                transform=self.input,
                optimizer=self.optimizer or ADAM,
                l2=self.strengths[0],
                threshold=threshold,
                checkpoint=folder / FOLDER / LAST,
            )
        return Found(concepts, tuple(halves), losses)


def _is_strength(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


def _describe(factory: OptimizerFactory) -> dict[str, Any]:
    if isinstance(factory, functools.partial):
        return {"name": _qualified(factory.func), **factory.keywords}
    return {"name": _qualified(factory)}


def _qualified(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
