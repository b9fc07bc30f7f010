"""How concepts are mined from the activations of one layer: NMF, PCA or k-means."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from cavalcade.concepts.nmf import evenly, factorise, refit

Rows = Float[Tensor, "rows channels"]
Dictionary = Float[Tensor, "concepts channels"]
Weights = Int[Tensor, "refits rows"]

REFIT_ROWS = 2000  # of PCA and k-means; fewer make refits vary more, which flatters nothing


@dataclass(frozen=True)
class Reduced:
    """The concepts of one layer, in the space of its transformed activations.

    Attributes:
        vectors: one concept each row; of k-means the centres less the mean of all rows. Their
            angles tell the concepts of one fit from those of another.
        bias: of the maps, see `LayerConcepts.encode`.
        error: relative error |A - S V| / |A| of the rows, for PCA and k-means of what is left
            when their mean is subtracted.
    """

    vectors: Dictionary
    bias: Float[Tensor, " concepts"]
    error: float


Fit = Callable[[Rows, int, int], Reduced]
Refit = Callable[[Rows, int, int, Weights], list[Dictionary]]


@dataclass(frozen=True)
class Reducer:
    """One way to mine concepts.

    Attributes:
        fit: given rows, how many concepts, and a seed, the concepts.
        refit: the same for several weightings of the rows; gives vectors alone.
        non_negative: it wants rows without negative entries.
    """

    fit: Fit
    refit: Refit
    non_negative: bool = False


def fit_nmf(rows: Rows, num_concepts: int, seed: int) -> Reduced:  # noqa: ARG001
    """Non-negative factorisation; see `factorise`. No random numbers."""
    found = factorise(rows, min(num_concepts, *rows.shape), samples=(1000, 4000, len(rows)))
    dictionary = found.dictionary[found.dictionary.norm(dim=1) > 0]
    return Reduced(dictionary, dictionary.new_zeros(len(dictionary)), found.errors[-1])


def refit_nmf(rows: Rows, num_concepts: int, seed: int, weights: Weights) -> list[Dictionary]:  # noqa: ARG001
    """All weightings at once; see `refit`."""
    found = refit(rows, min(num_concepts, *rows.shape), weights.to(rows.dtype))
    return [dictionary[dictionary.norm(dim=1) > 0] for dictionary in found]


def fit_pca(rows: Rows, num_concepts: int, seed: int) -> Reduced:  # noqa: ARG001
    """Principal components, each turned to the side of its longer tail.

    A component has two ends; the concept is the one that fires rarely and strongly (positive
    skewness of the coordinates).
    """
    model = PCA(min(num_concepts, *rows.shape), svd_solver="covariance_eigh")
    coordinates = model.fit_transform(rows.double().cpu().numpy())
    signs = np.where((coordinates**3).sum(axis=0) < 0, -1.0, 1.0)[:, None]
    vectors = torch.from_numpy(model.components_ * signs)
    bias = -vectors @ torch.from_numpy(model.mean_)
    left = max(1 - float(model.explained_variance_ratio_.sum()), 0.0)
    return Reduced(vectors.float(), bias.float(), left**0.5)


def fit_kmeans(rows: Rows, num_concepts: int, seed: int) -> Reduced:
    """Centres of clusters, from a seeded k-means++ start.

    The vectors are the centres less the mean of all rows, which changes no margin and keeps
    precision where all centres are far from 0.
    """
    values = rows.double().cpu().numpy()
    model = KMeans(min(num_concepts, len(values)), n_init=1, random_state=seed % 2**32)
    with warnings.catch_warnings(), threadpool_limits(1, "openmp"):  # threads sum in any order
        # fewer different rows than clusters; the same centre twice is taken once below
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values)
    centres, mean = np.unique(model.cluster_centers_, axis=0), values.mean(axis=0)
    error = (model.inertia_ / ((values - mean) ** 2).sum()) ** 0.5
    vectors = torch.from_numpy((centres - mean).astype(np.float32))
    bias = torch.from_numpy((-((centres**2).sum(axis=1) - (mean**2).sum()) / 2).astype(np.float32))
    return Reduced(vectors, bias, float(error))


def one_by_one(fit: Fit) -> Refit:
    """Refits of one weighting after the other, of a sample of the rows."""

    def refit_all(rows: Rows, num_concepts: int, seed: int, weights: Weights) -> list[Dictionary]:
        return [
            fit(drawn, num_concepts, seed).vectors if _varies(drawn) else drawn[:0]
            for drawn in _draws(rows, weights)
        ]

    return refit_all


def _draws(rows: Rows, weights: Weights) -> Iterator[Rows]:
    """Evenly spaced rows, each as often as every weighting says."""
    size = min(REFIT_ROWS, len(rows))
    some, counts = evenly(rows, size), evenly(weights.T, size)
    for weight in counts.T:
        yield some.repeat_interleave(weight, dim=0)


def _varies(rows: Rows) -> bool:
    """Whether there is anything to be found in some rows."""
    return bool((rows != rows[:1]).any())


REDUCERS = {
    "nmf": Reducer(fit_nmf, refit_nmf, non_negative=True),
    "pca": Reducer(fit_pca, one_by_one(fit_pca)),
    "kmeans": Reducer(fit_kmeans, one_by_one(fit_kmeans)),
}
