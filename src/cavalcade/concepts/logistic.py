"""Many logistic regressions on the same rows, solved together to their optimum.

Every head, a concept with one strength of L2 regularisation, is a problem of its own, strictly
convex, whose solution does not depend on which others there are. They share the passes over the
rows: a matrix product serves all of them, and memory is read once.

The method is L-BFGS (Liu & Nocedal 1989) whose initial metric is the Gram matrix of the rows
with the strength on its diagonal, factored once for each strength ("whitened"): some ten passes
for what Newton's method needs five passes and as many matrices of channels x channels for *each*
head for. Along each direction the minimum is found by Newton's method on the logits, which are
linear in the step, without another pass over the activations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cavalcade.concepts.drawing import inclusion, systematic
from cavalcade.concepts.probes import weighted_cost

CHUNK = 512  # rows that are converted to float32 at a time, so that they stay in the cache
MEMORY = 20  # pairs of steps and changes of the gradient that L-BFGS remembers
TOLERANCE = 2e-4  # of the loss; two steps that promise less, one after the other, end a head
MOST_STEPS = 100
CURVATURE = 0.03  # of a row, p (1 - p), as the initial metric takes it
FIRST_ROWS = 16  # for each channel, from which a first guess is made, and the metric
FEWEST_FIRST = 4096
LONGEST_STEP = 8.0
LINE_STEPS = 12
FLAT = 0.1  # of the slope where a line search began, at which it ends

Heads = Float[Tensor, "strengths concepts coefficients"]
"""The coefficients of each head: its channels, then the bias."""


@dataclass(frozen=True)
class WeightedRows:
    """Pixels of one layer, and how much each counts for and against each concept.

    Attributes:
        activations: of more pixels, float32 or bfloat16, which are not copied.
        index: which of them the rows are.
        mean: subtracted from each channel.
        scale: each channel is divided by it.
        present: weight with which a row shows each concept.
        absent: weight with which it does not; the weights of a concept add up to about 1.
    """

    activations: Float[Tensor, "pixels channels"]
    index: Int[Tensor, " rows"]
    mean: Float[Tensor, " channels"]
    scale: Float[Tensor, " channels"]
    present: Float[Tensor, "concepts rows"]
    absent: Float[Tensor, "concepts rows"]

    def some(self, count: int) -> "WeightedRows":
        """About so many of them, which weigh as much as all: those that weigh much are kept."""
        chances = inclusion((self.present + self.absent).sum(dim=0), self.mean.new_tensor([count]))
        drawn = systematic(chances, chances.new_tensor([0.5])).nonzero().flatten()
        return replace(
            self,
            index=self.index[drawn],
            present=self.present[:, drawn] / chances[drawn],
            absent=self.absent[:, drawn] / chances[drawn],
        )

    def logits(self, heads: Heads) -> Float[Tensor, "strengths concepts rows"]:
        """Of every row and head."""
        vectors = heads[..., :-1].flatten(0, 1) / self.scale
        bias = heads[..., -1].flatten() - vectors @ self.mean
        out = vectors.new_empty(len(vectors), len(self.index))
        for rows, chunk in self._chunks():
            torch.addmm(bias[:, None], vectors, chunk.T, out=out[:, rows])
        return out.view(*heads.shape[:2], -1)

    def pull(self, residuals: Float[Tensor, "strengths concepts rows"]) -> Heads:
        """The gradient of the coefficients, given that of every logit."""
        flat = residuals.flatten(0, 1)
        raw = flat.new_zeros(len(flat), len(self.mean))
        for rows, chunk in self._chunks():
            raw.addmm_(flat[:, rows], chunk)
        total = flat.sum(dim=1, keepdim=True)
        gradient = torch.cat([(raw - total * self.mean) / self.scale, total], dim=1)
        return gradient.view(*residuals.shape[:2], -1)

    def gram(self) -> Float[Tensor, "coefficients coefficients"]:
        """Mean product of every two coefficients' inputs, weighted by all concepts alike."""
        weight = (self.present + self.absent).mean(dim=0).sqrt()
        channels = len(self.mean)
        total = weight.new_zeros(channels + 1, channels + 1)
        for rows, chunk in self._chunks():
            inputs = torch.cat([(chunk - self.mean) / self.scale, chunk.new_ones(len(chunk), 1)], 1)
            inputs *= weight[rows, None]
            total.addmm_(inputs.T, inputs)
        return total

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        return _chunks(self.activations, self.index)


def moments(
    activations: Float[Tensor, "rows channels"], weights: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Weighted mean and standard deviation of each channel, that of a constant one as 1.

    One is constant too whose deviation is no more than rounding leaves of its mean.
    """
    shares, every = weights / weights.sum(), torch.arange(len(weights), device=weights.device)
    mean, variance = (weights.new_zeros(activations.shape[1]) for _ in range(2))
    for rows, chunk in _chunks(activations, every):
        mean += shares[rows] @ chunk
    for rows, chunk in _chunks(activations, every):
        variance += shares[rows] @ (chunk - mean).square()
    deviation = variance.sqrt()
    dead = deviation <= 1e-6 * deviation.max() + 1e-5 * mean.abs()
    return mean, torch.where(dead, 1.0, deviation)


def _chunks(
    activations: Float[Tensor, "pixels channels"], index: Int[Tensor, " rows"]
) -> Iterator[tuple[slice, Tensor]]:
    """The rows in float32, some at a time."""
    for first in range(0, len(index), CHUNK):
        rows = slice(first, first + CHUNK)
        yield rows, activations[index[rows]].float()


def losses(rows: WeightedRows, heads: Heads) -> Float[Tensor, "strengths concepts"]:
    """The weighted cross-entropy of each head, without its regularisation."""
    return _losses(rows, rows.logits(heads))


def fit(rows: WeightedRows, l2: Float[Tensor, "strengths concepts"]) -> Heads:
    """The heads that minimise sum_i [(a_i + n_i) softplus(z_i) - a_i z_i] + l2/2 |w|^2.

    With a and n the weights of a row as `present` and `absent`, z = w·x + b its logit, x its
    standardised activations; the bias b is not regularised. From zero, first on some rows.

    Returns:
        Coefficients of standardised inputs; zero for a concept whose weights of either kind are
        all zero. The loss is within about `TOLERANCE` of the lowest.
    """
    channels = len(rows.mean)
    heads = l2.new_zeros(*l2.shape, channels + 1)
    if not bool(_decided(rows).any()):
        return heads
    first = max(FEWEST_FIRST, FIRST_ROWS * channels)
    if len(rows.index) < 2 * first:
        return _minimised(rows, heads, l2, _Memory(_Metric(rows.gram(), l2)))
    some = rows.some(first)
    memory = _Memory(_Metric(some.gram(), l2))
    heads = _minimised(some, heads, l2, memory)
    return _minimised(rows, heads, l2, memory)


def _decided(rows: WeightedRows) -> Bool[Tensor, " concepts"]:
    """Concepts that have weight of both classes."""
    return (rows.present.sum(dim=1) > 0) & (rows.absent.sum(dim=1) > 0)


class _Metric:
    """Solves with the initial metric of each head: that of its strength."""

    def __init__(self, gram: Float[Tensor, "n n"], l2: Float[Tensor, "strengths concepts"]) -> None:
        ridge = gram.new_ones(len(gram))
        ridge[-1] = 0  # the bias
        tiny = 1e-5 * CURVATURE * gram.diagonal().mean()  # of channels that say the same
        strengths = sorted(set(l2.flatten().tolist()))
        self.heads = [l2 == strength for strength in strengths]
        self.factors = [
            torch.linalg.cholesky(CURVATURE * gram + torch.diag(strength * ridge + tiny))
            for strength in strengths
        ]

    def solve(self, gradient: Heads) -> Heads:
        found = torch.empty_like(gradient)
        for own, factor in zip(self.heads, self.factors, strict=True):
            found[own] = torch.cholesky_solve(gradient[own].T, factor).T
        return found


def _minimised(
    rows: WeightedRows, heads: Heads, l2: Float[Tensor, "strengths concepts"], memory: "_Memory"
) -> Heads:
    """L-BFGS for all heads in step; one that is done stays as it is."""
    penalty = l2[..., None].repeat(1, 1, heads.shape[2])
    penalty[..., -1] = 0
    active = _decided(rows).expand(heads.shape[:2]).clone()
    logits = rows.logits(heads)
    gradient = _gradient(rows, logits, heads, penalty)
    settled = ~active
    for _ in range(MOST_STEPS):
        direction = -memory.solve(gradient)
        promised = -_dot(gradient, direction)
        value = _losses(rows, logits) + _dot(penalty * heads, heads) / 2
        little = promised <= TOLERANCE * value
        # the first metric is too stiff where classes are well apart, and promises too little
        active &= ~(little & settled)
        settled = little
        if not active.any():
            break
        direction *= active[..., None]
        along = rows.logits(direction)
        step = _step(rows, logits, along, heads, direction, gradient, penalty) * active
        change = step[..., None] * direction
        heads, logits = heads + change, logits + step[..., None] * along
        before, gradient = gradient, _gradient(rows, logits, heads, penalty)
        memory.remember(change, gradient - before)
    return heads


class _Memory:
    """The two-loop recursion of L-BFGS for all heads, from a metric that is not the identity."""

    def __init__(self, metric: _Metric) -> None:
        self.metric = metric
        self.pairs: list[tuple[Heads, Heads, Tensor]] = []
        self.size: Tensor | float = 1.0

    def remember(self, change: Heads, pulled: Heads) -> None:
        """The last change of heads, and that of their gradients; nothing of heads at rest."""
        product = _dot(change, pulled)
        inverse = torch.where(product > 0, 1 / product, 0.0)
        self.pairs = [*self.pairs[-MEMORY + 1 :], (change, pulled, inverse)]
        own = _dot(pulled, self.metric.solve(pulled))
        size = (product / own)[..., None]
        self.size = torch.where((product > 0)[..., None], size, self.size)

    def solve(self, gradient: Heads) -> Heads:
        """The inverse Hessian, as far as it is known, times a gradient."""
        shares = []
        for change, pulled, inverse in reversed(self.pairs):
            share = (inverse * _dot(change, gradient))[..., None]
            gradient = gradient - share * pulled
            shares.append(share)
        found = self.size * self.metric.solve(gradient)
        for (change, pulled, inverse), share in zip(self.pairs, reversed(shares), strict=True):
            found = found + (share - (inverse * _dot(pulled, found))[..., None]) * change
        return found


def _step(
    rows: WeightedRows,
    logits: Float[Tensor, "strengths concepts rows"],
    along: Float[Tensor, "strengths concepts rows"],
    heads: Heads,
    direction: Heads,
    gradient: Heads,
    penalty: Heads,
) -> Float[Tensor, "strengths concepts"]:
    """How far to go along each direction: Newton's method within a bracket of the minimum.

    A head that is there waits for the others, so that its step is as if it were alone.
    """
    low, high = (logits.new_full(heads.shape[:2], end) for end in (0.0, LONGEST_STEP))
    step = torch.ones_like(low)
    there = torch.zeros_like(low, dtype=torch.bool)
    weight = rows.present + rows.absent
    steepest = -_dot(gradient, direction)
    for _ in range(LINE_STEPS):
        share = torch.sigmoid(logits + step[..., None] * along)
        slope = ((weight * share - rows.present) * along).sum(dim=2)
        bend = (weight * (share - share**2) * along**2).sum(dim=2)
        slope = slope + _dot(penalty * (heads + step[..., None] * direction), direction)
        bend = bend + _dot(penalty * direction, direction)
        there |= slope.abs() <= FLAT * steepest
        if bool(there.all()):
            break
        low, high = torch.where(slope < 0, step, low), torch.where(slope < 0, high, step)
        newton = step - slope / bend.clamp(min=1e-30)
        within = (newton > low) & (newton < high)
        nearer = torch.where(within, newton, (low + high) / 2)
        step = torch.where(there, step, nearer)
    return step


def _gradient(
    rows: WeightedRows,
    logits: Float[Tensor, "strengths concepts rows"],
    heads: Heads,
    penalty: Heads,
) -> Heads:
    residuals = (rows.present + rows.absent) * torch.sigmoid(logits) - rows.present
    return rows.pull(residuals) + penalty * heads


def _losses(
    rows: WeightedRows, logits: Float[Tensor, "strengths concepts rows"]
) -> Float[Tensor, "strengths concepts"]:
    return weighted_cost(logits, rows.present, rows.absent, "balanced").sum(dim=2)


def _dot(a: Heads, b: Heads) -> Float[Tensor, "strengths concepts"]:
    return (a * b).sum(dim=2)
