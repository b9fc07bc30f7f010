"""Probes of all layers at their optimum, from one pass over the training images."""

import functools
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
from cavalcade.concepts.logistic import WeightedRows
from cavalcade.concepts.passes import TrainerFactory, computed
from cavalcade.concepts.probe_sample import DrawnRows, ProbeSample
from cavalcade.concepts.thresholds import best_thresholds, weighted_counts
from cavalcade.data import ConceptDataModule
from cavalcade.errors import InputError

VAL_ROWS = 20_000  # of each layer, on which strengths of regularisation are compared
FEWEST_OF_CONCEPT = 10  # rows of a layer for each concept
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
        self, drawn: DrawnRows, own: Int[Tensor, " rows"], replicate: int, num_images: int
    ) -> tuple[Float[Tensor, "concepts rows"], Float[Tensor, "concepts rows"]]:
        """By how much each of some rows counts for and against each concept, together about 1.

        Args:
            drawn: all rows.
            own: positions of those that count.
            replicate: whose loss it is.
            num_images: of those that the rows are of.
        """
        alpha, scale = self.alpha[replicate], self.size[replicate] * self.area[replicate]
        each = torch.where(scale > 0, 1 / (num_images * scale), 0.0)
        common = each[:, None] * drawn.weights[own]
        shown, known = drawn.present[own].T, drawn.labelled[own].T
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
    stronger one then holds better on other images. All replicates take its strength over.

    Args:
        backbone: the network.
        data: its images.
        members: which training images each replicate learns from.
        new_trainer: makes the trainer of each pass.
        l2: strengths of regularisation, see `Probes`.
        rows: about so many places of each layer are kept, however many images there are.
        containing: average each concept over the images that contain it.
        threshold: a logit, or None to calibrate; NaN for a concept that no image shows.

    Returns:
        The probes, and their losses on validation images: a row for each layer and strength,
        with `l2`, `layer`, `depth`, `loss`, the sum over concepts, and `probes`, how many have it.

    Raises:
        InputError: for too few rows.
    """
    fewest = FEWEST_OF_CONCEPT * len(data.splits["train"].concepts)
    if rows < fewest:
        raise InputError(
            f"concepts.rows is {rows}, too few to show {fewest // FEWEST_OF_CONCEPT} concepts; "
            f"give at least {fewest}, or null"
        )
    sampled = functools.partial(
        ProbeSample,
        backbone,
        data.splits["train"],
        grid=data.data.grid,
        containing=containing,
        seed=data.seed,
    )
    everything = torch.ones(1, len(data.splits["val"]), dtype=torch.bool)
    pixels = min(rows, PIXELS) if threshold is None else 0
    train = sampled(data.splits["train"], members, rows=rows, pixels=pixels)
    val = sampled(data.splits["val"], everything, rows=min(rows, VAL_ROWS), pixels=0)
    trainer = new_trainer()
    trainer.test(train, data.in_order("train", targets=True), verbose=False)
    device = trainer.strategy.root_device
    del trainer  # and the processes that loaded images for it
    new_trainer().test(val, data.in_order("val", targets=True), verbose=False)
    kept = (train.rows, train.on_grid, val.rows)
    for own in kept:
        own.gather()
    alpha, area = (part.view(len(members), -1) for part in computed(train.shares))
    shares = Shares(*(part.to(device) for part in (alpha, area, members)))
    problem = _LayerFit(
        data.splits["train"].concepts,
        shares,
        torch.tensor(sorted(l2), device=device),
        threshold,
        everything.shape[1],
        train.some_pixels,
    )

    def solve(layer: Layer) -> Solved:
        drawn, on_grid, judged = (DrawnRows.of(own, layer.name) for own in kept)
        assert drawn is not None
        assert judged is not None
        return problem.solve(drawn.to(device), on_grid and on_grid.to(device), judged.to(device))

    probes = len(shares.members) * len(problem.concepts)
    what = f"{backbone.label}: solving for {probes} probes of each layer"
    solved = processes.shared_out(solve, backbone.layers, what)
    replicates = [
        ConceptSet(
            {
                layer.name: found.replicates[index]
                for layer, found in zip(backbone.layers, solved, strict=True)
            }
        )
        for index in range(len(members))
    ]
    return replicates, _loss_table(backbone.layers, solved, sorted(l2), shares.size[0].cpu())


@dataclass(frozen=True)
class _LayerFit:
    """All probes of one layer.

    Attributes:
        concepts: their names.
        shares: of the training images.
        strengths: of regularisation, those that are tried.
        threshold: a logit; None calibrates.
        val_images: how many there are.
        some_pixels: whether those of the common grid stand for others.
    """

    concepts: tuple[str, ...]
    shares: Shares
    strengths: Float[Tensor, " strengths"]
    threshold: float | None
    val_images: int
    some_pixels: bool

    def solve(self, drawn: DrawnRows, on_grid: DrawnRows | None, judged: DrawnRows) -> Solved:
        """Solve for the probes of all replicates.

        Args:
            drawn: cells of training images.
            on_grid: pixels of training images, for thresholds.
            judged: cells of validation images.
        """
        scaling = logistic.moments(drawn.activations, drawn.weights)
        rows = self._rows(drawn, 0, *scaling)
        heads = logistic.fit(rows, self.strengths[:, None].repeat(1, len(self.concepts)))
        every = torch.arange(len(judged.images), device=judged.images.device)
        classes = self.shares.weigh(judged, every, 0, self.val_images)
        losses = logistic.losses(WeightedRows(judged.activations, *scaling, *classes), heads)
        chosen = _strongest(losses, shown=classes[0].sum(dim=1) > 0)
        found = [heads[chosen, torch.arange(len(chosen), device=chosen.device)]]
        for replicate in range(1, len(self.shares.members)):
            rows = self._rows(drawn, replicate, *scaling)
            found.append(logistic.fit(rows, self.strengths[chosen][None])[0])
        replicates = [
            self._with_thresholds(self._folded(own, *scaling), on_grid, replicate)
            for replicate, own in enumerate(found)
        ]
        return Solved(replicates, losses.cpu(), chosen.cpu())

    def _rows(self, drawn: DrawnRows, replicate: int, mean: Tensor, scale: Tensor) -> WeightedRows:
        """The rows of the images that a replicate learns from."""
        members = self.shares.members[replicate]
        own = members[drawn.images].nonzero().flatten()
        classes = self.shares.weigh(drawn, own, replicate, int(members.sum()))
        everything = len(own) == len(drawn.images)
        activations = drawn.activations if everything else drawn.activations[own]
        return WeightedRows(activations, mean, scale, *classes)

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
        """On the CPU, with the threshold that is given, or those of highest Jaccard index."""
        cpu = torch.device("cpu")
        if self.threshold is not None:
            absent = (self.shares.alpha[replicate] >= 1) | (self.shares.area[replicate] <= 0)
            thresholds = torch.where(absent, torch.nan, self.threshold).cpu()
        else:
            assert on_grid is not None
            own = self.shares.members[replicate][on_grid.images]
            logits = concepts.of_rows(on_grid.activations)[own]
            places = (part[own] for part in (on_grid.present, on_grid.labelled, on_grid.weights))
            # a GPU would add weights up in any order
            counts = weighted_counts(*(part.to(cpu) for part in (logits, *places)))
            thresholds = best_thresholds(counts, smoothed=self.some_pixels).float()
        return concepts.to(cpu).with_thresholds(thresholds)


def _strongest(
    losses: Float[Tensor, "strengths concepts"], shown: Bool[Tensor, " concepts"]
) -> Int[Tensor, " concepts"]:
    """The strongest that is as good as the best; the middle one where validation cannot judge."""
    good = losses <= NEAR * losses.amin(dim=0)
    last = len(losses) - 1 - good.flip(0).int().argmax(dim=0)
    return torch.where(shown, last, len(losses) // 2)


def _loss_table(
    layers: Sequence[Layer],
    solved: Sequence[Solved],
    strengths: Sequence[float],
    size: Float[Tensor, " concepts"],
) -> pd.DataFrame:
    rows = [
        {
            "l2": strength,
            "layer": layer.name,
            "depth": layer.depth,
            "loss": float(own.losses[k] @ size),
            "probes": int((own.chosen == k).sum()),
        }
        for layer, own in zip(layers, solved, strict=True)
        for k, strength in enumerate(strengths)
    ]
    return pd.DataFrame(rows)
