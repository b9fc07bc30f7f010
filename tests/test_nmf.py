"""Factorisation and codes: against scikit-learn and SciPy in float64, theorems, planted answers."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.decomposition import NMF
from sklearn.decomposition._nmf import _initialize_nmf

from cavalcade.concepts.nmf import encode, evenly, factorise, relative_error, start

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
    model = NMF(6, init="nndsvd", tol=1e-8, max_iter=2000)
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


@given(seeds, st.integers(1, 12), st.integers(2, 20))
@few
def test_codes_are_those_of_scipy(seed, concepts, channels):
    """Also of dictionaries with more concepts than channels, where codes are not unique."""
    rng = np.random.default_rng(seed)
    dictionary = torch.from_numpy(rng.random((concepts, channels)))
    rows = torch.from_numpy(rng.normal(0.3, 1, size=(50, channels)))
    codes = encode(rows, dictionary)
    assert (codes >= 0).all()
    reference = np.stack([nnls(dictionary.T.numpy(), row)[0] for row in rows.numpy()])
    left = (rows - codes @ dictionary).norm(dim=1)
    theirs = np.linalg.norm(rows.numpy() - reference @ dictionary.numpy(), axis=1)
    np.testing.assert_allclose(left, theirs, rtol=1e-6, atol=1e-5)
    if concepts <= channels:
        np.testing.assert_allclose(codes, reference, atol=1e-6)


def test_equal_and_empty_concepts_have_codes_too():
    one = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    rows = torch.tensor([[2.0, 4.0, 6.0], [0.0, 0.0, 0.0], [-1.0, -1.0, 3.0]])
    codes = encode(rows, one)
    torch.testing.assert_close(codes @ one, rows.clamp(min=0), atol=1e-4, rtol=1e-4)
    assert (codes[:, 2] == 0).all()


def test_codes_in_float32_are_near_those_in_float64():
    rows, dictionary = planted(seed=5, rows=500)
    codes = encode(rows.float(), dictionary.float())
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.double(), encode(rows, dictionary), atol=1e-4, rtol=1e-4)


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
