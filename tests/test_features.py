"""Measures from pooled features: against references, theorems, and themselves without a block."""

import numpy as np
import pytest
import torch
from ckatorch import cka_base
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import linalg, stats
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from cavalcade.errors import InputError
from cavalcade.similarity.estimates import Estimate
from cavalcade.similarity.features import (
    FEATURE_MEASURES,
    feature_similarity,
    prepare,
)

MEASURES = tuple(FEATURE_MEASURES)
SLOW_TWINS = ("procrustes", "svcca", "pwcca")
ROTATION_BLIND = ("cka", "cka_unbiased", "knn", "procrustes", "svcca")
SHIFT_BLIND = ("cka", "cka_unbiased", "procrustes", "svcca", "pwcca")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def correlated(seed=0, images=200, blocks=20, widths=(12, 45, 230)):
    """Layers of three widths that see the same scenes, images of one block alike."""
    rng = np.random.default_rng(seed)
    block = np.arange(images) * blocks // images
    scenes = rng.normal(size=(blocks, 25))[block] + 0.7 * rng.normal(size=(images, 25))
    scenes *= np.arange(1, 26) ** -0.7
    layers = [scenes @ rng.normal(size=(25, width)) for width in widths]
    return [np.maximum(x + 0.2 * rng.normal(size=x.shape), -0.5) for x in layers], block


def value(measure, ones, others):
    return prepare(measure, ones).similarity(prepare(measure, others))


def rotation(rng, size):
    return stats.ortho_group.rvs(size, random_state=rng) if size > 1 else np.ones((1, 1))


# Slow twins, each as its paper writes it.


def hsic_unbiased(k, m):
    """HSIC_1, Song et al. 2012, eq. 5."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    inner = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (inner - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def hsic_biased(k, m):
    """Gretton et al. 2005, as in Kornblith et al. 2019, eq. 3."""
    h = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ h @ m @ h) / (len(k) - 1) ** 2


def slow_cka(x, y, hsic=hsic_biased):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def rdm(x):
    return pdist(x, metric="correlation").round(10)


def slow_knn(x, y):
    def neighbours(features):
        finder = NearestNeighbors(n_neighbors=10, metric="cosine").fit(features)
        return finder.kneighbors(return_distance=False)

    pairs = zip(neighbours(x), neighbours(y), strict=True)
    return np.mean([len(set(one) & set(two)) / 10 for one, two in pairs])


def slow_procrustes(x, y):
    """From the residual of the best rotation, the narrower layer padded with zeros."""
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(z - z.mean(0), ((0, 0), (0, width - z.shape[1]))) for z in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    turn, _ = linalg.orthogonal_procrustes(x, y)
    return 1 - np.linalg.norm(x @ turn - y) ** 2 / 2


def leading(x, share=0.99):
    """Raghu et al. 2017: the part of a layer along the axes that explain its variance."""
    u, s, _ = linalg.svd(x - x.mean(0), full_matrices=False)
    count = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= share * (s**2).sum())
    return u[:, :count] * s[:count]


def slow_svcca(x, y):
    return np.cos(linalg.subspace_angles(leading(x), leading(y))).mean()


def slow_pwcca(x, y):
    q_x, q_y = linalg.qr(leading(x), mode="economic")[0], linalg.qr(leading(y), mode="economic")[0]
    u, s, vt = linalg.svd(q_x.T @ q_y, full_matrices=False)

    def weights(variates, z):  # Morcos et al. 2018, section 3
        alpha = np.array([sum(abs(h @ channel) for channel in z.T) for h in variates.T])
        return alpha / alpha.sum()

    return (weights(q_x @ u, x) @ s + weights(q_y @ vt.T, y) @ s) / 2


TWINS = {
    "cka": slow_cka,
    "cka_unbiased": lambda x, y: slow_cka(x, y, hsic_unbiased),
    "rsa": lambda x, y: stats.pearsonr(rdm(x), rdm(y)).statistic,
    "rsa_spearman": lambda x, y: stats.spearmanr(rdm(x), rdm(y)).statistic,
    "knn": slow_knn,
    "procrustes": slow_procrustes,
    "svcca": slow_svcca,
    "pwcca": slow_pwcca,
}


def slow(measure, ones, others):
    return np.array([[TWINS[measure](x, y) for y in others] for x in ones])


# Reference


@pytest.mark.parametrize(("measure", "unbiased"), [("cka", False), ("cka_unbiased", True)])
def test_cka_agrees_with_a_public_implementation(measure, unbiased):
    layers, _ = correlated()
    found = value(measure, layers, layers[:2])
    for i, x in enumerate(layers):
        for j, y in enumerate(layers[:2]):
            public = cka_base(torch.tensor(x), torch.tensor(y), "linear", unbiased)
            assert found[i, j] == pytest.approx(float(public), abs=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_agrees_with_the_formula_of_its_paper(measure):
    layers, _ = correlated(1)
    others, _ = correlated(2)
    mixed = [x[:, : y.shape[1]] + y[:, : x.shape[1]] for x, y in zip(layers, others, strict=True)]
    found = value(measure, layers, mixed[:2])
    np.testing.assert_allclose(found, slow(measure, layers, mixed[:2]), atol=1e-6)
    assert found.std() > 0.01


@pytest.mark.parametrize("measure", ["cka", "cka_unbiased", "rsa", "rsa_spearman", "knn"])
def test_agrees_with_the_formula_of_its_paper_for_few_images(measure):
    layers, _ = correlated(9, images=12, blocks=4)
    found = value(measure, layers, layers)
    np.testing.assert_allclose(found, slow(measure, layers, layers), atol=1e-6)


def test_spearman_averages_ties():
    # of two channels, all correlations are 1 or -1
    layers, _ = correlated(3, widths=(2, 30))
    np.testing.assert_allclose(
        value("rsa_spearman", layers, layers), slow("rsa_spearman", layers, layers), atol=1e-6
    )


def test_features_in_float32_are_compared_in_float64():
    layers, _ = correlated(4)
    single = [(x + 100).astype(np.float32) for x in layers]
    double = [x.astype(np.float64) for x in single]
    for measure in MEASURES:
        np.testing.assert_allclose(
            value(measure, single, single), value(measure, double, double), atol=1e-9
        )


# Theorems


@few
@given(seeds, st.integers(1, 8), st.floats(0.01, 100), st.sampled_from(ROTATION_BLIND))
def test_blind_to_rotation_and_scale(seed, width, scale, measure):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, width)), rng.normal(size=(30, 5))
    turned = scale * x @ rotation(rng, width)
    found, expected = value(measure, [turned], [y]), value(measure, [x], [y])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if width > 1:
        np.testing.assert_allclose(value(measure, [turned], [x]), 1, atol=1e-6)


@few
@given(seeds, st.integers(1, 40), st.sampled_from(SHIFT_BLIND))
def test_blind_to_shift(seed, width, measure):
    # almost as many directions as images share several with any layer: tied correlations of 1,
    # whose directions, and so their weights, are arbitrary
    assume(measure != "pwcca" or width < 20)
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, width)), rng.normal(size=(30, 5))
    shifted = x + 10 * rng.normal(size=width)
    np.testing.assert_allclose(value(measure, [shifted], [y]), value(measure, [x], [y]), atol=1e-6)


@few
@given(seeds)
def test_rsa_is_blind_to_one_shift_of_all_channels_and_no_other(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 6))
    same, other = value("rsa", [x + 3, x + 3 * rng.normal(size=6)], [x])[:, 0]
    assert same == pytest.approx(1, abs=1e-6)
    assert other < 0.99


@few
@given(seeds, st.integers(2, 60))
def test_procrustes_distance_of_a_rotated_copy_is_zero(seed, width):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, width))
    wider = np.pad(x, ((0, 0), (0, 7))) @ rotation(rng, width + 7)
    # as many channels as centred images have directions: the least one is rounded, 6e-11 was seen
    assert 2 * (1 - value("procrustes", [x], [wider])[0, 0]) == pytest.approx(0, abs=1e-9)


@few
@given(seeds, st.integers(2, 6))
def test_cca_is_blind_to_invertible_maps_when_nothing_is_cut_off(seed, width):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, width)), rng.normal(size=(60, 4))
    stretch = rotation(rng, width) * np.linspace(1, 2, width) @ rotation(rng, width)
    found, expected = value("svcca", [x @ stretch], [y, x]), value("svcca", [x], [y, x])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert abs(value("procrustes", [x @ stretch], [x]) - 1) > 1e-4


@few
@given(seeds, st.sampled_from(MEASURES))
def test_symmetric_at_most_one_and_one_with_itself(seed, measure):
    rng = np.random.default_rng(seed)
    ones = [rng.normal(size=(25, width)) for width in (4, 40)]
    others = [rng.normal(size=(25, width)) for width in (3, 9, 25)]
    found = value(measure, ones, others)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, value(measure, others, ones).T, atol=1e-12)
    assert (found <= 1 + 1e-12).all()
    assert found.min() < 0.999
    np.testing.assert_allclose(np.diag(value(measure, ones, ones)), 1, atol=1e-7)


@few
@given(seeds, st.sampled_from(MEASURES))
def test_order_of_images_does_not_matter(seed, measure):
    layers, blocks = correlated(seed % 100, images=40, blocks=5, widths=(6, 50))
    order = np.random.default_rng(seed).permutation(40)
    moved = prepare(measure, [x[order] for x in layers])
    still = prepare(measure, layers)
    found = feature_similarity(moved, moved, blocks[order])
    expected = feature_similarity(still, still, blocks)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-6)
    np.testing.assert_allclose(found.without, expected.without, atol=1e-6)


def test_unbiased_cka_of_unrelated_layers_averages_zero():
    rng = np.random.default_rng(0)
    ones, others = ([rng.normal(size=(40, 100)) for _ in range(30)] for _ in range(2))
    unbiased, biased = value("cka_unbiased", ones, others), value("cka", ones, others)
    assert unbiased.mean() == pytest.approx(0, abs=4 * unbiased.std() / np.sqrt(len(ones)))
    assert abs(unbiased.mean()) < 0.01
    assert biased.min() > 0.5


def test_chance_of_nearest_neighbours():
    rng = np.random.default_rng(0)
    ones, others = ([rng.normal(size=(61, 20)) for _ in range(20)] for _ in range(2))
    assert value("knn", ones, others).mean() == pytest.approx(10 / 60, abs=0.01)


# Without a block


def brute_force(measure, ones, others, blocks):
    kept = [blocks != block for block in range(blocks.max() + 1)]
    without = [slow(measure, [x[k] for x in ones], [y[k] for y in others]) for k in kept]
    return Estimate(slow(measure, ones, others), np.array(without))


@pytest.mark.parametrize(
    "measure",
    [pytest.param(m, marks=[pytest.mark.slow] * (m in SLOW_TWINS)) for m in MEASURES],
)
def test_without_a_block_is_what_the_other_images_give(measure):
    layers, blocks = correlated(5)
    ones, others = layers[:2], layers[1:]
    found = feature_similarity(prepare(measure, ones), prepare(measure, others), blocks)
    expected = brute_force(measure, ones, others, blocks)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-6)
    np.testing.assert_allclose(found.without, expected.without, atol=1e-6)
    assert (expected.stderr > 1e-3).sum() >= 3  # one cell compares a layer with itself


def test_blocks_of_unequal_size():
    layers, _ = correlated(6, images=60, blocks=6)
    blocks = np.repeat(np.arange(4), [5, 30, 10, 15])
    for measure in MEASURES:
        prepared = prepare(measure, layers[:2])
        found = feature_similarity(prepared, prepared, blocks)
        expected = brute_force(measure, layers[:2], layers[:2], blocks)
        np.testing.assert_allclose(found.without, expected.without, atol=1e-6)


def test_without_everything_is_not_a_number():
    layers, _ = correlated(images=30)
    for measure in MEASURES:
        prepared = prepare(measure, layers)
        found = feature_similarity(prepared, prepared, np.zeros(30, dtype=np.int64))
        assert np.isfinite(found.value).all()
        assert np.isnan(found.without).all()


# What is not defined


def nowhere_defined(measure, layer, images=30):
    """Whether a layer has no similarity with any, itself included, and others keep theirs."""
    layers, blocks = correlated(8, images=images, blocks=5, widths=(6, 50))
    prepared = prepare(measure, [layers[0], layer, layers[1]])
    found = feature_similarity(prepared, prepared, blocks)
    others = np.ix_([0, 2], [0, 2])
    assert np.isfinite(found.value[others]).all()
    assert np.isfinite(found.without[:, *others]).all()
    cross = np.concatenate([found.value[1], found.value[:, 1], found.without[:, 1].ravel()])
    assert np.isnan(cross).all() or np.isfinite(cross).all()
    return bool(np.isnan(cross).all())


@pytest.mark.parametrize("measure", MEASURES)
def test_a_constant_layer_has_no_similarity(measure):
    assert nowhere_defined(measure, np.full((30, 4), 0.1))
    assert nowhere_defined(measure, np.tile(np.array([0.1, 0.7, -3.3], np.float32), (30, 1)))
    assert nowhere_defined(measure, np.zeros((30, 4)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_that_is_not_finite_has_no_similarity(measure, bad):
    layer = correlated(images=30)[0][0]
    layer[3, 2] = bad
    assert nowhere_defined(measure, layer)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_layer_of_one_channel(measure):
    layer = correlated(images=30)[0][0][:, :1]
    assert nowhere_defined(measure, layer) == (measure in ("rsa", "rsa_spearman", "knn"))


@pytest.mark.parametrize("measure", MEASURES)
def test_an_image_without_any_activation(measure):
    layer = correlated(images=30)[0][0]
    layer[3] = 0.0
    assert nowhere_defined(measure, layer) == (measure in ("rsa", "rsa_spearman", "knn"))


@pytest.mark.parametrize(
    ("measure", "fewest"),
    [("cka", 2), ("cka_unbiased", 4), ("rsa", 3), ("rsa_spearman", 3), ("knn", 3)],
)
def test_fewest_images(measure, fewest):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(fewest, 5))
    prepared = prepare(measure, [features])
    found = feature_similarity(prepared, prepared, np.arange(fewest))
    assert found.value == pytest.approx(1.0)
    assert np.isnan(found.without).all()
    assert np.isnan(value(measure, [features[:-1]], [features[:-1]])).all()


def test_fewer_images_have_fewer_neighbours():
    # of 5 images each has 3 neighbours: any two sets of 3 out of 4 share at least 2
    rng = np.random.default_rng(0)
    found = value("knn", [rng.normal(size=(5, 3))], [rng.normal(size=(5, 4)) for _ in range(20)])
    assert (found >= 2 / 3).all()
    assert (found < 1).any()


def test_unknown_measure():
    with pytest.raises(InputError, match="similarity measure is 'ckka'; give one of cka, "):
        prepare("ckka", [np.ones((5, 2))])


def test_layers_prepared_apart_cannot_be_compared():
    layers, blocks = correlated(images=20)
    cka, rsa = prepare("cka", layers), prepare("rsa", layers)
    fewer = prepare("cka", [x[:10] for x in layers])
    with pytest.raises(InputError, match="prepared for cka cannot be compared by rsa"):
        feature_similarity(cka, rsa, blocks)
    with pytest.raises(InputError, match="of 20 and 10 images and blocks or order of 20"):
        feature_similarity(cka, fewer, blocks)
