import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from cavalcade.similarity import Firing, MeetingCounts, PixelCounts
from cavalcade.similarity.counts import meetings


def random_masks(seed, images=12, rows=3, pixels=30, density=0.3, visible=0.8):
    g = torch.Generator().manual_seed(seed)
    seen = torch.rand(images, pixels, generator=g) < visible
    masks = torch.rand(images, rows, pixels, generator=g) < density
    return Firing(masks & seen[:, None], seen)


def rows_of(firing):
    """Masks, then what the network saw, as rows."""
    return torch.cat([firing.masks, firing.seen[:, None]], dim=1)


def counted(a, b, blocks):
    x, y = rows_of(a), rows_of(b)
    counts = MeetingCounts(max(blocks) + 1, x.shape[1], y.shape[1])
    for block in sorted(set(blocks)):
        part = torch.tensor([other == block for other in blocks])
        counts.update(block, x[part], y[part])
    return counts.compute()


def jaccard_of(meetings):
    """Pooled over blocks, on the pixels that both saw (the last row of either side)."""
    pooled = meetings.sum(dim=0).double()
    intersection = pooled[:-1, :-1]
    return intersection / (pooled[:-1, -1:] + pooled[-1:, :-1] - intersection)


def test_jaccard_agrees_with_scikit_learn_on_jointly_seen_pixels():
    a, b = random_masks(0), random_masks(1, rows=4)
    jaccard = jaccard_of(counted(a, b, [0] * 5 + [1] * 7))
    both = (a.seen & b.seen).numpy()
    for i in range(3):
        for j in range(4):
            x, y = a.masks[:, i].numpy()[both], b.masks[:, j].numpy()[both]
            assert jaccard[i, j].item() == pytest.approx(jaccard_score(x, y), abs=1e-12)


def test_counts_are_kept_per_block():
    a, b = random_masks(0), random_masks(1)
    meetings = counted(a, b, [0] * 5 + [1] * 7)
    first = (a.masks[:5, :, None] & b.masks[:5, None]).sum(dim=(0, 3))
    assert torch.equal(meetings[0, :-1, :-1], first)
    second = (a.masks[5:] & b.seen[5:, None]).sum(dim=(0, 2))
    assert torch.equal(meetings[1, :-1, -1], second)
    assert meetings[1, -1, -1] == (a.seen & b.seen)[5:].sum()


def test_images_added_bit_by_bit_are_the_same_counts():
    a, b = (rows_of(random_masks(seed)) for seed in (0, 1))
    whole, parts = MeetingCounts(1, 4, 4), MeetingCounts(1, 4, 4)
    whole.update(0, a, b)
    for part in (slice(0, 1), slice(1, 8), slice(8, 12)):
        parts.update(0, a[part], b[part])
    assert torch.equal(whole.compute(), parts.compute())


def test_symmetry_and_diagonal():
    a = random_masks(3)
    jaccard = jaccard_of(counted(a, a, [0] * 12))
    assert torch.equal(jaccard, jaccard.T)
    assert (jaccard.diagonal() == 1).all()


def test_the_same_masks_given_once_or_as_a_copy():
    masks = rows_of(random_masks(3))
    once, copied = MeetingCounts(1, 4, 4), MeetingCounts(1, 4, 4)
    once.update(0, masks, masks)
    copied.update(0, masks, masks.clone())
    assert torch.equal(once.compute(), copied.compute())


def test_blind_to_the_order_of_images():
    a, b = random_masks(0), random_masks(1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(12))
    one = counted(a, b, [0] * 12)
    moved = (Firing(part.masks[order], part.seen[order]) for part in (a, b))
    assert torch.equal(one, counted(*moved, [0] * 12))


@pytest.mark.parametrize("images", [7, 8, 9, 17])
def test_exact_beyond_the_integers_of_float32(images):
    pixels = 2**21  # 9 · 2^21 - 1 is no float32, and 8 · 2^21 = 2^24 is the largest step
    masks = torch.ones(images, 1, pixels, dtype=torch.bool)
    masks[-1, 0, -1] = False
    counts = MeetingCounts(1, 1, 1)
    counts.update(0, masks, masks)
    assert counts.compute().item() == images * pixels - 1


def test_sums_over_calls_are_exact_beyond_the_integers_of_float32():
    masks = torch.ones(8, 1, 2**21, dtype=torch.bool)
    counts = MeetingCounts(1, 1, 1)
    counts.update(0, masks, masks)
    counts.update(0, masks[:1, :, :1], masks[:1, :, :1])
    assert counts.compute().item() == 2**24 + 1


def test_pixel_counts_are_images_per_block_and_stratum():
    a = random_masks(0)
    labels = torch.rand(12, 30, generator=torch.Generator().manual_seed(7)) < 0.4
    strata = torch.stack([labels, ~labels], dim=1)
    counts = PixelCounts(2, 2, 3, 30)
    counts.update(0, a.masks[:3], a.seen[:3], strata[:3])
    counts.update(0, a.masks[3:5], a.seen[3:5], strata[3:5])
    counts.update(1, a.masks[5:], a.seen[5:], strata[5:])
    fired, seen = counts.compute()
    assert torch.equal(fired[1, 0], (a.masks & labels[:, None])[5:].sum(dim=0).int())
    assert torch.equal(fired[0, 1], (a.masks & ~labels[:, None])[:5].sum(dim=0).int())
    assert torch.equal(seen[0, 0], (a.seen & labels)[:5].sum(dim=0).int())
    # strata that cover every pixel lose none
    assert torch.equal(fired.sum(dim=(0, 1)), a.masks.sum(dim=0).int())
    assert torch.equal(seen.sum(dim=(0, 1)), a.seen.sum(dim=0).int())


@pytest.mark.parametrize("available", [True, False])
def test_products_of_integers_and_of_floats_are_the_same_counts(available, monkeypatch):
    a, b = (rows_of(random_masks(seed)).transpose(0, 1).flatten(1) for seed in (0, 1))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    reference = (a[:, None] & b).sum(dim=2)
    assert torch.equal(meetings(a, b), reference)
