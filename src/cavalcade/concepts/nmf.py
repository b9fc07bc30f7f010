"""Non-negative matrix factorisation of activations, A = S V with S, V >= 0.

A are activations (rows, channels), S codes (rows, concepts), V a dictionary (concepts,
channels), whose rows are the concepts (Zhang et al. 2021). Several dictionaries, each for other
weights of the same rows, are found together: of rows scaled by the root of their weights.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from scipy.linalg import eigh
from torch import Tensor

from cavalcade.concepts.nnls import SMALLEST, descend

INNER_STEPS = 4  # sweeps of the codes for each of the dictionary: the product they share is dear
FIRST_STEPS = 8  # sweeps from codes of 0, where a dictionary is there already
RANK = 1e-6  # singular values below this share of the largest are rounding


@dataclass(frozen=True)
class Factorised:
    """What a factorisation found.

    Attributes:
        dictionary: non-negative, one concept each row, of Euclidean length 1 unless all zero.
        errors: relative error |A - S V| / |A| after each step on the last sample.
    """

    dictionary: Float[Tensor, "concepts channels"]
    errors: tuple[float, ...]


def factorise(
    activations: Float[Tensor, "rows channels"],
    num_concepts: int,
    *,
    samples: tuple[int, ...] = (1000, 4000, 16000),
    tolerance: float = 1e-4,
    max_steps: int = 200,
) -> Factorised:
    """Dictionary of the smallest Frobenius norm |A - S V| that hierarchical steps find.

    Hierarchical alternating least squares (Cichocki & Phan 2009), each concept in turn with all
    others fixed, from a non-negative double singular value decomposition (Boutsidis & Gallopoulos
    2008): no random numbers. The dictionary of few rows starts that of more.

    Args:
        activations: non-negative; rows in random order, since samples are evenly spaced rows.
        num_concepts: how many concepts to look for.
        samples: numbers of rows, growing; those beyond the rows there are count as all of them.
        tolerance: a sample ends when a step lowers the error by a smaller share than this.
        max_steps: on each sample.
    """
    weights = activations.new_ones(1, len(activations))
    found, errors = _fit(activations, num_concepts, weights, samples, tolerance, max_steps)
    return Factorised(found[0], tuple(float(error[0]) for error in errors))


def refit(
    activations: Float[Tensor, "rows channels"],
    num_concepts: int,
    weights: Float[Tensor, "refits rows"],
    *,
    samples: tuple[int, ...] = (1000, 2500),
    tolerance: float = 1e-4,
    max_steps: int = 200,
) -> Float[Tensor, "refits concepts channels"]:
    """Dictionaries of the smallest sum over rows of w_n |a_n - s_n V|^2, one for each weighting.

    Each is found as `factorise` finds its own, from a start of its own, so that refits agree
    only where the data decide. Of fewer rows than the main fit, which vary more: how much
    dictionaries of resampled rows agree is understated, never flattered.

    Args:
        activations: as of `factorise`.
        num_concepts: how many concepts to look for.
        weights: non-negative, such as how often a bootstrap draws each row.
        samples: as of `factorise`.
        tolerance: as of `factorise`, for each refit by itself.
        max_steps: as of `factorise`.
    """
    return _fit(activations, num_concepts, weights, samples, tolerance, max_steps)[0]


def _fit(
    activations: Float[Tensor, "rows channels"],
    num_concepts: int,
    weights: Float[Tensor, "fits rows"],
    samples: tuple[int, ...],
    tolerance: float,
    max_steps: int,
) -> tuple[Float[Tensor, "fits concepts channels"], list[Tensor]]:
    """Dictionaries of length 1, and the errors of those still going on the last sample."""
    weights = weights.to(activations)
    first, *more = sorted({min(size, len(activations)) for size in samples})
    rows, scales = evenly(activations, first), evenly(weights.T, first).T.sqrt()
    starts = [start(rows * scale[:, None], num_concepts) for scale in scales]
    codes, found = (torch.stack(parts) for parts in zip(*starts, strict=True))
    found, errors = _alternate(rows, scales, codes.mT, found, tolerance, max_steps)
    for size in more:
        rows, scales = evenly(activations, size), evenly(weights.T, size).T.sqrt()
        products, gram = _products(rows, scales, found), found @ found.mT
        codes = descend(torch.zeros_like(products), products, gram, FIRST_STEPS)
        found, errors = _alternate(rows, scales, codes, found, tolerance, max_steps)
    return found / found.norm(dim=2, keepdim=True).clamp(min=SMALLEST), errors


def evenly(rows: Shaped[Tensor, "rows channels"], size: int) -> Shaped[Tensor, "size channels"]:
    """Some rows, evenly spaced."""
    return rows[torch.linspace(0, len(rows) - 1, size, device=rows.device).round().long()]


def start(
    rows: Float[Tensor, "rows channels"], num_concepts: int
) -> tuple[Float[Tensor, "rows concepts"], Float[Tensor, "concepts channels"]]:
    """Codes and dictionary from the positive or the negative parts of singular vectors.

    Of each pair the parts with the larger product of norms; zero where the rank is too small.
    """
    left, values, right = _singular(rows, num_concepts)
    codes = rows.new_zeros(len(rows), num_concepts)
    dictionary = rows.new_zeros(num_concepts, rows.shape[1])
    for k, value in enumerate(values):
        parts = [(sign * left[:, k]).clamp(min=0) for sign in (1, -1)]
        others = [(sign * right[:, k]).clamp(min=0) for sign in (1, -1)]
        sizes = [float(a.norm() * b.norm()) for a, b in zip(parts, others, strict=True)]
        side = int(sizes[1] > sizes[0])
        scale = torch.sqrt(value * sizes[side])
        codes[:, k] = scale * parts[side] / parts[side].norm().clamp(min=SMALLEST)
        dictionary[k] = scale * others[side] / others[side].norm().clamp(min=SMALLEST)
    return codes, dictionary


def _singular(
    rows: Float[Tensor, "rows channels"], most: int
) -> tuple[
    Float[Tensor, "rows rank"],
    Float[Tensor, " rank"],
    Float[Tensor, "channels rank"],
]:
    """Leading singular vectors and values in float64, of the smaller Gram matrix.

    Far cheaper than all of them; values are right to 1e-8 of the largest, and at most those of
    the rank are there.
    """
    if len(rows) < rows.shape[1]:
        right, values, left = _singular(rows.T, most)
        return left, values, right
    tall = rows.double()
    size = tall.shape[1]
    gram = (tall.T @ tall).cpu().numpy()
    squares, vectors = eigh(gram, subset_by_index=(max(size - most, 0), size - 1))
    values = torch.from_numpy(squares).flip(0).clamp(min=0).sqrt().to(tall.device)
    right = torch.from_numpy(vectors).flip(1).to(tall.device)
    kept = values > RANK * values[0]
    values, right = values[kept], right[:, kept]
    return tall @ right / values, values, right


def _alternate(
    rows: Float[Tensor, "rows channels"],
    scales: Float[Tensor, "fits rows"],
    codes: Float[Tensor, "fits concepts rows"],
    dictionaries: Float[Tensor, "fits concepts channels"],
    tolerance: float,
    max_steps: int,
) -> tuple[Float[Tensor, "fits concepts channels"], list[Tensor]]:
    """Steps of codes and dictionary in turn, of each fit until its error hardly falls.

    Returns:
        Dictionaries; after each step, the relative errors of the fits that took it.
    """
    found, going = dictionaries.clone(), torch.arange(len(dictionaries), device=rows.device)
    squares = scales.double().square() @ rows.square().sum(dim=1).double()
    errors = [_errors(squares, _sums(rows, scales, codes), codes @ codes.mT, found)]
    for _ in range(max_steps):
        now = found[going]
        codes = descend(codes, _products(rows, scales, now), now @ now.mT, INNER_STEPS)
        sums, gram = _sums(rows, scales, codes), codes @ codes.mT
        found[going] = descend(now, sums, gram, 1)
        after = _errors(squares, sums, gram, found[going])
        on = errors[-1] - after > tolerance * errors[-1]
        errors.append(after)
        if not on.any():
            break
        if not on.all():
            going, scales, codes, squares = (x[on] for x in (going, scales, codes, squares))
            errors[-1] = after[on]
    return found, errors


def _products(
    rows: Float[Tensor, "rows channels"],
    scales: Float[Tensor, "fits rows"],
    dictionaries: Float[Tensor, "fits concepts channels"],
) -> Float[Tensor, "fits concepts rows"]:
    """Of each dictionary and its scaled rows: those of all in one, as they share the rows."""
    fits, concepts, _ = dictionaries.shape
    products = rows @ dictionaries.flatten(0, 1).T
    return products.T.reshape(fits, concepts, -1) * scales[:, None]


def _sums(
    rows: Float[Tensor, "rows channels"],
    scales: Float[Tensor, "fits rows"],
    codes: Float[Tensor, "fits concepts rows"],
) -> Float[Tensor, "fits concepts channels"]:
    """Of scaled rows, each times its codes.

    Codes stand on the left: rows.T on the left is ten times as slow.
    """
    fits, concepts, _ = codes.shape
    return ((codes * scales[:, None]).flatten(0, 1) @ rows).reshape(fits, concepts, -1)


def relative_error(
    rows: Float[Tensor, "rows channels"],
    codes: Float[Tensor, "rows concepts"],
    dictionary: Float[Tensor, "concepts channels"],
) -> float:
    """|A - S V| / |A|; 0 for rows that are all zero."""
    square = rows.square().sum(dim=1).double().sum()[None]
    sums, gram = codes.T @ rows, codes.T @ codes
    return float(_errors(square, sums[None], gram[None], dictionary[None]))


def _errors(
    squares: Float[Tensor, " fits"],
    sums: Float[Tensor, "fits concepts channels"],
    gram: Float[Tensor, "fits concepts concepts"],
    dictionaries: Float[Tensor, "fits concepts channels"],
) -> Float[Tensor, " fits"]:
    """Relative errors from |A|^2, S' A and S' S alone."""
    cross = (sums * dictionaries).double().sum(dim=(1, 2))
    grams = (gram * (dictionaries @ dictionaries.mT)).double().sum(dim=(1, 2))
    left = (squares - 2 * cross + grams).clamp(min=0)
    return torch.where(squares > 0, left / squares, 0).sqrt()
