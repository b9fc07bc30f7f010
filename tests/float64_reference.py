"""The whole method once more, in float64, slowly and plainly, and with nothing of the package.

From the images as a network takes them, its weights, and masks of labels, to how alike layers are.
For whole images that are warped to the input, with the truth known everywhere.

Sizes: n images, c channels, k concepts, h x w cells of a layer, g x g pixels of the common grid.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize, nnls

EDGES = np.arange(2048) / 64 - 16  # thresholds that are tried


def convolved(x, weight, bias):
    """3 x 3, in steps of 2, with a border of zeros: (n, c, 2h, 2w) to (n, c', h, w)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (size // 2 for size in x.shape[2:])
    found = np.zeros((len(x), len(weight), rows, columns)) + bias[:, None, None]
    for i, j in itertools.product(range(3), range(3)):
        shifted = padded[:, :, i : i + 2 * rows : 2, j : j + 2 * columns : 2]
        found += np.einsum("ncij,dc->ndij", shifted, weight[:, :, i, j])
    return found


def layers_of(inputs, weights: Mapping[str, np.ndarray]):
    """What the small network's layers 2, 4 and 6 give: (n, c, h, w) each."""

    def own(name):
        return weights[name].astype(np.float64)

    x = convolved(inputs, own("0.weight"), own("0.bias"))
    scale = own("1.weight") / np.sqrt(own("1.running_var") + 1e-5)
    shift = own("1.bias") - scale * own("1.running_mean")
    found = {"2": np.maximum(scale[:, None, None] * x + shift[:, None, None], 0)}
    for before, convolution, name in (("2", "3", "4"), ("4", "5", "6")):
        x = convolved(found[before], own(f"{convolution}.weight"), own(f"{convolution}.bias"))
        found[name] = np.maximum(x, 0)
    return found


def shares(masks, grid):
    """Share of each cell that a mask covers, where a cell is so many whole pixels wide."""
    n, k, height, width = masks.shape
    cells = masks.reshape(n, k, grid[0], height // grid[0], grid[1], width // grid[1])
    return cells.mean(axis=(3, 5))


def on_centres(masks, grid):
    """The mask's pixel under the centre of each pixel of the common grid."""
    size = masks.shape[-1]
    places = [int((i + 0.5) * size / grid) for i in range(grid)]
    return masks[..., places, :][..., places]


def on_grid(maps, grid):
    """Linear between centres of cells, first down, then across; (n, k, h, w) to (n, k, g, g)."""
    for axis in (2, 3):
        cells = np.arange(maps.shape[axis])
        places = (np.arange(grid) + 0.5) / grid * len(cells) - 0.5
        line = functools.partial(np.interp, places, cells)
        maps = np.apply_along_axis(line, axis, maps)
    return maps


def rows_of(maps):
    """One cell each row: (n, c, h, w) to (n h w, c)."""
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])


class Balanced:
    """The balanced loss of one concept at one layer, 1 x log 2 of a probe that knows nothing."""

    def __init__(self, rows, targets, share, mean, scale):
        self.mean, self.scale = mean, scale
        self.inputs = np.c_[(rows - mean) / scale, np.ones(len(rows))]
        size = 2 * (1 - share) * share * len(rows)
        self.shown = (1 - share) * targets / size
        self.hidden = share * (1 - targets) / size

    def standardised(self, vector, bias):
        """The coefficients of a probe of the layer's own space."""
        return np.r_[vector * self.scale, bias + vector @ self.mean]

    def folded(self, head):
        """The inverse."""
        vector = head[:-1] / self.scale
        return vector, head[-1] - vector @ self.mean

    def loss(self, head):
        logits = self.inputs @ head
        return self.shown @ np.logaddexp(0, -logits) + self.hidden @ np.logaddexp(0, logits)

    def objective(self, head, l2):
        return self.loss(head) + l2 / 2 * head[:-1] @ head[:-1]

    @functools.cache  # noqa: B019
    def best(self, l2):
        """Where the objective is lowest, by Newton's method in a region of trust."""
        penalty = np.r_[np.full(self.inputs.shape[1] - 1, l2), 0]

        def gradient(head):
            p = 1 / (1 + np.exp(-self.inputs @ head))
            residuals = (self.shown + self.hidden) * p - self.shown
            return self.inputs.T @ residuals + penalty * head

        def hessian(head):
            p = 1 / (1 + np.exp(-self.inputs @ head))
            curvature = (self.shown + self.hidden) * p * (1 - p)
            return (self.inputs.T * curvature) @ self.inputs + np.diag(penalty)

        found = minimize(
            lambda head: self.objective(head, l2),
            np.zeros(len(penalty)),
            jac=gradient,
            hess=hessian,
            method="trust-exact",
            options={"gtol": 1e-10},
        )
        assert np.abs(gradient(found.x)).max() < 1e-8
        return found.x


def problems_of(train, val, masks, val_masks):
    """For each concept its loss on training images, and that on validation images."""
    rows, others = rows_of(train), rows_of(val)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale <= 1e-6 * scale.max() + 1e-5 * np.abs(mean)] = 1
    targets, judged = (
        rows_of(shares(own, maps.shape[2:])) for own, maps in ((masks, train), (val_masks, val))
    )
    return [
        (
            Balanced(rows, targets[:, k], masks[:, k].mean(), mean, scale),
            Balanced(others, judged[:, k], masks[:, k].mean(), mean, scale),
        )
        for k in range(masks.shape[1])
    ]


def probes_of(problems, strengths, near):
    """For each concept the vector and bias of the layer's space.

    Of the strongest regularisation whose loss on validation images is as near to the lowest.
    """
    found = []
    for problem, judge in problems:
        heads = [problem.best(l2) for l2 in strengths]
        losses = np.array([judge.loss(head) for head in heads])
        found.append(problem.folded(heads[np.flatnonzero(losses <= near * losses.min())[-1]]))
    return [np.array(part) for part in zip(*found, strict=True)]


def logits_of(maps, vectors, biases, grid):
    """On the common grid."""
    return on_grid(np.einsum("nchw,kc->nkhw", maps, vectors) + biases[:, None, None], grid)


def thresholds_of(logits, masks):
    """The lowest of those tried with the highest Jaccard index on training pixels."""
    found = []
    for own, truth in zip(np.moveaxis(logits, 1, 0), np.moveaxis(masks, 1, 0), strict=True):
        scores = [jaccard(own >= edge, truth) for edge in EDGES]
        found.append(EDGES[int(np.argmax(scores))])
    return np.array(found)


def jaccard(a, b):
    union = (a | b).sum()
    return (a & b).sum() / union if union else np.nan


def codes_of(maps, dictionary):
    """Non-negative least squares of every cell: (n, c, h, w) to (n, k, h, w)."""
    n, _, h, w = maps.shape
    codes = np.array([nnls(dictionary.T, row)[0] for row in rows_of(maps)])
    return np.moveaxis(codes.reshape(n, h, w, -1), -1, 1)


def expected_intersection(a, b):
    """Of two masks (n, g, g): the mean over all pairs of different images, times the images."""
    n = len(a)
    pairs = [(a[i] & b[j]).sum() for i in range(n) for j in range(n) if i != j]
    return n * np.mean(pairs)


def adjusted(a, b, paired=None):
    """The Jaccard index with chance removed; of re-paired images, less what chance was before."""
    by_chance = expected_intersection(a, b)
    chance = by_chance / (a.sum() + b.sum() - by_chance)
    return (jaccard(a, b if paired is None else paired) - chance) / (1 - chance)


def repaired(a, b, step):
    """The same after every image of one network has met one so many images further on."""
    return adjusted(a, b, np.roll(b, step, axis=0))


def best_matches(cells):
    """Mean of the best match of each concept, both ways averaged; -inf where undefined."""
    return (cells.max(axis=0).mean() + cells.max(axis=1).mean()) / 2


def linear_cka(x, y):
    """Of features (n, c) of the same images (Kornblith et al. 2019)."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross, own, other = (np.linalg.norm(p.T @ q) for p, q in ((x, y), (x, x), (y, y)))
    return cross**2 / (own * other)
