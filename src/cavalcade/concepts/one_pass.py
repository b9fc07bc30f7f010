"""Probes of all layers at their optimum, from one pass over the training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone, Layer
from cavalcade.concepts import logistic
from cavalcade.concepts.concept_set import ConceptSet, LayerConcepts
from cavalcade.concepts.passes import TrainerFactory, computed
from cavalcade.concepts.probe_sample import DrawnRows, Importance, ProbeSample
from cavalcade.concepts.thresholds import best_thresholds, weighted_counts
from cavalcade.data import ConceptDataModule

VAL_ROWS = 20_000  # of each layer, on which strengths of regularisation are compared
PIXELS = 60_000  # of the common grid, on which thresholds are chosen
NEAR = 1.01  # times the lowest loss on validation images, up to which a strength is as good


@dataclass(frozen=True)
class Shares:
    """What weighs both classes of each concept alike, for each replicate; see `ConceptShares`.

    Attributes:
        alpha: 1 less the concept's share of the labelled area.
        area: mean labelled area of an image.
        members: which of the training images each replicate learns from.
    """

    alpha: Float[Tensor, "replicates concepts"]
    area: Float[Tensor, "replicates concepts"]
    members: Bool[Tensor, "replicates images"]

    @property
    def size(self) -> Float[Tensor, "replicates concepts"]:
        """Mean weight of a labelled place, by which losses are made equally large."""
        return 2 * self.alpha * (1 - self.alpha)

    def weigh(
        self, rows: DrawnRows, replicate: int, num_images: int
    ) -> tuple[Float[Tensor, "concepts rows"], Float[Tensor, "concepts rows"]]:
        """By how much each row counts for and against each concept, together about 1."""
        alpha, scale = self.alpha[replicate], self.size[replicate] * self.area[replicate]
        each = torch.where(scale > 0, 1 / (num_images * scale), 0.0)
        shown, known = rows.present.T, rows.labelled.T
        common = each[:, None] * rows.weights
        return alpha[:, None] * common * shown, (1 - alpha)[:, None] * common * (known - shown)


@dataclass(frozen=True)
class Solved:
    """The probes of one layer.

    Attributes:
        replicates: the probes of each, with their thresholds.
        losses: on validation images, with each strength.
        chosen: which strength each concept's probe has.
    """

    replicates: list[LayerConcepts]
    losses: Float[Tensor, "strengths concepts"]
    chosen: Int[Tensor, " concepts"]


def fit_in_one_pass(
    backbone: FrozenBackbone,
    data: ConceptDataModule,
    members: Bool[Tensor, "replicates images"],
    new_trainer: TrainerFactory,
    *,
    l2: Sequence[float],
    rows: int,
    containing: bool,
    threshold: float | None,
) -> tuple[list[ConceptSet], pd.DataFrame]:
    """The probes of each replicate, from rows that are kept while images stream by.

    Each concept is regularised as strongly as its loss on validation images allows for the first
    replicate: up to 1 % above the lowest, since what is that near is a matter of chance, and the
    stronger one then holds better on other images. All replicates take its strength over. Of the
    images about `rows` places of each layer are kept, however many images there are.

    Args:
        backbone: the network.
        data: its images.
        members: which training images each replicate learns from.
        new_trainer: makes the trainer of each pass.
        l2: strengths of regularisation, see `Probes`.
        rows: most places of each layer that are kept.
        containing: average each concept over the images that contain it.
        threshold: a logit, or None to calibrate; NaN for a concept that no image shows.

    Returns:
        The probes, and their losses on validation images: a row for each layer and strength,
        with `l2`, `layer`, `depth`, `loss`, the sum over concepts, and `probes`, how many have it.
    """
    importance = Importance.of(data.splits["train"], containing=containing)

    def sampled(split: str, own: Tensor, rows: int, pixels: int) -> ProbeSample:
        sample = ProbeSample(
            backbone,
            importance,
            own.shape[1],
            rows=rows,
            pixels=pixels,
            grid=data.data.grid,
            members=own,
            containing=containing,
            seed=data.seed,
        )
        trainer = new_trainer()
        trainer.test(sample, data.in_order(split, targets=True), verbose=False)
        device.append(trainer.strategy.root_device)
        return sample

    device: list[torch.device] = []
    train = sampled("train", members, rows, PIXELS if threshold is None else 0)
    everything = torch.ones(1, len(data.splits["val"]), dtype=torch.bool)
    val = sampled("val", everything, min(rows, VAL_ROWS), 0)
    alpha, area = (part.view(len(members), -1).cpu() for part in computed(train.shares))
    shares = Shares(alpha, area, members)
    gathered = [
        tuple(
            kept.of(name, processes.owner(k)) if name in kept.parts else None
            for kept in (train.rows, train.on_grid, val.rows)
        )
        for k, name in enumerate(backbone.names)
    ]
    own = dict(zip(backbone.names, gathered, strict=True))
    strengths = torch.tensor(sorted(l2))

    def solve(layer: Layer) -> Solved:
        drawn, on_grid, judged = own.pop(layer.name)
        assert drawn is not None
        assert judged is not None
        names = data.splits["train"].concepts
        problem = _LayerFit(names, shares, strengths, threshold, device[0])
        return problem.solve(drawn, on_grid, judged, everything.shape[1])

    solved = processes.shared_out(solve, backbone.layers)
    replicates = [
        ConceptSet(
            {
                layer.name: found.replicates[index]
                for layer, found in zip(backbone.layers, solved, strict=True)
            }
        )
        for index in range(len(members))
    ]
    return replicates, _loss_table(backbone.layers, solved, strengths, shares.size[0])


@dataclass(frozen=True)
class _LayerFit:
    """All probes of one layer."""

    concepts: tuple[str, ...]
    shares: Shares
    strengths: Float[Tensor, " strengths"]
    threshold: float | None
    device: torch.device

    def solve(
        self, drawn: DrawnRows, on_grid: DrawnRows | None, judged: DrawnRows, val_images: int
    ) -> Solved:
        """Solve for the probes of all replicates.

        Args:
            drawn: cells of training images.
            on_grid: pixels of training images, for thresholds.
            judged: cells of validation images.
            val_images: how many there are.
        """
        mean, scale = logistic.moments(drawn.activations, drawn.weights)
        tried = self.strengths[:, None].repeat(1, len(self.concepts))
        rows = self._weighted(drawn, 0, mean, scale)
        heads = logistic.fit(rows, tried.to(self.device))
        present, absent = self.shares.weigh(judged, 0, val_images)
        val = self._on_device(judged, present, absent, mean, scale)
        losses = logistic.losses(val, heads).cpu()
        del rows, val
        chosen = _strongest(losses, shown=present.sum(dim=1) > 0)
        found = [heads.cpu()[chosen, torch.arange(len(chosen))]]
        own = self.strengths[chosen][None].to(self.device)
        for replicate in range(1, len(self.shares.members)):
            rows = self._weighted(drawn, replicate, mean, scale)
            found.append(logistic.fit(rows, own)[0].cpu())
        replicates = [
            self._with_thresholds(self._folded(each, mean, scale), on_grid, index)
            for index, each in enumerate(found)
        ]
        return Solved(replicates, losses, chosen)

    def _weighted(
        self, drawn: DrawnRows, replicate: int, mean: Tensor, scale: Tensor
    ) -> logistic.WeightedRows:
        """The rows of the images that a replicate learns from."""
        members = self.shares.members[replicate]
        own = drawn if bool(members.all()) else _of_images(drawn, members)
        present, absent = self.shares.weigh(own, replicate, int(members.sum()))
        return self._on_device(own, present, absent, mean, scale)

    def _on_device(
        self, drawn: DrawnRows, present: Tensor, absent: Tensor, mean: Tensor, scale: Tensor
    ) -> logistic.WeightedRows:
        parts = (drawn.activations, mean, scale, present, absent)
        return logistic.WeightedRows(*(part.to(self.device) for part in parts))

    def _folded(
        self, heads: Float[Tensor, "concepts coefficients"], mean: Tensor, scale: Tensor
    ) -> LayerConcepts:
        """The probes in the network's own space."""
        vectors = heads[:, :-1] / scale
        bias = heads[:, -1] - vectors @ mean
        return LayerConcepts(self.concepts, vectors, bias, torch.zeros_like(bias))

    def _with_thresholds(
        self, concepts: LayerConcepts, on_grid: DrawnRows | None, replicate: int
    ) -> LayerConcepts:
        """With the threshold that is given, or those of highest Jaccard index on its images."""
        if on_grid is None:
            absent = (self.shares.alpha[replicate] >= 1) | (self.shares.area[replicate] <= 0)
            thresholds = torch.where(absent, torch.nan, self.threshold or 0.0)
        else:
            own = _of_images(on_grid, self.shares.members[replicate])
            logits = concepts.of_rows(own.activations)
            counts = weighted_counts(logits, own.present, own.labelled, own.weights)
            thresholds = best_thresholds(counts).float()
        return concepts.with_thresholds(thresholds)


def _strongest(
    losses: Float[Tensor, "strengths concepts"], shown: Bool[Tensor, " concepts"]
) -> Int[Tensor, " concepts"]:
    """The strongest that is as good as the best; the middle one where validation cannot judge."""
    good = losses <= NEAR * losses.amin(dim=0)
    last = len(losses) - 1 - good.flip(0).int().argmax(dim=0)
    return torch.where(shown, last, len(losses) // 2)


def _of_images(rows: DrawnRows, members: Bool[Tensor, " images"]) -> DrawnRows:
    """The rows of some images."""
    own = members[rows.images]
    return DrawnRows(*(part[own] for part in vars(rows).values()))


def _loss_table(
    layers: Sequence[Layer],
    solved: Sequence[Solved],
    strengths: Float[Tensor, " strengths"],
    size: Float[Tensor, " concepts"],
) -> pd.DataFrame:
    rows = [
        {
            "l2": float(strength),
            "layer": layer.name,
            "depth": layer.depth,
            "loss": float(own.losses[k] @ size),
            "probes": int((own.chosen == k).sum()),
        }
        for layer, own in zip(layers, solved, strict=True)
        for k, strength in enumerate(strengths)
    ]
    return pd.DataFrame(rows)
