"""PCA and k-means against scikit-learn; planted concepts recovered by every method."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA

from cavalcade.concepts.reducers import REDUCERS, fit_kmeans, fit_pca


def planted(rows=2000, channels=30, concepts=4, seed=0, shares=None):
    """Each pixel belongs to one of some concepts, which share no channel, plus noise."""
    rng = np.random.default_rng(seed)
    dictionary = np.zeros((concepts, channels))
    for k, chosen in enumerate(np.array_split(rng.permutation(channels), concepts)):
        dictionary[k, chosen] = rng.uniform(0.5, 1, len(chosen))
    which = rng.choice(concepts, rows, p=shares)
    strength = rng.uniform(1, 2, rows)
    clean = dictionary[which] * strength[:, None]
    noisy = np.maximum(clean + 0.02 * rng.normal(size=clean.shape), 0)
    return torch.from_numpy(noisy).float(), torch.from_numpy(dictionary).float()


def cosines(a, b):
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
    return (a @ b.T).numpy()


@pytest.mark.parametrize("method", ["nmf", "kmeans"])
def test_planted_concepts_are_recovered(method):
    rows, dictionary = planted()
    found = REDUCERS[method].fit(rows, 4, 0)
    vectors = found.vectors + (rows.mean(dim=0) if method == "kmeans" else 0)
    alike = cosines(vectors, dictionary)
    partners = linear_sum_assignment(alike, maximize=True)
    assert alike[partners].min() > 0.99
    assert found.error < 0.35


def test_components_span_the_planted_concepts():
    rows, dictionary = planted()
    found = fit_pca(rows, 3, 0)  # four concepts less their mean
    centred = dictionary - dictionary.mean(dim=0)
    left = centred - centred @ found.vectors.T @ found.vectors
    assert float(left.norm() / centred.norm()) < 0.15


def test_components_are_those_of_scikit_learn_up_to_their_side():
    rows, _ = planted(seed=1)
    model = PCA(3, svd_solver="full").fit(rows.double().numpy())
    found = fit_pca(rows, 3, 0)
    alike = np.abs(cosines(found.vectors, torch.from_numpy(model.components_).float()))
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-4)
    left = 1 - model.explained_variance_ratio_.sum()
    assert found.error == pytest.approx(left**0.5, rel=1e-4)


def test_each_component_points_to_its_longer_tail():
    rows, _ = planted(seed=2)
    found = fit_pca(rows, 3, 0)
    coordinates = rows @ found.vectors.T + found.bias
    np.testing.assert_allclose(coordinates.mean(dim=0), 0, atol=1e-4)
    assert ((coordinates**3).sum(dim=0) > 0).all()


def test_the_same_centre_twice_is_one_concept():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    assert len(fit_kmeans(rows, 5, 0).vectors) == 2


def test_centres_far_from_zero_lose_no_precision():
    rows, _ = planted()
    near, far = (fit_kmeans(rows + offset, 4, 0) for offset in (0.0, 300.0))
    belongs = [
        ((rows + offset) @ found.vectors.T + found.bias).argmax(dim=1)
        for found, offset in ((near, 0.0), (far, 300.0))
    ]
    same = [torch.stack([belongs[0] == a, belongs[1] == b]).all(dim=0).sum()
            for a in range(4) for b in range(4)]  # fmt: skip
    assert sum(sorted(same)[-4:]) > 0.999 * len(rows)


@pytest.mark.parametrize("method", list(REDUCERS))
def test_a_draw_without_anything_in_it_finds_nothing(method):
    rows = torch.zeros(30, 6)
    rows[:10] = torch.rand(10, 6)
    weights = (torch.arange(30) >= 10).long()[None]
    (again,) = REDUCERS[method].refit(rows, 2, 0, weights)
    assert again.shape == (0, 6)


def test_layers_of_few_channels_have_fewer_concepts():
    rows, _ = planted(channels=6, concepts=3)
    for method in ("nmf", "pca"):
        assert len(REDUCERS[method].fit(rows, 10, 0).vectors) <= 6


@pytest.mark.parametrize("method", list(REDUCERS))
def test_refits_of_clear_concepts_find_them_again(method):
    # components of like concepts would turn in their plane, or to the other side
    rows, _ = planted(shares=[0.6, 0.25, 0.1, 0.05])
    reducer = REDUCERS[method]
    num_concepts = 3 if method == "pca" else 4
    found = reducer.fit(rows, num_concepts, 0)
    weights = torch.from_numpy(np.random.default_rng(0).poisson(1, (3, len(rows))))
    again = reducer.refit(rows, num_concepts, 0, weights)
    assert len(again) == 3
    for directions in again:
        assert cosines(found.vectors, directions).max(axis=1).min() > 0.95


@pytest.mark.parametrize("method", list(REDUCERS))
def test_refits_differ_with_their_weights_and_repeat_themselves(method):
    rows = torch.from_numpy(np.random.default_rng(1).gamma(0.5, size=(600, 12))).float()
    weights = torch.from_numpy(np.random.default_rng(2).poisson(1, (2, len(rows))))
    reducer = REDUCERS[method]
    first, again = (reducer.refit(rows, 3, 0, weights) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(first[0], first[1], atol=1e-3)
