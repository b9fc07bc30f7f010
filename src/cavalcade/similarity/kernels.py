"""What a layer makes of every pair of images: Gram matrices, dissimilarities, neighbours."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cavalcade.similarity.pair_matrices import CentredMatrices, Neighbours, RankedPairs
from cavalcade.similarity.prepared import ROUNDING, centred

DECIMALS = 10  # of cosines and correlations: two that differ only beyond them are tied

Features = Sequence[Float[np.ndarray, "images _"]]


def prepare_cka(measure: str, features: Features) -> CentredMatrices:
    """Double-centred Gram matrices; see `features.prepare`."""
    grams = [_unit(gram, gram) for gram in map(_gram, features)]
    return CentredMatrices(measure, np.stack(grams), lambda m: (1 / m**2, 2 / m), fewest=2)


def prepare_cka_unbiased(measure: str, features: Features) -> CentredMatrices:
    """U-centred Gram matrices with zero diagonal; see `features.prepare`."""
    grams = [_unit(_u_centred(gram), gram) for gram in map(_gram, features)]
    return CentredMatrices(measure, np.stack(grams), _u_centring, fewest=4)


def prepare_rsa(measure: str, features: Features) -> CentredMatrices:
    """Dissimilarities of all pairs of images less their mean; see `features.prepare`."""
    matrices = []
    for dissimilarity in map(_dissimilarities, features):
        off = ~np.eye(len(dissimilarity), dtype=bool)
        mean = dissimilarity[off].mean() if off.any() else 0.0
        matrices.append(_unit(np.where(off, dissimilarity - mean, 0.0), dissimilarity))
    return CentredMatrices(
        measure, np.stack(matrices), lambda m: (-1 / (m * (m - 1)), 0.0), fewest=3
    )


def prepare_rsa_spearman(measure: str, features: Features) -> RankedPairs:
    """Order of the dissimilarities of all pairs of images; see `features.prepare`."""
    images = len(features[0])
    upper = np.triu_indices(images, 1)
    pairs = [_dissimilarities(layer)[upper] for layer in features]
    places = [np.unique(row, return_inverse=True)[1].astype(np.int32) + 1 for row in pairs]
    return RankedPairs(measure, np.stack(places).astype(np.int32), images)


def prepare_knn(measure: str, features: Features) -> Neighbours:
    """Images in the order of their cosine with each image; see `features.prepare`."""
    nearest, defined = [], []
    for layer in features:
        cosines = np.round(_cosines_of_rows(layer.astype(np.float64)), DECIMALS)
        defined.append(bool((np.abs(cosines) < 1).any()))
        np.fill_diagonal(cosines, -np.inf)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :-1]
        nearest.append(order.astype(np.int32))
    return Neighbours(measure, np.stack(nearest), np.array(defined))


def _unit(
    matrix: Float[np.ndarray, "images images"], origin: Float[np.ndarray, "images images"]
) -> Float[np.ndarray, "images images"]:
    """The matrix with Frobenius norm 1, in float32; all zero if it is the rounding of another."""
    norm = np.linalg.norm(matrix)
    if norm <= np.sqrt(ROUNDING) * np.linalg.norm(origin):
        return np.zeros(matrix.shape, dtype=np.float32)
    return (matrix / norm).astype(np.float32)


def _gram(features: Float[np.ndarray, "images channels"]) -> Float[np.ndarray, "images images"]:
    deviations = centred(features)
    return deviations @ deviations.T


def _u_centring(images: int) -> tuple[float, float]:
    return 1 / ((images - 1) * (images - 2)), 2 / (images - 2)


def _u_centred(gram: Float[np.ndarray, "images images"]) -> Float[np.ndarray, "images images"]:
    """Off-diagonal entries less the part made of one image each; zero for under four images."""
    images = len(gram)
    if images < 4:
        return np.zeros(gram.shape)
    hollow = gram - np.diag(np.diagonal(gram))
    rows = hollow.sum(axis=1) / (images - 2)
    result = hollow - rows[:, None] - rows + rows.sum() / (images - 1)
    np.fill_diagonal(result, 0.0)
    return result


def _cosines_of_rows(
    rows: Float[np.ndarray, "images channels"],
) -> Float[np.ndarray, "images images"]:
    """Cosines of all pairs of rows; all 1 if any row is zero or not finite."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    if not np.isfinite(largest).all() or (largest == 0).any():
        return np.ones((len(rows), len(rows)))
    scaled = rows / largest[:, None]
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit @ unit.T


def _dissimilarities(
    features: Float[np.ndarray, "images channels"],
) -> Float[np.ndarray, "images images"]:
    """1 - Pearson correlation of the features of two images; all 0 if any image has none."""
    return np.round(1 - _cosines_of_rows(centred(features.T).T), DECIMALS)
