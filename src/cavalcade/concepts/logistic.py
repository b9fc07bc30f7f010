"""Many logistic regressions on the same rows, solved together to their optimum.

Every head, a concept with one strength of L2 regularisation, is a problem of its own, strictly
convex, whose solution does not depend on which others there are. They share the passes over the
rows: a matrix product serves all of them, and memory is read once.

The method is L-BFGS (Liu & Nocedal 1989) from a metric that is not the identity: first the Gram
matrix of some rows with the strength on its diagonal, one for all heads of a strength; then, up
to `OWN_METRIC` channels, the Hessian of each head where those rows put it, with which a few
passes over all rows are enough. Of wider layers, whose Hessians cost more than the passes that
they save, the Gram matrix serves to the end. Along each direction the minimum is found by
Newton's method on the logits, which are linear in the step, without another pass over the
activations.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cavalcade.concepts.drawing import inclusion, systematic
from cavalcade.concepts.probes import channel_scales, weighted_cost

CHUNK = 2**19  # numbers that are converted to float32 at a time, so that they stay in the cache
CHUNK_ON_GPU = 2**25  # where each piece of work has to be worth its start
MOST_NUMBERS = 2**24  # of a temporary: of rows x heads, or of a matrix for each head
OWN_METRIC = 256  # most channels with which each head has a metric of its own
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

Heads = Float[Tensor, "heads coefficients"]
"""The coefficients of each head: its channels, then the bias."""


@dataclass(frozen=True)
class WeightedRows:
    """Pixels of one layer, and how much each counts for and against each concept.

    Attributes:
        activations: float32, bfloat16 or float16.
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

    def of_heads(self, concepts: Int[Tensor, " heads"]) -> "WeightedRows":
        """The same rows with a concept for each head, which may come more than once."""
        return replace(self, present=self.present[concepts], absent=self.absent[concepts])

    def logits(self, heads: Heads) -> Float[Tensor, "heads rows"]:
        """Of every row and head."""
        vectors = heads[:, :-1] / self.scale
        bias = heads[:, -1] - vectors @ self.mean
        out = vectors.new_empty(len(vectors), len(self.activations))
        for rows, chunk in _chunks(self.activations):
            torch.addmm(bias[:, None], vectors, chunk.T, out=out[:, rows])
        return out

    def pull(self, residuals: Float[Tensor, "heads rows"]) -> Heads:
        """The gradient of the coefficients, given that of every logit."""
        raw = residuals.new_zeros(len(residuals), len(self.mean))
        for rows, chunk in _chunks(self.activations):
            raw.addmm_(residuals[:, rows], chunk)
        total = residuals.sum(dim=1, keepdim=True)
        return torch.cat([(raw - total * self.mean) / self.scale, total], dim=1)

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


def losses(
    rows: WeightedRows, heads: Float[Tensor, "strengths concepts coefficients"]
) -> Float[Tensor, "strengths concepts"]:
    """The weighted cross-entropy of each head, without its regularisation."""
    return torch.stack([_losses(rows, rows.logits(own)) for own in heads])


def fit(
    rows: WeightedRows, l2: Float[Tensor, "strengths concepts"]
) -> Float[Tensor, "strengths concepts coefficients"]:
    """The heads that minimise sum_i [(a_i + n_i) softplus(z_i) - a_i z_i] + l2/2 |w|^2.

    With a and n the weights of a row as `present` and `absent`, z = w·x + b its logit, x its
    standardised activations; the bias b is not regularised. From zero, first on some rows. Of
    many heads some are fitted at a time, so that memory has a bound.

    Returns:
        Coefficients of standardised inputs; zero for a concept whose weights of either kind are
        all zero. The loss is within 0.1 % of the lowest; with a common metric and little
        regularisation, where steps promise too little, within 1 % of activations as networks give
        them, some per cent of such with heavier tails or of fewer rows than channels.
    """
    channels = len(rows.mean)
    found = l2.new_zeros(l2.numel(), channels + 1)
    concepts = torch.arange(l2.shape[1], device=l2.device).repeat(len(l2))
    fitted = rows.decided[concepts].nonzero().flatten()
    if not len(fitted):
        return found.view(*l2.shape, -1)
    first = max(FEWEST_FIRST, FIRST_ROWS * channels)
    some = rows if len(rows.activations) < 2 * first else rows.some(first)
    gram = some.grams((some.present + some.absent).mean(dim=0, keepdim=True))[0]
    alone = channels <= OWN_METRIC
    size = max(len(rows.activations), (channels + 1) * (channels + 1 if alone else 2 * MEMORY))
    for own in torch.split(fitted, max(MOST_NUMBERS // size, 1)):
        whole, part = (each.of_heads(concepts[own]) for each in (rows, some))
        found[own] = _fit(whole, part, gram, l2.flatten()[own], alone=alone)
    return found.view(*l2.shape, -1)


def _fit(
    rows: WeightedRows,
    some: WeightedRows,
    gram: Float[Tensor, "n n"],
    l2: Float[Tensor, " heads"],
    *,
    alone: bool,
) -> Heads:
    """All heads at once, with metrics of their own or with common ones."""
    heads = gram.new_zeros(len(l2), len(gram))
    metric = _common_metric(gram, l2)
    if alone:
        heads = _Descent(some, heads, l2, metric).minimise(ROUGHLY)
        heads = _Descent(some, heads, l2, _own_metrics(some, heads, l2)).minimise(TOLERANCE)
        metric = _own_metrics(some, heads, l2)
    else:
        heads = _Descent(some, heads, l2, metric).minimise(TOLERANCE)
    descent = _Descent(rows, heads, l2, metric)
    heads = descent.minimise(TOLERANCE)
    if not bool(descent.done.all()):
        log.warning(
            "%d of %d probes of %d channels are not yet at their optimum after %d steps",
            *((~descent.done).sum(), len(l2), len(rows.mean), MOST_STEPS),
        )
    return heads


@dataclass(frozen=True)
class _Metric:
    """What the Hessian of each head is taken for.

    Attributes:
        factors: its Cholesky factors, those of a metric each.
        which: the metric of each head; None where each has its own.
        patience: how many steps, one after the other, have to promise little before a head ends.
            A metric that is too stiff, as one for all heads is where classes are well apart,
            promises too little.
    """

    factors: Float[Tensor, "metrics n n"]
    which: Int[Tensor, " heads"] | None
    patience: int

    def solve(self, gradient: Heads) -> Heads:
        """Divide gradients by it."""
        if self.which is None:
            return torch.cholesky_solve(gradient[..., None], self.factors)[..., 0]
        found = torch.empty_like(gradient)
        for number, factor in enumerate(self.factors):
            own = self.which == number
            found[own] = torch.cholesky_solve(gradient[own].T, factor).T
        return found

    def of_heads(self, own: Int[Tensor, " heads"]) -> "_Metric":
        """That of some of the heads."""
        if self.which is None:
            return replace(self, factors=self.factors[own])
        return replace(self, which=self.which[own])


def _common_metric(gram: Float[Tensor, "n n"], l2: Float[Tensor, " heads"]) -> _Metric:
    """One for all heads of a strength: every row has the same curvature."""
    values = sorted(set(l2.tolist()))
    strengths = l2.new_tensor(values)
    grams = (CURVATURE * gram).repeat(len(strengths), 1, 1)
    return _Metric(_factors(grams, strengths), torch.searchsorted(strengths, l2), patience=2)


def _own_metrics(rows: WeightedRows, heads: Heads, l2: Float[Tensor, " heads"]) -> _Metric:
    """The Hessian of each head where it is now."""
    share = torch.sigmoid(rows.logits(heads))
    curvature = (share - share**2).clamp(min=LEAST_CURVATURE) * (rows.present + rows.absent)
    return _Metric(_factors(rows.grams(curvature), l2), which=None, patience=1)


def _factors(
    hessians: Float[Tensor, "metrics n n"], l2: Float[Tensor, " metrics"]
) -> Float[Tensor, "metrics n n"]:
    """Cholesky factors of matrices, which are regularised in place."""
    n = hessians.shape[1]
    diagonal = hessians.diagonal(dim1=1, dim2=2)
    # of channels that say the same; rounding leaves more of large matrices
    tiny = max(1e-5, 2 * n * torch.finfo(hessians.dtype).eps) * diagonal.mean(dim=1, keepdim=True)
    diagonal += tiny.clamp(min=1e-9)
    diagonal[:, :-1] += l2[:, None]  # all but the bias
    return torch.linalg.cholesky(hessians)


class _Descent:
    """L-BFGS for some heads in step, from a metric that is not the identity.

    Each head goes its way as if it were alone; once half of those that are worked on are done,
    they are left out.

    Attributes:
        heads: as far as they have come.
        done: whether the steps of each promise little.
    """

    def __init__(
        self, rows: WeightedRows, heads: Heads, l2: Float[Tensor, " heads"], metric: _Metric
    ) -> None:
        self.heads, self.done = heads.clone(), torch.zeros_like(l2, dtype=torch.bool)
        self._rows, self._own, self._metric = rows, heads, metric
        self._places = torch.arange(len(heads), device=heads.device)  # of those worked on
        self._penalty = l2[:, None].repeat(1, heads.shape[1])
        self._penalty[:, -1] = 0  # the bias
        self._little = torch.zeros_like(l2, dtype=torch.int)  # last steps that promised little
        self._pairs: list[tuple[Heads, Heads, Tensor]] = []
        self._size = heads.new_ones(len(heads), 1)

    def minimise(self, tolerance: float) -> Heads:
        """Go on until no step promises more than a share of the loss, or for `MOST_STEPS`."""
        logits = self._rows.logits(self._own)
        gradient = self._gradient(logits)
        for _ in range(MOST_STEPS):
            direction = -self._solve(gradient)
            promised = -_dot(gradient, direction)
            value = _losses(self._rows, logits) + _dot(self._penalty * self._own, self._own) / 2
            self._little = torch.where(promised <= tolerance * value, self._little + 1, 0)
            busy = self._little < self._metric.patience
            self.done[self._places] |= ~busy
            if not bool(busy.any()):
                break
            if 2 * int(busy.sum()) <= len(busy):
                own = busy.nonzero().flatten()
                self._leave_out_others(own)
                logits, gradient, direction = logits[own], gradient[own], direction[own]
                busy = busy[own]
            direction *= busy[:, None]
            along = self._rows.logits(direction)
            step = (self._step(logits, along, direction, gradient) * busy)[:, None]
            self._own, logits = self._own + step * direction, logits + step * along
            before, gradient = gradient, self._gradient(logits)
            self._remember(step * direction, gradient - before)
        self.heads[self._places] = self._own
        return self.heads

    def _leave_out_others(self, own: Int[Tensor, " heads"]) -> None:
        self.heads[self._places] = self._own
        self._places, self._own = self._places[own], self._own[own]
        self._rows, self._metric = self._rows.of_heads(own), self._metric.of_heads(own)
        self._penalty, self._little, self._size = (
            each[own] for each in (self._penalty, self._little, self._size)
        )
        self._pairs = [
            (change[own], pulled[own], inverse[own]) for change, pulled, inverse in self._pairs
        ]

    def _remember(self, change: Heads, pulled: Heads) -> None:
        """The last change of heads, and that of their gradients; nothing of heads at rest."""
        product = _dot(change, pulled)
        inverse = torch.where(product > 0, 1 / product, 0.0)
        self._pairs = [*self._pairs[-MEMORY + 1 :], (change, pulled, inverse)]
        size = product / _dot(pulled, self._metric.solve(pulled))
        self._size = torch.where((product > 0)[:, None], size[:, None], self._size)

    def _solve(self, gradient: Heads) -> Heads:
        """The inverse Hessian, as far as it is known, times a gradient: the two-loop recursion."""
        shares = []
        for change, pulled, inverse in reversed(self._pairs):
            share = (inverse * _dot(change, gradient))[:, None]
            gradient = gradient - share * pulled
            shares.append(share)
        found = self._size * self._metric.solve(gradient)
        for (change, pulled, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            found = found + (share - (inverse * _dot(pulled, found))[:, None]) * change
        return found

    def _step(
        self,
        logits: Float[Tensor, "heads rows"],
        along: Float[Tensor, "heads rows"],
        direction: Heads,
        gradient: Heads,
    ) -> Float[Tensor, " heads"]:
        """How far to go along each direction: Newton's method within a bracket of the minimum.

        A head that is there waits for the others, so that its step is as if it were alone.
        """
        low, high = (logits.new_full((len(logits),), end) for end in (0.0, LONGEST_STEP))
        step, there = torch.ones_like(low), torch.zeros_like(low, dtype=torch.bool)
        weight = self._rows.present + self._rows.absent
        steepest = -_dot(gradient, direction)
        from_start = _dot(self._penalty * self._own, direction)
        from_step = _dot(self._penalty * direction, direction)
        for _ in range(LINE_STEPS):
            share = torch.sigmoid(logits + step[:, None] * along)
            slope = ((weight * share - self._rows.present) * along).sum(dim=1)
            slope += from_start + step * from_step
            bend = (weight * (share - share**2) * along**2).sum(dim=1) + from_step
            there |= slope.abs() <= FLAT * steepest
            if bool(there.all()):
                break
            low, high = torch.where(slope < 0, step, low), torch.where(slope < 0, high, step)
            newton = step - slope / bend.clamp(min=1e-30)
            within = (newton > low) & (newton < high)
            nearer = torch.where(within, newton, (low + high) / 2)
            step = torch.where(there, step, nearer)
        return step

    def _gradient(self, logits: Float[Tensor, "heads rows"]) -> Heads:
        weight = self._rows.present + self._rows.absent
        residuals = weight * torch.sigmoid(logits) - self._rows.present
        return self._rows.pull(residuals) + self._penalty * self._own


def _losses(rows: WeightedRows, logits: Float[Tensor, "heads rows"]) -> Float[Tensor, " heads"]:
    return weighted_cost(logits, rows.present, rows.absent, "balanced").sum(dim=1)


def _dot(a: Heads, b: Heads) -> Float[Tensor, " heads"]:
    return (a * b).sum(dim=1)
