"""Where a concept map counts as firing: thresholds calibrated on training pixels."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn
from torchmetrics import Metric

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.passes import ConceptPass, computed
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.geometry import seen_cells, to_common_grid

RANGE = 16.0
BINS = 2048
SMOOTHING = 0.2  # standard deviations of a concept's logits


class LogitHistograms(Metric):
    """How often each logit occurs on pixels with and without each concept.

    Bins of 1/64 of a logit from -16 to 16; what lies beyond falls into the outermost ones.
    State: counts (concepts, 2, bins), without and with the concept, over labelled pixels.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_concepts: int) -> None:
        super().__init__()
        empty = torch.zeros(num_concepts, 2, BINS, dtype=torch.int64)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")

    @staticmethod
    def of(
        logits: Float[Tensor, "images concepts rows columns"],
        truth: Bool[Tensor, "images concepts rows columns"],
        counted: Bool[Tensor, "images concepts rows columns"],
    ) -> Int[Tensor, "concepts 2 bins"]:
        """Counts of the pixels whose truth is known and which the network saw."""
        bins = _bins(logits)
        concept = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
        cells = (2 * concept + truth.long()) * BINS + bins
        counts = torch.bincount(cells[counted], minlength=2 * logits.shape[1] * BINS)
        return counts.view(-1, 2, BINS)

    def update(self, counts: Int[Tensor, "concepts 2 bins"]) -> None:
        """Add counts of some pixels."""
        self.counts += counts

    def compute(self) -> Float[Tensor, " concepts"]:
        """Thresholds of the highest Jaccard index; see `best_thresholds`."""
        return best_thresholds(self.counts)


def weighted_counts(
    logits: Float[Tensor, "pixels concepts"],
    present: Float[Tensor, "pixels concepts"],
    labelled: Float[Tensor, "pixels concepts"],
    weights: Float[Tensor, " pixels"],
) -> Float[Tensor, "concepts 2 bins"]:
    """The same of pixels that stand for others: each counts as its weight."""
    concept = torch.arange(logits.shape[1], device=logits.device)
    counts = [
        torch.bincount(
            (concept * BINS + _bins(logits)).flatten(),
            weights=(part * weights[:, None]).double().flatten(),
            minlength=logits.shape[1] * BINS,
        ).view(-1, BINS)
        for part in (labelled - present, present)
    ]
    return torch.stack(counts, dim=1).double()  # without a pixel they are whole numbers


def _bins(logits: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    return ((logits.float() + RANGE) * (BINS / (2 * RANGE))).long().clamp_(0, BINS - 1)


def best_thresholds(
    counts: Real[Tensor, "concepts 2 bins"], *, smoothed: bool = False
) -> Float[Tensor, " concepts"]:
    """The lower bin edge at which the mask `logit > edge` has the highest Jaccard index.

    Balanced losses over-segment, so a probability of one half is far from it for small
    concepts. NaN for a concept without a pixel; the lowest edge on ties.

    Args:
        counts: of logits, see `LogitHistograms`.
        smoothed: average the index over thresholds near by first. Of pixels that stand for many
            others the curve is rough, and where it is highest is a matter of chance; of
            30,000 pixels this took off half of what was lost by that.
    """
    above = counts.double().flip(-1).cumsum(-1).flip(-1)  # pixels in this bin or higher
    false_positives, true_positives = above[:, 0], above[:, 1]
    positives = true_positives[:, :1]
    jaccard = true_positives / (positives + false_positives)
    if smoothed:
        jaccard = _smoothed(jaccard, SMOOTHING * _deviations(counts.double().sum(dim=1)))
    edges = torch.arange(BINS, device=counts.device) * (2 * RANGE / BINS) - RANGE
    edges[0] = -torch.inf  # the lowest bin holds all that lies below it
    best = edges[jaccard.argmax(dim=1)]
    return torch.where(positives[:, 0] > 0, best, torch.nan)


def _deviations(counts: Float[Tensor, "concepts bins"]) -> Float[Tensor, " concepts"]:
    """Standard deviation of each concept's logits, in bins."""
    shares = counts / counts.sum(dim=1, keepdim=True)
    place = torch.arange(counts.shape[1], device=counts.device, dtype=counts.dtype)
    mean = (shares * place).sum(dim=1, keepdim=True)
    return (shares * (place - mean).square()).sum(dim=1).sqrt().nan_to_num()


def _smoothed(
    curves: Float[Tensor, "concepts bins"], reach: Float[Tensor, " concepts"]
) -> Float[Tensor, "concepts bins"]:
    """Averages with weights that fall linearly to zero at a reach of so many bins."""
    last = curves.shape[1] - 1
    place = torch.arange(last + 1, device=curves.device)
    total, weights = torch.zeros_like(curves), 0.0
    for offset in torch.linspace(-1, 1, 41, dtype=torch.float64).tolist():
        shifted = (place + (offset * reach)[:, None].round().long()).clamp(0, last)
        total += (1 - abs(offset)) * curves.gather(1, shifted)
        weights += 1 - abs(offset)
    return total / weights


class Calibration(ConceptPass):
    """One pass that finds each concept's threshold on the training pixels of its replicate."""

    phase = "calibrating thresholds"
    members: Tensor

    def __init__(
        self,
        backbone: FrozenBackbone,
        replicates: Sequence[ConceptSet],
        members: Bool[Tensor, "replicates images"],
        grid: Sequence[int],
    ) -> None:
        super().__init__(backbone, replicates, grid)
        self.register_buffer("members", members, persistent=False)
        self.histograms = [
            LogitHistograms(len(layer.names))
            for concepts in self.replicates
            for layer in concepts.layers.values()
        ]
        self.registered = nn.ModuleList(self.histograms)  # follow the module to its device

    def test_step(self, batch: ConceptBatch) -> None:
        """Count the logits of one batch."""
        for _, seen in self.in_parts(batch, self._look):
            for histogram, counts in zip(self.histograms, seen, strict=True):
                histogram.update(counts)

    def _look(self, batch: ConceptBatch) -> list[Int[Tensor, "concepts 2 bins"]]:
        """The counts of each replicate and layer."""
        activations = self.activations(batch)
        counted = batch.labelled & seen_cells(batch.frames, self.grid)[:, None]
        seen = []
        for concepts, own in zip(self.replicates, self.members[:, batch.positions], strict=True):
            for maps in concepts.encode(activations).values():
                logits = to_common_grid(maps, batch.frames, self.grid)
                counts = counted & own[:, None, None, None]
                seen.append(LogitHistograms.of(logits, batch.truth, counts))
        return seen

    def thresholds(self) -> list[Mapping[str, Float[Tensor, " concepts"]]]:
        """For each replicate and layer the thresholds of highest Jaccard index."""
        found = iter([computed(histogram)[0].cpu() for histogram in self.histograms])
        return [{name: next(found) for name in concepts.layers} for concepts in self.replicates]
