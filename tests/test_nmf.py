"""Factorisation: against scikit-learn and SciPy in float64, theorems, planted answers."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from sklearn.decomposition._nmf import _initialize_nmf

from cavalcade.concepts.nmf import evenly, factorise, refit, relative_error, start
from cavalcade.concepts.nnls import encode

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None)


def activations(seed=0, rows=400, channels=24, sparse=0.5):
    """Non-negative, many of them zero, as after a rectifier; float64."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.7, size=(rows, channels)) * (rng.random((rows, channels)) > sparse)
    return torch.from_numpy(values)


def planted(seed=0, rows=3000, channels=40, concepts=5, noise=0.02):
    """Rows made of few concepts each, which do not overlap much."""
    rng = np.random.default_rng(seed)
    dictionary = rng.random((concepts, channels)) * (rng.random((concepts, channels)) < 0.3)
    codes = rng.gamma(1.0, size=(rows, concepts)) * (rng.random((rows, concepts)) < 0.4)
    clean = codes @ dictionary
    noisy = np.maximum(clean + noise * clean.std() * rng.normal(size=clean.shape), 0)
    return torch.from_numpy(noisy), torch.from_numpy(dictionary)


@given(seeds, st.integers(1, 8), st.sampled_from([0.0, 0.5, 0.95]))
@few
def test_the_error_never_rises_on_one_sample(seed, concepts, sparse):
    rows = activations(seed, rows=60, channels=12, sparse=sparse)
    errors = factorise(rows, concepts, samples=(60,), tolerance=0.0, max_steps=30).errors
    assert len(errors) > 1
    squares = np.square(errors)  # what is minimised, to the rounding of sums
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(squares))


def test_the_start_is_that_of_scikit_learn():
    """Of rows of low rank, whose singular vectors its randomised decomposition finds exactly."""
    rows, _ = planted(seed=2, concepts=5, noise=0.0)
    codes, dictionary = start(rows, 5)
    theirs = _initialize_nmf(rows.numpy(), 5, init="nndsvd", random_state=0)
    np.testing.assert_allclose(codes @ dictionary, theirs[0] @ theirs[1], atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_that_of_scikit_learn(seed):
    rows = activations(seed)
    model = NMF(6, init="nndsvd", tol=1e-8, max_iter=2000, random_state=0)
    codes = model.fit_transform(rows.numpy())
    norm = float(rows.norm())
    theirs = relative_error(rows, torch.from_numpy(codes), torch.from_numpy(model.components_))
    assert theirs == pytest.approx(model.reconstruction_err_ / norm, rel=1e-9)
    found = factorise(rows, 6, samples=(len(rows),), tolerance=1e-9, max_steps=2000)
    ours = relative_error(rows, encode(rows, found.dictionary), found.dictionary)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert found.errors[-1] == pytest.approx(ours, rel=1e-5)


def test_planted_concepts_are_recovered():
    rows, dictionary = planted()
    found = factorise(rows, 5).dictionary
    cosines = found @ (dictionary / dictionary.norm(dim=1, keepdim=True)).T
    ours, theirs = linear_sum_assignment(-cosines.numpy())
    assert cosines.numpy()[ours, theirs].min() > 0.99


def test_growing_samples_end_where_all_rows_do():
    rows, _ = planted(seed=1, rows=4000)
    grown = factorise(rows, 5, samples=(200, 800, 4000), tolerance=1e-6)
    at_once = factorise(rows, 5, samples=(4000,), tolerance=1e-6)
    assert grown.errors[-1] == pytest.approx(at_once.errors[-1], rel=1e-3)


def test_the_same_rows_give_the_same_dictionary():
    rows = activations(2).float()
    assert torch.equal(factorise(rows, 4).dictionary, factorise(rows.clone(), 4).dictionary)


def test_concepts_have_length_one_and_no_negative_channel():
    dictionary = factorise(activations(3), 5).dictionary
    assert (dictionary >= 0).all()
    np.testing.assert_allclose(dictionary.norm(dim=1), 1)


@pytest.mark.parametrize(("rows", "channels", "concepts"), [(3, 10, 5), (20, 2, 5), (1, 1, 1)])
def test_more_concepts_than_the_rank_leave_some_empty(rows, channels, concepts):
    found = factorise(activations(4, rows, channels, sparse=0.0), concepts)
    assert torch.isfinite(found.dictionary).all()
    assert found.errors[-1] < 0.02


def test_nothing_is_made_of_nothing():
    found = factorise(torch.zeros(10, 4), 2)
    assert (found.dictionary == 0).all()
    assert found.errors[-1] == 0
    assert (encode(torch.zeros(3, 4), found.dictionary) == 0).all()


def test_the_error_is_what_it_says():
    rows, dictionary = planted(seed=6, rows=50)
    codes = encode(rows, dictionary)
    direct = float((rows - codes @ dictionary).norm() / rows.norm())
    assert relative_error(rows, codes, dictionary) == pytest.approx(direct, rel=1e-9)
    assert relative_error(rows * 0, codes * 0, dictionary) == 0


def test_evenly_spaced_rows():
    rows = torch.arange(10.0)[:, None]
    assert evenly(rows, 4).flatten().tolist() == [0, 3, 6, 9]
    assert torch.equal(evenly(rows, 10), rows)


def drawn(seed, rows, refits, images=20):
    """How often a bootstrap of images, blocks of rows, draws each row."""
    rng = np.random.default_rng(seed)
    image = rng.integers(images, size=rows)  # rows are in random order
    draws = rng.multinomial(images, np.full(images, 1 / images), size=refits)
    assert (draws == 0).any()
    return torch.from_numpy(draws[:, image]).double()


@pytest.mark.parametrize("channels", [24, 300])
def test_refits_of_equal_weights_are_the_factorisation(channels):
    rows = activations(7, channels=channels)
    found = refit(rows, 5, torch.ones(2, len(rows)).double(), samples=(200, 400))
    main = factorise(rows, 5, samples=(200, 400)).dictionary
    for one in found:
        torch.testing.assert_close(one, main, atol=1e-9, rtol=1e-9)


def test_weights_are_how_often_rows_are_there():
    rows, weights = activations(8), drawn(8, 400, 3)
    found = refit(rows, 5, weights, samples=(400,), tolerance=0.0, max_steps=50)
    for one, weight in zip(found, weights, strict=True):
        repeated = rows.repeat_interleave(weight.long(), dim=0)
        main = factorise(repeated, 5, samples=(len(repeated),), tolerance=0.0, max_steps=50)
        torch.testing.assert_close(one, main.dictionary, atol=1e-6, rtol=1e-6)


def test_refits_together_are_each_alone():
    """Though they end after different numbers of steps."""
    rows, weights = activations(9, rows=800), drawn(9, 800, 6)
    together = refit(rows, 4, weights, samples=(300, 800))
    alone = torch.cat([refit(rows, 4, weight[None], samples=(300, 800)) for weight in weights])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=1e-9)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    assert torch.equal(together, refit(rows, 4, weights, samples=(300, 800)))


def test_refits_of_planted_concepts_agree():
    rows, dictionary = planted(seed=10)
    truth = dictionary / dictionary.norm(dim=1, keepdim=True)
    for one in refit(rows, 5, drawn(10, len(rows), 4)):
        ours, theirs = linear_sum_assignment(-(one @ truth.T).numpy())
        assert (one @ truth.T).numpy()[ours, theirs].min() > 0.99


def test_rows_without_weight_decide_nothing():
    rows, weights = activations(11).float(), torch.ones(2, 400)
    weights[0, ::2] = 0
    weights[1] = 0
    changed = rows.clone()
    changed[::2] += 1
    one, nothing = refit(rows, 4, weights, samples=(400,))
    torch.testing.assert_close(refit(changed, 4, weights, samples=(400,))[0], one)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(4))
    assert (nothing == 0).all()
