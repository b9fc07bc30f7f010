import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from cavalcade.similarity import Firing, MeetingCounts, PixelCounts, counts
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
    found = MeetingCounts(max(blocks) + 1, x.shape[1], y.shape[1])
    for block in sorted(set(blocks)):
        part = torch.tensor([other == block for other in blocks])
        found.update(block, x[part], y[part])
    return found.compute()


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
    found = MeetingCounts(1, 1, 1)
    found.update(0, masks, masks)
    assert found.compute().item() == images * pixels - 1


def test_sums_over_calls_are_exact_beyond_the_integers_of_float32():
    masks = torch.ones(8, 1, 2**21, dtype=torch.bool)
    found = MeetingCounts(1, 1, 1)
    found.update(0, masks, masks)
    found.update(0, masks[:1, :, :1], masks[:1, :, :1])
    assert found.compute().item() == 2**24 + 1


def test_pixel_counts_are_images_per_block_and_stratum():
    a = random_masks(0)
    labels = torch.rand(12, 30, generator=torch.Generator().manual_seed(7)) < 0.4
    strata = torch.stack([labels, ~labels], dim=1)
    per_pixel = PixelCounts(2, 2, 3, 30)
    per_pixel.update(0, a.masks[:3], a.seen[:3], strata[:3])
    per_pixel.update(0, a.masks[3:5], a.seen[3:5], strata[3:5])
    per_pixel.update(1, a.masks[5:], a.seen[5:], strata[5:])
    fired, seen = per_pixel.compute()
    assert torch.equal(fired[1, 0], (a.masks & labels[:, None])[5:].sum(dim=0).int())
    assert torch.equal(fired[0, 1], (a.masks & ~labels[:, None])[:5].sum(dim=0).int())
    assert torch.equal(seen[0, 0], (a.seen & labels)[:5].sum(dim=0).int())
    # strata that cover every pixel lose none
    assert torch.equal(fired.sum(dim=(0, 1)), a.masks.sum(dim=0).int())
    assert torch.equal(seen.sum(dim=(0, 1)), a.seen.sum(dim=0).int())


def bits_and_their_meetings(rows=7, pixels=100_001):
    """Rows that are longer than what is counted at a time, apart in memory."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((size, pixels)) < 0.4 for size in (rows, rows + 2))
    packed = [np.repeat(np.packbits(part, axis=1), 2, axis=0)[::2] for part in (a, b)]
    return *packed, (a[:, None] & b).sum(axis=2)


@pytest.mark.parametrize("way", [counts.counted_in_registers, counts.counted_by_product])
def test_every_way_of_counting_is_exact(way):
    a, b, reference = bits_and_their_meetings()
    np.testing.assert_array_equal(meetings(a, b, way), reference)
    np.testing.assert_array_equal(meetings(b, a, way), reference.T)


@pytest.mark.parametrize("available", [True, False])
def test_products_of_integers_and_of_floats_are_the_same_counts(available, monkeypatch):
    a, b, reference = bits_and_their_meetings()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    np.testing.assert_array_equal(meetings(a, b, counts.counted_by_product), reference)


@pytest.fixture
def chosen_anew():
    counts._chosen.cache_clear()
    yield
    counts._chosen.cache_clear()


@pytest.mark.usefixtures("chosen_anew")
@pytest.mark.parametrize(("integers", "slower"), [(True, "int8, .* 10"), (False, "float32, .* 50")])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (ImportError("No module named 'numkong'"), "No module named 'numkong'"),
        (TypeError(), "TypeError"),  # another interface
        (None, "it counts wrongly on this machine"),
    ],
)
def test_a_machine_that_cannot_count_in_registers_counts_otherwise_and_says_so_once(
    broken, reason, integers, slower, monkeypatch, caplog
):
    """Whatever a version or a processor does, the numbers are right."""

    def counted(a, b):
        time.sleep(0.05)  # so that all threads ask meanwhile
        if broken is not None:
            raise broken
        return counts.counted_by_product(a, b) + 1

    monkeypatch.setattr(counts, "counted_in_registers", counted)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: integers)
    with ThreadPoolExecutor(4) as pool:
        ways = list(pool.map(lambda _: counts.fastest(), range(8)))
    assert set(ways) == {counts.counted_by_product}
    (said,) = caplog.messages
    assert re.match(rf"numkong cannot be used \({reason}\): .* of {slower} times as long", said)


@pytest.mark.usefixtures("chosen_anew")
def test_what_is_right_is_used_without_a_word(caplog):
    assert counts.fastest() is counts.counted_in_registers
    assert not caplog.messages


def test_images_at_each_pixel():
    rng = np.random.default_rng(0)
    for images in (0, 1, 255, 256):
        masks = rng.random((3, images, 30)) < 0.9
        found = counts.images_at_pixels(np.packbits(masks, axis=-1), 30)
        np.testing.assert_array_equal(found, masks.sum(axis=1))
        assert found.dtype == (np.uint8 if images < 256 else np.uint16)


def test_some_pixels_packed_again():
    rng = np.random.default_rng(0)
    masks, some = rng.random((3, 4, 30)) < 0.5, np.array([0, 7, 8, 9, 13, 22, 23, 24, 29])
    found = counts.only_some_pixels(np.packbits(masks, axis=-1), some)
    np.testing.assert_array_equal(found, np.packbits(masks[..., some], axis=-1))
