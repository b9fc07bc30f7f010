"""Where a concept map counts as firing: thresholds calibrated on training pixels."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

RANGE = 16.0
BINS = 2048


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

    def update(
        self,
        logits: Float[Tensor, "images concepts rows columns"],
        truth: Bool[Tensor, "images concepts rows columns"],
        counted: Bool[Tensor, "images concepts rows columns"],
    ) -> None:
        """Count the pixels of a batch whose truth is known and which the network saw."""
        bins = ((logits.float() + RANGE) * (BINS / (2 * RANGE))).long().clamp_(0, BINS - 1)
        concept = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
        cells = (2 * concept + truth.long()) * BINS + bins
        counts = torch.bincount(cells[counted], minlength=self.counts.numel())
        self.counts += counts.view_as(self.counts)

    def compute(self) -> Float[Tensor, " concepts"]:
        """Thresholds of the highest Jaccard index; see `best_thresholds`."""
        return best_thresholds(self.counts)


def best_thresholds(
    counts: Int[Tensor, "concepts 2 bins"],
) -> Float[Tensor, " concepts"]:
    """The lower bin edge at which the mask `logit > edge` has the highest Jaccard index.

    Balanced losses over-segment, so a probability of one half is far from it for small
    concepts. NaN for a concept without a pixel; the lowest edge on ties.
    """
    above = counts.double().flip(-1).cumsum(-1).flip(-1)  # pixels in this bin or higher
    false_positives, true_positives = above[:, 0], above[:, 1]
    positives = true_positives[:, :1]
    jaccard = true_positives / (positives + false_positives)
    edges = torch.arange(BINS, device=counts.device) * (2 * RANGE / BINS) - RANGE
    edges[0] = -torch.inf  # the lowest bin holds all that lies below it
    best = edges[jaccard.argmax(dim=1)]
    return torch.where(positives[:, 0] > 0, best, torch.nan)
