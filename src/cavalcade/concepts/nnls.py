"""Non-negative least squares of many rows at once: descent by coordinates, and exact codes.

Of rows a (channels) and a dictionary V (concepts, channels), codes s >= 0 of the smallest
|a - s V|. All that matters of them are products a V' and the Gram matrix V V'.
"""

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls
from torch import Tensor

SMALLEST = 1e-12
SWEEPS = 10  # more of them guess better, and cost more than mending what they miss
TRIES = 3
MOST_CHANGES = 100
PIVOT = 1e-4  # the smallest of a system with ones on the diagonal that is solved directly
MOST_ROWS = 2**16
MOST_ENTRIES = 2**22  # of all systems solved at once


def descend(
    codes: Float[Tensor, "problems concepts rows"],
    wanted: Float[Tensor, "problems concepts rows"],
    gram: Float[Tensor, "problems concepts concepts"],
    sweeps: int,
) -> Float[Tensor, "problems concepts rows"]:
    """Each code set to its optimum in turn, given all others; those of empty concepts stay.

    Rows are last: each step then runs along memory.

    Args:
        codes: where to start, non-negative.
        wanted: V a' of each problem.
        gram: V V' of each problem.
        sweeps: how often all concepts have their turn.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2)[:, :, None]
    share = torch.where(diagonal > SMALLEST, 1 / diagonal, 0)
    codes, target = codes.clone(), wanted * share
    steps = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device) - gram * share
    for _ in range(sweeps):
        for k in range(gram.shape[1]):
            one = slice(k, k + 1)
            best = torch.baddbmm(target[:, one], steps[:, one], codes)
            torch.clamp(best, min=0, out=codes[:, one])
    return codes


def encode(
    rows: Float[Tensor, "rows channels"], dictionary: Float[Tensor, "concepts channels"]
) -> Float[Tensor, "rows concepts"]:
    """Codes of the smallest |a - s V| with s >= 0, exactly, of all rows at once.

    Block principal pivoting (Kim & Park 2011): which codes are above 0 is guessed for all by
    descent, and mended where codes or their multipliers have the wrong sign. Solved in float64,
    in blocks of bounded memory. A concept that is all zero has codes of 0.
    """
    lengths = dictionary.double().norm(dim=1)
    scales = torch.where(lengths.square() > SMALLEST, 1 / lengths, 0)
    unit = dictionary.double() * scales[:, None]
    gram = (unit @ unit.T).fill_diagonal_(1)  # also of empty concepts, which want nothing
    size = max(1, min(MOST_ROWS, MOST_ENTRIES // len(gram) ** 2))
    codes = rows.new_empty(len(rows), len(gram))
    for first in range(0, len(rows), size):
        block = slice(first, first + size)
        codes[block] = _exact(rows[block], unit, gram) * scales
    return codes


def _exact(
    rows: Float[Tensor, "rows channels"],
    dictionary: Float[Tensor, "concepts channels"],
    gram: Float[Tensor, "concepts concepts"],
) -> Float[Tensor, "rows concepts"]:
    """Codes in float64 for a dictionary in float64 of lengths 1 and 0."""
    products = rows @ dictionary.T.to(rows.dtype)
    wanted = products.double()
    positive = _guess(products, gram)
    codes, multipliers = _solve(wanted, gram, positive)
    tolerance = 1e-9 * wanted.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST)
    left = torch.arange(len(rows), device=rows.device)
    fewest = torch.full_like(left, len(gram) + 1)
    tries = torch.full_like(left, TRIES)
    for _ in range(MOST_CHANGES):
        found = codes[left]
        wrong = (positive & (found < -tolerance)) | (~positive & (multipliers < -tolerance))
        count = wrong.sum(dim=1)
        unsolved = count > 0
        left, wanted, positive, tolerance, wrong, count, fewest, tries = (
            x[unsolved] for x in (left, wanted, positive, tolerance, wrong, count, fewest, tries)
        )
        if len(left) == 0:
            return codes.clamp_(min=0)
        better = count < fewest
        fewest, tries = torch.where(better, count, fewest), torch.where(better, TRIES, tries - 1)
        positive = positive ^ torch.where((tries >= 0)[:, None], wrong, _last(wrong))
        codes[left], multipliers = _solve(wanted, gram, positive)
    for row in left.tolist():  # concepts nearly sums of each other leave rounding to decide
        columns, target = (x.double().cpu().numpy() for x in (dictionary.T, rows[row]))
        codes[row] = torch.from_numpy(nnls(columns, target)[0])
    return codes.clamp_(min=0)


def _guess(
    products: Float[Tensor, "rows concepts"], gram: Float[Tensor, "concepts concepts"]
) -> Bool[Tensor, "rows concepts"]:
    """Which codes are above 0 after some descent in float32."""
    wanted = products.T[None].float().contiguous()
    codes = descend(torch.zeros_like(wanted), wanted, gram[None].float(), SWEEPS)
    return (codes[0] > 0).T.contiguous()


def _last(wrong: Bool[Tensor, "rows concepts"]) -> Bool[Tensor, "rows concepts"]:
    """Only the last of each row: where changing all has not helped for a while, it must end."""
    return wrong & (wrong.flip(1).cumsum(1).flip(1) == 1)


def _solve(
    wanted: Float[Tensor, "rows concepts"],
    gram: Float[Tensor, "concepts concepts"],
    positive: Bool[Tensor, "rows concepts"],
) -> tuple[Float[Tensor, "rows concepts"], Float[Tensor, "rows concepts"]]:
    """Least squares of the positive codes, 0 elsewhere, and the multipliers of the others.

    Rows that share which codes are positive share a factor; of codes that are not unique, those
    of the smallest length.
    """
    which, patterns = _patterns(positive)
    # only positive codes enter a system, and few of many concepts are positive at once
    width = int(patterns.sum(dim=1).max())
    kept, concepts = (x[:, :width] for x in patterns.byte().sort(dim=1, descending=True))
    chosen = kept.to(gram.dtype)
    systems = gram[concepts[:, :, None], concepts[:, None, :]]
    systems = systems * chosen[:, :, None] * chosen[:, None, :] + torch.diag_embed(1 - chosen)
    concepts = concepts[which]
    targets = wanted.gather(1, concepts) * chosen[which]
    solved = _solutions(systems, which, targets)
    codes = torch.zeros_like(wanted).scatter_(1, concepts, solved)
    return codes, codes @ gram - wanted


def _solutions(
    systems: Float[Tensor, "patterns width width"],
    which: Int[Tensor, " rows"],
    targets: Float[Tensor, "rows width"],
) -> Float[Tensor, "rows width"]:
    """By Cholesky's factors; by the pseudo-inverse where a system is nearly singular."""
    factors, failed = torch.linalg.cholesky_ex(systems)
    pivots = factors.diagonal(dim1=1, dim2=2)
    singular = (failed > 0) | (pivots < PIVOT).any(dim=1)
    solved = torch.cholesky_solve(targets[:, :, None], factors[which])[:, :, 0]
    if singular.any():
        inverses = torch.linalg.pinv(systems[singular], hermitian=True, rtol=1e-10)
        place = singular.cumsum(0) - 1
        rows = singular[which]
        solved[rows] = (inverses[place[which[rows]]] @ targets[rows][:, :, None])[:, :, 0]
    return solved


def _patterns(
    positive: Bool[Tensor, "rows concepts"],
) -> tuple[Int[Tensor, " rows"], Bool[Tensor, "patterns concepts"]]:
    """Which pattern each row has, and the patterns."""
    rows, concepts = positive.shape
    if concepts > 63:  # more than fit an integer, and hardly two rows alike
        return torch.arange(rows, device=positive.device), positive
    powers = 2 ** torch.arange(concepts, device=positive.device)
    codes, which = torch.unique((positive * powers).sum(dim=1), return_inverse=True)
    return which, (codes[:, None] & powers) > 0
