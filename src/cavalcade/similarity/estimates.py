"""Numbers with honest errors: from what each would be without one block of images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Numbers of any shape, and the same without each block of images.

    Blocks are contiguous within groups, so that neighbouring frames of a video do not pass
    for independent images. All errors are conditional on the concepts as they were fitted.

    Attributes:
        value: from all blocks.
        without: from all blocks but one, for each block.
    """

    value: Float[np.ndarray, "*cells"]
    without: Float[np.ndarray, "blocks *cells"]

    @property
    def stderr(self) -> Float[np.ndarray, "*cells"]:
        """Standard error by the delete-one-block jackknife; NaN for a single block.

        sqrt((B - 1) / B sum_g (without_g - mean)^2), Efron & Stein 1981.
        """
        blocks = len(self.without)
        if blocks < 2:
            return np.full(self.value.shape, np.nan)
        spread = ((self.without - self.without.mean(axis=0)) ** 2).sum(axis=0)
        return np.sqrt((blocks - 1) / blocks * spread)

    @classmethod
    def of_counts(cls, counts: Real[np.ndarray, "blocks *cells"]) -> "Estimate":
        """Counts of all blocks together, from those of each."""
        total = counts.sum(axis=0)
        return cls(total.astype(float), (total - counts).astype(float))

    @property
    def by_block(self) -> Float[np.ndarray, "blocks *cells"]:
        """What each block says, to first order: their mean is the value."""
        return self.value + (len(self.without) - 1) * (self.without.mean(axis=0) - self.without)

    def replicates(
        self, weights: Int[np.ndarray, "resamples blocks"]
    ) -> Float[np.ndarray, "resamples *cells"]:
        """The numbers under the weights of a block bootstrap, to first order.

        Each block pulls by as much as its absence changes the number; scaled such that the
        variance over resamples is the jackknife's.
        """
        blocks = len(self.without)
        pulls = (self.value - self.without) * np.sqrt((blocks - 1) / blocks)
        flat = (weights - 1.0) @ pulls.reshape(blocks, -1)
        return self.value + flat.reshape(len(weights), *self.value.shape)


def combined(function: Callable[..., np.ndarray], *estimates: Estimate) -> Estimate:
    """What a function makes of some estimates, all of the same blocks.

    Args:
        function: leaves leading dimensions as they are.
        estimates: its arguments.
    """
    return Estimate(
        function(*(estimate.value for estimate in estimates)),
        function(*(estimate.without for estimate in estimates)),
    )


def critical_t(estimate: Estimate, tests: int = 1) -> float:
    """One-sided 5 % point of Student's t over blocks, shared by some tests (Bonferroni)."""
    return float(stats.t.ppf(1 - 0.05 / tests, max(len(estimate.without) - 1, 1)))


def interval(
    replicates: Float[np.ndarray, "resamples *cells"], num_blocks: int, level: float = LEVEL
) -> tuple[Float[np.ndarray, "*cells"], Float[np.ndarray, "*cells"]]:
    """Lower and upper end of an expanded percentile interval (Hesterberg 2015).

    Twenty blocks are few: percentiles of the bootstrap are taken as far out as Student's t
    with one degree of freedom less than blocks lies beyond the normal distribution.
    """
    if num_blocks < 2:
        nothing = np.full(replicates.shape[1:], np.nan)
        return nothing, nothing
    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, num_blocks - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def p_value(
    value: Float[np.ndarray, "*cells"], stderr: Float[np.ndarray, "*cells"], num_blocks: int
) -> Float[np.ndarray, "*cells"]:
    """Two-sided p of Student's t with one degree of freedom less than blocks; NaN for no error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(stderr > 0, np.abs(value) / stderr, np.nan)
    return np.asarray(2 * stats.t.sf(t, max(num_blocks - 1, 1)))
