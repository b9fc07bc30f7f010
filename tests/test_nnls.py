"""Codes against SciPy in float64, also of dictionaries that rounding makes hard."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from cavalcade.concepts import nnls as module
from cavalcade.concepts.nnls import descend, encode

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None)


def problem(seed=0, rows=50, concepts=6, channels=20):
    """Rows with negative values too, in float64."""
    rng = np.random.default_rng(seed)
    dictionary = torch.from_numpy(rng.random((concepts, channels)))
    return torch.from_numpy(rng.normal(0.3, 1, size=(rows, channels))), dictionary


def of_scipy(rows, dictionary):
    return torch.from_numpy(np.stack([nnls(dictionary.T.numpy(), row)[0] for row in rows.numpy()]))


def distances(rows, codes, dictionary):
    return (rows - codes @ dictionary).norm(dim=1)


@given(seeds, st.integers(1, 12), st.integers(2, 20))
@few
def test_codes_are_those_of_scipy(seed, concepts, channels):
    """Also of dictionaries with more concepts than channels, where codes are not unique."""
    rows, dictionary = problem(seed, 50, concepts, channels)
    codes, reference = encode(rows, dictionary), of_scipy(rows, dictionary)
    assert (codes >= 0).all()
    left, theirs = (distances(rows, x, dictionary) for x in (codes, reference))
    torch.testing.assert_close(left, theirs, rtol=1e-6, atol=1e-5)
    if concepts <= channels:
        torch.testing.assert_close(codes, reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("concepts", [32, 63, 64, 70])
def test_many_concepts(concepts):
    """From 64 on, patterns do not fit an integer."""
    rows, dictionary = problem(1, 200, concepts, 100)
    codes, reference = encode(rows, dictionary), of_scipy(rows, dictionary)
    torch.testing.assert_close(codes, reference, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("difference", [1e-2, 1e-4, 1e-6, 1e-8])
def test_nearly_equal_concepts(difference):
    """Codes of the two may be traded for each other, but what they leave is as little."""
    rows, dictionary = problem(2)
    other = torch.from_numpy(np.random.default_rng(3).random(20))
    dictionary[1] = dictionary[0] + difference * other
    dictionary[2] = dictionary[0] + dictionary[3]
    codes, reference = encode(rows, dictionary), of_scipy(rows, dictionary)
    left, theirs = (distances(rows, x, dictionary) for x in (codes, reference))
    torch.testing.assert_close(left, theirs, rtol=1e-6, atol=0)


def test_equal_and_empty_concepts_have_codes_too():
    one = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    rows = torch.tensor([[2.0, 4.0, 6.0], [0.0, 0.0, 0.0], [-1.0, -1.0, 3.0]])
    codes = encode(rows, one)
    torch.testing.assert_close(codes @ one, rows.clamp(min=0), atol=1e-6, rtol=1e-6)
    assert (codes[:, 2] == 0).all()
    assert (codes[1] == 0).all()


def test_no_rows_have_no_codes():
    assert encode(torch.zeros(0, 3), torch.ones(2, 3)).shape == (0, 2)


def test_concepts_of_any_length():
    """Codes are inverse to lengths, and as exact."""
    rows, dictionary = problem(4)
    lengths = torch.tensor([1e-4, 1.0, 1e4, 1e-2, 1e2, 10.0], dtype=torch.float64)
    codes = encode(rows, dictionary * lengths[:, None])
    torch.testing.assert_close(codes * lengths, encode(rows, dictionary), atol=1e-9, rtol=1e-9)


def test_blocks_do_not_change_codes(monkeypatch):
    rows, dictionary = problem(5, rows=103)
    at_once = encode(rows, dictionary)
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    torch.testing.assert_close(encode(rows, dictionary), at_once, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("tries", [0, 3])
def test_a_bad_guess_is_mended(monkeypatch, tries):
    """Also by changing one at a time alone."""
    rows, dictionary = problem(6, concepts=10)
    monkeypatch.setattr(module, "SWEEPS", 0)
    monkeypatch.setattr(module, "TRIES", tries)
    reference = of_scipy(rows, dictionary)
    torch.testing.assert_close(encode(rows, dictionary), reference, atol=1e-9, rtol=1e-9)


def test_rows_that_are_never_settled_are_left_to_scipy(monkeypatch):
    rows, dictionary = problem(7, concepts=10)
    monkeypatch.setattr(module, "SWEEPS", 0)
    monkeypatch.setattr(module, "MOST_CHANGES", 1)
    reference = of_scipy(rows, dictionary)
    torch.testing.assert_close(encode(rows, dictionary), reference, atol=1e-9, rtol=1e-9)


def test_codes_in_float32_are_near_those_in_float64():
    rows, dictionary = problem(8, rows=500)
    codes = encode(rows.float(), dictionary.float())
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.double(), encode(rows, dictionary), atol=1e-4, rtol=1e-4)


def test_descent_ends_at_the_exact_codes():
    """Of each problem by itself, and the code of an empty concept stays."""
    pairs = [problem(seed) for seed in (9, 10)]
    pairs[1][1][2] = 0
    wanted = torch.stack([dictionary @ rows.T for rows, dictionary in pairs])
    gram = torch.stack([dictionary @ dictionary.T for _, dictionary in pairs])
    codes = descend(torch.ones_like(wanted), wanted, gram, 5000)
    assert (codes[1, 2] == 1).all()
    codes[1, 2] = 0
    for found, (rows, dictionary) in zip(codes, pairs, strict=True):
        torch.testing.assert_close(found.T, encode(rows, dictionary), atol=1e-9, rtol=1e-9)
