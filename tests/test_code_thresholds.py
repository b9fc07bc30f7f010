"""Where mined concepts fire: shares of a maximum, Otsu against its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.concepts.code_thresholds import code_thresholds, otsu

seeds = st.integers(0, 2**32 - 1)


def codes(seed=0, rows=4000):
    """Two groups of codes, and many zeros."""
    rng = np.random.default_rng(seed)
    low, high = rng.normal(1, 0.2, rows), rng.normal(6, 0.5, rows)
    mixed = np.where(rng.random(rows) < 0.2, high, np.maximum(low, 0))
    return torch.from_numpy(mixed * (rng.random(rows) < 0.7))


def test_a_share_of_the_robust_maximum():
    column = codes()
    positive = column[column > 0].numpy()
    (found,) = code_thresholds(column[:, None], "robust_max", 0.35)
    assert float(found) == pytest.approx(0.35 * np.quantile(positive, 0.995))


def test_the_robust_maximum_of_a_rare_concept_is_not_zero():
    rare = torch.zeros(10_000)
    rare[:20] = torch.linspace(1, 2, 20)  # 0.2 % of all pixels
    (found,) = code_thresholds(rare[:, None], "robust_max", 0.35)
    assert 0.5 < float(found) / 0.35 <= 2.0
    assert int((rare > found).sum()) == 20


def test_one_outlier_does_not_move_it_much():
    column = codes()
    spoilt = torch.cat([column, torch.tensor([1e6], dtype=torch.float64)])
    before, after = (
        float(code_thresholds(x[:, None], "robust_max", 0.5)) for x in (column, spoilt)
    )
    assert after == pytest.approx(before, rel=0.02)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_otsu_is_the_best_of_all_thresholds(seed):
    """The variance between classes, by its definition, at every bin edge."""
    column = codes(seed, rows=500)
    values, top = column.numpy(), float(column.max())
    centres = (np.minimum((values / top * 256).astype(int), 255) + 0.5) * top / 256

    def between(edge):
        below = centres < edge
        if below.all() or not below.any():
            return 0.0
        share = below.mean()
        return share * (1 - share) * (centres[below].mean() - centres[~below].mean()) ** 2

    best = max(between(k * top / 256) for k in range(1, 256))
    assert between(float(otsu(column))) == pytest.approx(best, rel=1e-6)


def test_otsu_parts_two_groups():
    column = codes()
    assert torch.equal(column > otsu(column), column > 3.5)


def test_a_concept_that_is_nowhere_has_no_threshold():
    nowhere = torch.zeros(50, 1)
    for threshold in ("robust_max", "otsu", "image_max"):
        assert code_thresholds(nowhere, threshold, 0.5).isnan().all()
    assert float(otsu(torch.zeros(5))) == 0
