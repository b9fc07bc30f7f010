"""How concepts are mined from the activations of one layer: NMF, PCA or k-means."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from cavalcade.concepts.nmf import factorise, refit

Rows = Float[Tensor, "rows channels"]
Dictionary = Float[Tensor, "concepts channels"]
Weights = Int[Tensor, "refits rows"]


@dataclass(frozen=True)
class Reduced:
    """The concepts of one layer, in the space of its transformed activations.

    Attributes:
        vectors: one concept each row.
        bias: of the maps, see `LayerConcepts.encode`.
        directions: what tells the concepts of one fit from those of another by their angles:
            the vectors, for k-means less the mean of all rows.
        error: relative error |A - S V| / |A| of the rows, for PCA and k-means of what is left
            when their mean is subtracted.
    """

    vectors: Dictionary
    bias: Float[Tensor, " concepts"]
    directions: Dictionary
    error: float


@dataclass(frozen=True)
class Reducer:
    """One way to mine concepts.

    Attributes:
        fit: given rows, how many concepts, and a seed, the concepts.
        refit: the same for several weightings of the rows; gives directions alone.
        non_negative: it wants rows without negative entries.
    """

    fit: Callable[[Rows, int, int], Reduced]
    refit: Callable[[Rows, int, int, Weights], list[Dictionary]]
    non_negative: bool = False


def fit_nmf(rows: Rows, num_concepts: int, seed: int) -> Reduced:  # noqa: ARG001
    """Non-negative factorisation; see `factorise`. No random numbers."""
    found = factorise(rows, min(num_concepts, *rows.shape), samples=(1000, 4000, len(rows)))
    dictionary = found.dictionary[found.dictionary.norm(dim=1) > 0]
    return Reduced(dictionary, dictionary.new_zeros(len(dictionary)), dictionary, found.errors[-1])


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
    return Reduced(vectors.float(), bias.float(), vectors.float(), left**0.5)


def refit_pca(rows: Rows, num_concepts: int, seed: int, weights: Weights) -> list[Dictionary]:
    """One weighting after the other."""
    return [
        fit_pca(rows.repeat_interleave(weight, dim=0), num_concepts, seed).directions
        for weight in weights
    ]


def fit_kmeans(rows: Rows, num_concepts: int, seed: int) -> Reduced:
    """Centres of clusters, from seeded k-means++ starts."""
    return _clusters(rows, num_concepts, seed, None)


def refit_kmeans(rows: Rows, num_concepts: int, seed: int, weights: Weights) -> list[Dictionary]:
    """One weighting after the other."""
    return [_clusters(rows, num_concepts, seed, weight).directions for weight in weights]


def _clusters(rows: Rows, num_concepts: int, seed: int, weight: Tensor | None) -> Reduced:
    values = rows.cpu().numpy()
    share = np.ones(len(values)) if weight is None else weight.double().cpu().numpy()
    model = KMeans(min(num_concepts, len(values)), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        # fewer different rows than clusters; the same centre twice is taken once below
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, sample_weight=share)
    centres = torch.from_numpy(np.unique(model.cluster_centers_.astype(np.float32), axis=0))
    mean = np.average(values, axis=0, weights=share).astype(np.float32)
    total = float((share * ((values - mean) ** 2).sum(axis=1)).sum())
    return Reduced(
        centres,
        -centres.square().sum(dim=1) / 2,
        centres - torch.from_numpy(mean),
        (model.inertia_ / total) ** 0.5,
    )


REDUCERS = {
    "nmf": Reducer(fit_nmf, refit_nmf, non_negative=True),
    "pca": Reducer(fit_pca, refit_pca),
    "kmeans": Reducer(fit_kmeans, refit_kmeans),
}
