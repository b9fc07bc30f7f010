"""Many logistic regressions on the same rows, solved together to their optimum.

Every head, a concept with one strength of L2 regularisation, is a problem of its own, strictly
convex, whose solution does not depend on which others there are. They share the passes over the
rows: a matrix product serves all of them, and memory is read once.

The method is L-BFGS (Liu & Nocedal 1989) from a metric that is not the identity: first the Gram
matrix of some rows with the strength on its diagonal, one for all heads of a strength; then, up
to `OWN_METRIC` coefficients, the Hessian of each head where those rows put it, with which a few
passes over all rows are enough. Of wider layers, whose Hessians cost more than the passes that
they save, the Gram matrix serves to the end. Along each direction the minimum is found by
Newton's method on the logits, which are linear in the step, without another pass over the
activations.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cavalcade.concepts.drawing import inclusion, systematic
from cavalcade.concepts.probes import channel_scales, weighted_cost

CHUNK = 2**19  # numbers that are converted to float32 at a time, so that they stay in the cache
CHUNK_ON_GPU = 2**25  # where each piece of work has to be worth its start
MOST_NUMBERS = 2**26  # of a temporary: of rows x heads, or of a matrix for each head
OWN_METRIC = 257  # most coefficients with which each head has a metric of its own
MEMORY = 20  # pairs of steps and changes of the gradient that L-BFGS remembers
TOLERANCE = 5e-4  # of the loss; a head ends with a step that promises less, see `_Metric`
ROUGHLY = 2e-2  # likewise where heads get metrics of their own
MOST_STEPS = 100
CURVATURE = 0.03  # of a row, p (1 - p), as the initial metric takes it
LEAST_CURVATURE = 1e-4  # as the metric of a head takes it
FIRST_ROWS = 10  # for each channel, from which a first guess is made, and the metrics
FEWEST_FIRST = 4096
LONGEST_STEP = 8.0
LINE_STEPS = 12
FLAT = 0.1  # of the slope where a line search began, at which it ends

log = logging.getLogger(__name__)

Heads = Float[Tensor, "strengths concepts coefficients"]
"""The coefficients of each head: its channels, then the bias."""


@dataclass(frozen=True)
class WeightedRows:
    """Pixels of one layer, and how much each counts for and against each concept.

    Attributes:
        activations: float32 or bfloat16.
        mean: subtracted from each channel.
        scale: each channel is divided by it.
        present: weight with which a row shows each concept.
        absent: weight with which it does not; the weights of a concept add up to about 1.
    """

    activations: Float[Tensor, "rows channels"]
    mean: Float[Tensor, " channels"]
    scale: Float[Tensor, " channels"]
    present: Float[Tensor, "concepts rows"]
    absent: Float[Tensor, "concepts rows"]

    @property
    def decided(self) -> Bool[Tensor, " concepts"]:
        """Concepts that have weight of both classes."""
        return (self.present.sum(dim=1) > 0) & (self.absent.sum(dim=1) > 0)

    def some(self, count: int) -> "WeightedRows":
        """About so many of them, which weigh as much as all: those that weigh much are kept."""
        chances = inclusion((self.present + self.absent).sum(dim=0), self.mean.new_tensor([count]))
        drawn = systematic(chances, chances.new_tensor([0.5])).nonzero().flatten()
        return replace(
            self,
            activations=self.activations[drawn].float(),
            present=self.present[:, drawn] / chances[drawn],
            absent=self.absent[:, drawn] / chances[drawn],
        )

    def of_concepts(self, own: slice) -> "WeightedRows":
        """The same rows as they count for some of the concepts."""
        return replace(self, present=self.present[own], absent=self.absent[own])

    def logits(self, heads: Heads) -> Float[Tensor, "strengths concepts rows"]:
        """Of every row and head."""
        vectors = heads[..., :-1].flatten(0, 1) / self.scale
        bias = heads[..., -1].flatten() - vectors @ self.mean
        out = vectors.new_empty(len(vectors), len(self.activations))
        for rows, chunk in _chunks(self.activations):
            torch.addmm(bias[:, None], vectors, chunk.T, out=out[:, rows])
        return out.view(*heads.shape[:2], -1)

    def pull(self, residuals: Float[Tensor, "strengths concepts rows"]) -> Heads:
        """The gradient of the coefficients, given that of every logit."""
        flat = residuals.flatten(0, 1)
        raw = flat.new_zeros(len(flat), len(self.mean))
        for rows, chunk in _chunks(self.activations):
            raw.addmm_(flat[:, rows], chunk)
        total = flat.sum(dim=1, keepdim=True)
        gradient = torch.cat([(raw - total * self.mean) / self.scale, total], dim=1)
        return gradient.view(*residuals.shape[:2], -1)

    def grams(self, weights: Float[Tensor, "sets rows"]) -> Float[Tensor, "sets n n"]:
        """Sum over rows of the product of every two coefficients' inputs, with each weights."""
        n = len(self.mean) + 1
        totals = weights.new_zeros(len(weights), n, n)
        for rows, chunk in _chunks(self.activations):
            inputs = torch.cat([(chunk - self.mean) / self.scale, chunk.new_ones(len(chunk), 1)], 1)
            for total, own in zip(totals, weights[:, rows], strict=True):
                total.addmm_(inputs.T * own, inputs)
        return totals


def moments(
    activations: Float[Tensor, "rows channels"], weights: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Weighted mean and standard deviation of each channel, that of a constant one as 1.

    One is constant too whose deviation is no more than rounding leaves of its mean.
    """
    shares = weights / weights.sum()
    about, rest, square = weights.new_zeros(3, activations.shape[1])
    for rows, chunk in _chunks(activations):
        about += shares[rows] @ chunk
    for rows, chunk in _chunks(activations):
        offset = chunk - about  # small, so that sums of it lose few digits
        rest += shares[rows] @ offset
        square += shares[rows] @ offset.square()
    mean, deviation = about + rest, (square - rest**2).clamp(min=0).sqrt()
    return mean, channel_scales(mean, deviation)


def _chunks(activations: Float[Tensor, "rows channels"]) -> Iterator[tuple[slice, Tensor]]:
    """The rows in float32, some at a time."""
    count = max((CHUNK if activations.is_cpu else CHUNK_ON_GPU) // activations.shape[1], 1)
    for first in range(0, len(activations), count):
        rows = slice(first, first + count)
        yield rows, activations[rows].float()


def losses(rows: WeightedRows, heads: Heads) -> Float[Tensor, "strengths concepts"]:
    """The weighted cross-entropy of each head, without its regularisation."""
    return torch.cat([_losses(rows, rows.logits(own[None])) for own in heads])


def fit(rows: WeightedRows, l2: Float[Tensor, "strengths concepts"]) -> Heads:
    """The heads that minimise sum_i [(a_i + n_i) softplus(z_i) - a_i z_i] + l2/2 |w|^2.

    With a and n the weights of a row as `present` and `absent`, z = w·x + b its logit, x its
    standardised activations; the bias b is not regularised. From zero, first on some rows. Of
    many concepts some are fitted at a time, so that memory has a bound.

    Returns:
        Coefficients of standardised inputs; zero for a concept whose weights of either kind are
        all zero. The loss is within about `TOLERANCE` of the lowest.
    """
    channels = len(rows.mean)
    first = max(FEWEST_FIRST, FIRST_ROWS * channels)
    some = rows if len(rows.activations) < 2 * first else rows.some(first)
    gram = some.grams((some.present + some.absent).mean(dim=0, keepdim=True))[0]
    size = max(len(rows.activations), channels**2 if channels <= OWN_METRIC else 0) * len(l2)
    count = max(MOST_NUMBERS // size, 1)
    blocks = [slice(at, at + count) for at in range(0, l2.shape[1], count)]
    fitted = [
        _fit(rows.of_concepts(own), some.of_concepts(own), gram, l2[:, own]) for own in blocks
    ]
    return torch.cat(fitted, dim=1)


def _fit(
    rows: WeightedRows,
    some: WeightedRows,
    gram: Float[Tensor, "n n"],
    l2: Float[Tensor, "strengths concepts"],
) -> Heads:
    heads = gram.new_zeros(*l2.shape, len(gram))
    if not bool(rows.decided.any()):
        return heads
    memory = _Memory(_common_metric(gram, l2))
    if len(gram) > OWN_METRIC:
        heads = _minimised(some, heads, l2, memory)
    else:
        heads = _minimised(some, heads, l2, memory, ROUGHLY)
        heads = _minimised(some, heads, l2, _Memory(_own_metrics(some, heads, l2)))
        memory = _Memory(_own_metrics(some, heads, l2))
    if len(some.activations) == len(rows.activations):
        return heads
    return _minimised(rows, heads, l2, memory)


@dataclass(frozen=True)
class _Metric:
    """What the Hessian of each head is taken for.

    Attributes:
        solve: divides gradients by it.
        patience: how many steps, one after the other, have to promise little before a head ends.
            A metric that is too stiff, as one for all heads is where classes are well apart,
            promises too little.
    """

    solve: Callable[[Heads], Heads]
    patience: int


def _common_metric(gram: Float[Tensor, "n n"], l2: Float[Tensor, "strengths concepts"]) -> _Metric:
    """One for all heads of a strength: every row has the same curvature."""
    strengths = l2.new_tensor(sorted(set(l2.flatten().tolist())))
    heads = [l2 == strength for strength in strengths]
    factors = _factors((CURVATURE * gram).expand(len(strengths), -1, -1), strengths)

    def solve(gradient: Heads) -> Heads:
        found = torch.empty_like(gradient)
        for own, factor in zip(heads, factors, strict=True):
            found[own] = torch.cholesky_solve(gradient[own].T, factor).T
        return found

    return _Metric(solve, patience=2)


def _own_metrics(
    rows: WeightedRows, heads: Heads, l2: Float[Tensor, "strengths concepts"]
) -> _Metric:
    """The Hessian of each head where it is now."""
    share = torch.sigmoid(rows.logits(heads))
    curvature = (share - share**2).clamp(min=LEAST_CURVATURE) * (rows.present + rows.absent)
    factors = _factors(rows.grams(curvature.flatten(0, 1)), l2.flatten())

    def solve(gradient: Heads) -> Heads:
        found = torch.cholesky_solve(gradient.flatten(0, 1)[..., None], factors)
        return found.view_as(gradient)

    return _Metric(solve, patience=1)


def _factors(
    hessians: Float[Tensor, "sets n n"], l2: Float[Tensor, " sets"]
) -> Float[Tensor, "sets n n"]:
    """Cholesky factors, once regularised."""
    ridge = l2[:, None].repeat(1, hessians.shape[1])
    ridge[:, -1] = 0  # the bias
    diagonal = hessians.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True)
    tiny = (1e-5 * diagonal).clamp(min=1e-9)  # of channels that say the same
    return torch.linalg.cholesky(hessians + torch.diag_embed(ridge + tiny))


def _minimised(
    rows: WeightedRows,
    heads: Heads,
    l2: Float[Tensor, "strengths concepts"],
    memory: "_Memory",
    tolerance: float = TOLERANCE,
) -> Heads:
    """L-BFGS for all heads in step; one that is done stays as it is."""
    penalty = l2[..., None].repeat(1, 1, heads.shape[2])
    penalty[..., -1] = 0
    active = rows.decided.expand(heads.shape[:2]).clone()
    logits = rows.logits(heads)
    gradient = _gradient(rows, logits, heads, penalty)
    small = torch.zeros_like(active, dtype=torch.int)  # steps that promised little, up to the last
    for _ in range(MOST_STEPS):
        direction = -memory.solve(gradient)
        promised = -_dot(gradient, direction)
        value = _losses(rows, logits) + _dot(penalty * heads, heads) / 2
        small = torch.where(promised <= tolerance * value, small + 1, 0)
        active &= small < memory.metric.patience
        if not active.any():
            break
        direction *= active[..., None]
        along = rows.logits(direction)
        step = _step(rows, logits, along, heads, direction, gradient, penalty) * active
        change = step[..., None] * direction
        heads, logits = heads + change, logits + step[..., None] * along
        before, gradient = gradient, _gradient(rows, logits, heads, penalty)
        memory.remember(change, gradient - before)
    if tolerance == TOLERANCE and bool(active.any()):
        log.warning(
            "%d of %d probes of %d channels are not yet at their optimum after %d steps",
            *(active.sum(), active.numel(), len(rows.mean), MOST_STEPS),
        )
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
