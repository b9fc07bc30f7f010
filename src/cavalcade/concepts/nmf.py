"""Non-negative matrix factorisation of activations, A = S V with S, V >= 0, and its codes.

A are activations (rows, channels), S codes (rows, concepts), V a dictionary (concepts,
channels), whose rows are the concepts (Zhang et al. 2021).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.optimize import nnls
from torch import Tensor

INNER_STEPS = 4  # updates of the codes for each of the dictionary: the product they share is dear
SMALLEST = 1e-12
TRIES = 3
MOST_CHANGES = 100


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
        num_concepts: R.
        samples: numbers of rows, growing; those beyond the rows there are count as all of them.
        tolerance: a sample ends when a step lowers the error by a smaller share than this.
        max_steps: on each sample.
    """
    sizes = sorted({min(size, len(activations)) for size in samples})
    dictionary = None
    errors: list[float] = []
    for size in sizes:
        rows = evenly(activations, size)
        if dictionary is None:
            codes, dictionary = start(rows, num_concepts)
        else:
            codes = encode(rows, dictionary)
        codes, dictionary, errors = _alternate(rows, codes, dictionary, tolerance, max_steps)
    assert dictionary is not None
    lengths = dictionary.norm(dim=1, keepdim=True)
    return Factorised(dictionary / lengths.clamp(min=SMALLEST), tuple(errors))


def evenly(rows: Float[Tensor, "rows channels"], size: int) -> Float[Tensor, "size channels"]:
    """Some rows, evenly spaced."""
    return rows[torch.linspace(0, len(rows) - 1, size, device=rows.device).round().long()]


def start(
    rows: Float[Tensor, "rows channels"], num_concepts: int
) -> tuple[Float[Tensor, "rows concepts"], Float[Tensor, "concepts channels"]]:
    """Codes and dictionary from the positive or the negative parts of singular vectors.

    Of each pair the parts with the larger product of norms; zero where the rank is too small.
    """
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    codes = rows.new_zeros(len(rows), num_concepts)
    dictionary = rows.new_zeros(num_concepts, rows.shape[1])
    for k in range(min(num_concepts, len(s))):
        parts = [(sign * u[:, k]).clamp(min=0) for sign in (1, -1)]
        others = [(sign * v[k]).clamp(min=0) for sign in (1, -1)]
        sizes = [float(a.norm() * b.norm()) for a, b in zip(parts, others, strict=True)]
        side = int(sizes[1] > sizes[0])
        scale = torch.sqrt(s[k] * sizes[side])
        codes[:, k] = scale * parts[side] / parts[side].norm().clamp(min=SMALLEST)
        dictionary[k] = scale * others[side] / others[side].norm().clamp(min=SMALLEST)
    return codes, dictionary


def _alternate(
    rows: Float[Tensor, "rows channels"],
    codes: Float[Tensor, "rows concepts"],
    dictionary: Float[Tensor, "concepts channels"],
    tolerance: float,
    max_steps: int,
) -> tuple[Float[Tensor, "rows concepts"], Float[Tensor, "concepts channels"], list[float]]:
    """Steps of codes and dictionary in turn, until the error hardly falls."""
    square = _square(rows)
    products, gram = rows @ dictionary.T, dictionary @ dictionary.T
    errors = [_error(square, codes, products, gram)]
    for _ in range(max_steps):
        codes = _improved(codes, products, gram, INNER_STEPS)
        dictionary = _improved(dictionary.T, rows.T @ codes, codes.T @ codes, 1).T
        products, gram = rows @ dictionary.T, dictionary @ dictionary.T
        errors.append(_error(square, codes, products, gram))
        if errors[-2] - errors[-1] <= tolerance * errors[-2]:
            break
    return codes, dictionary.contiguous(), errors


def _improved(
    factor: Float[Tensor, "rows concepts"],
    products: Float[Tensor, "rows concepts"],
    gram: Float[Tensor, "concepts concepts"],
    steps: int,
) -> Float[Tensor, "rows concepts"]:
    """Each column of a factor set to its optimum in turn, given the other factor.

    Args:
        factor: to be improved.
        products: of the data with the other factor.
        gram: of the other factor with itself.
        steps: how often all columns have their turn.
    """
    columns = factor.T.contiguous()
    wanted = products.T.contiguous()
    for _ in range(steps):
        for k in range(len(gram)):
            if gram[k, k] > SMALLEST:
                change = (wanted[k] - gram[k] @ columns) / gram[k, k]
                columns[k] = (columns[k] + change).clamp(min=0)
    return columns.T


def relative_error(
    rows: Float[Tensor, "rows channels"],
    codes: Float[Tensor, "rows concepts"],
    dictionary: Float[Tensor, "concepts channels"],
) -> float:
    """|A - S V| / |A|; 0 for rows that are all zero."""
    products, gram = rows @ dictionary.T, dictionary @ dictionary.T
    return _error(_square(rows), codes, products, gram)


def _square(rows: Float[Tensor, "rows channels"]) -> float:
    """|A|^2, summed in float64."""
    return float(rows.square().sum(dim=1).double().sum())


def _error(
    square: float,
    codes: Float[Tensor, "rows concepts"],
    products: Float[Tensor, "rows concepts"],
    gram: Float[Tensor, "concepts concepts"],
) -> float:
    """Relative error from |A|^2, A V' and V V' alone."""
    cross = float((products * codes).sum(dim=1).double().sum())
    grams = float(((codes.T @ codes).double() * gram.double()).sum())
    return (max(square - 2 * cross + grams, 0.0) / square) ** 0.5 if square > 0 else 0.0


def encode(
    rows: Float[Tensor, "rows channels"], dictionary: Float[Tensor, "concepts channels"]
) -> Float[Tensor, "rows concepts"]:
    """Codes of the smallest |a - s V| with s >= 0, exactly, of all rows at once.

    Block principal pivoting (Kim & Park 2011): which codes are above 0 is guessed for all, and
    mended where codes or their multipliers have the wrong sign. A concept that is all zero has
    codes of 0.
    """
    gram = (dictionary @ dictionary.T).double()
    usable = gram.diagonal() > SMALLEST
    wanted = (rows @ dictionary.T).double()
    # a start near the solution: what is positive without bounds
    positive = (wanted > 0) & usable
    codes, multipliers = _solve(wanted, gram, positive)
    fewest = torch.full((len(rows),), wanted.shape[1] + 1, device=rows.device)
    tries = torch.full_like(fewest, TRIES)
    tolerance = 1e-9 * wanted.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST)
    for _ in range(MOST_CHANGES):
        wrong = (positive & (codes < -tolerance)) | (~positive & (multipliers < -tolerance))
        wrong &= usable
        count = wrong.sum(dim=1)
        unsolved = count > 0
        if not unsolved.any():
            break
        better = count < fewest
        fewest = torch.where(better, count, fewest)
        tries = torch.where(better, TRIES, tries - 1)
        # where changing all has not helped for a while, only the last is changed: it must end
        last = wrong & (wrong.flip(1).cumsum(1).flip(1) == 1)
        positive = positive ^ torch.where((tries >= 0)[:, None], wrong, last)
        codes[unsolved], multipliers[unsolved] = _solve(wanted[unsolved], gram, positive[unsolved])
    else:  # concepts that are nearly sums of each other leave rounding to decide
        for row in torch.nonzero(unsolved)[:, 0].tolist():
            columns, target = (x.double().cpu().numpy() for x in (dictionary.T, rows[row]))
            codes[row] = torch.from_numpy(nnls(columns, target)[0])
    return codes.clamp(min=0).to(rows.dtype)


def _solve(
    wanted: Float[Tensor, "rows concepts"],
    gram: Float[Tensor, "concepts concepts"],
    positive: Bool[Tensor, "rows concepts"],
) -> tuple[Float[Tensor, "rows concepts"], Float[Tensor, "rows concepts"]]:
    """Least squares of the positive codes, 0 elsewhere, and the multipliers of the others.

    Rows that share which codes are positive share an inverse.
    """
    patterns, which = torch.unique(positive, dim=0, return_inverse=True)
    chosen = patterns.to(gram.dtype)
    systems = gram * chosen[:, :, None] * chosen[:, None, :]
    inverses = torch.linalg.pinv(systems, hermitian=True, rtol=1e-10)
    codes = torch.einsum("nc,ncd->nd", wanted * positive, inverses[which]) * positive
    return codes, codes @ gram - wanted
