import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from cavalcade import InputError
from cavalcade.similarity import Firing, counts, group_counts, similarity_of_pairs
from cavalcade.similarity.counts import meetings
from cavalcade.similarity.group_counts import Group, Meetings, count_group


def random_masks(seed, images=12, rows=3, pixels=30, density=0.3, visible=0.8):
    g = torch.Generator().manual_seed(seed)
    seen = torch.rand(images, pixels, generator=g) < visible
    masks = torch.rand(images, rows, pixels, generator=g) < density
    return Firing(masks & seen[:, None], seen)


def rows_of(firing):
    """Masks, then what the network saw, as rows."""
    return torch.cat([firing.masks, firing.seen[:, None]], dim=1)


def counted_group(a, b, blocks, strata):
    """Two networks, or one with itself, the bits of their strata, and what is counted of them."""
    networks = [a] if a is b else [a, b]
    group = Group(networks, [(0, len(networks) - 1)], len(blocks))
    bits = np.packbits(strata.numpy(), axis=-1)
    no_orders = np.zeros((0, len(blocks)), dtype=np.int64)
    return group, bits, count_group(group, bits, np.asarray(blocks), no_orders)


def counted(a, b, blocks):
    """How often masks meet; the last row of either side is what the network saw."""
    one = Firing(rows_of(a), a.seen)
    other = one if a is b else Firing(rows_of(b), b.seen)
    everywhere = torch.ones(len(blocks), 1, a.num_pixels, dtype=torch.bool)
    group, _, found = counted_group(one, other, blocks, everywhere)
    (met,) = found.blocks.met
    first, second = found.blocks.first, found.blocks.second  # what meets what the other saw
    np.testing.assert_array_equal(first[:, group.rows[0], group.views[-1]], met[..., -1])
    np.testing.assert_array_equal(second[:, group.rows[-1], group.views[0]], met[:, -1])
    return torch.from_numpy(met.astype(np.int64))


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


@pytest.mark.parametrize("at_a_time", [1, 5])
def test_images_added_bit_by_bit_are_the_same_counts(at_a_time, monkeypatch):
    a, b, blocks = random_masks(0), random_masks(1), [0] * 5 + [1] * 7
    whole = counted(a, b, blocks)
    monkeypatch.setattr(group_counts, "IMAGES", at_a_time)
    assert torch.equal(counted(a, b, blocks), whole)


def test_symmetry_and_diagonal():
    a = random_masks(3)
    jaccard = jaccard_of(counted(a, a, [0] * 12))
    assert torch.equal(jaccard, jaccard.T)
    assert (jaccard.diagonal() == 1).all()


def test_the_same_masks_given_once_or_as_a_copy():
    masks, blocks = random_masks(3), [0] * 5 + [1] * 7
    copy = Firing(masks.masks.clone(), masks.seen.clone())
    assert torch.equal(counted(masks, masks, blocks), counted(masks, copy, blocks))


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
    firing = Firing(masks, torch.ones(images, pixels, dtype=torch.bool))
    assert counted(firing, firing, [0] * images)[0, 0, 0].item() == images * pixels - 1


def test_sums_over_images_are_exact_beyond_the_integers_of_float32(monkeypatch):
    monkeypatch.setattr(group_counts, "IMAGES", 8)
    masks = torch.ones(9, 1, 2**21, dtype=torch.bool)
    masks[8, 0, 1:] = False
    firing = Firing(masks, torch.ones(9, 2**21, dtype=torch.bool))
    assert counted(firing, firing, [0] * 9)[0, 0, 0].item() == 2**24 + 1


def test_images_at_pixels_are_counted_per_block_and_stratum():
    a, blocks = random_masks(0), [0] * 5 + [1] * 7
    labels = torch.rand(12, 30, generator=torch.Generator().manual_seed(7)) < 0.4
    *_, found = counted_group(a, a, blocks, torch.stack([labels, ~labels], dim=1))
    fired, seen = torch.from_numpy(found.fired), torch.from_numpy(found.seen)[..., 0]
    assert torch.equal(fired[0, :, 1].T, (a.masks & labels[:, None])[5:].sum(dim=0))
    assert torch.equal(fired[1, :, 0].T, (a.masks & ~labels[:, None])[:5].sum(dim=0))
    assert torch.equal(seen[0, :, 0], (a.seen & labels)[:5].sum(dim=0))
    # strata that cover every pixel lose none
    assert torch.equal(fired.sum(dim=(0, 2)).T, a.masks.sum(dim=0))
    assert torch.equal(seen.sum(dim=(0, 2)), a.seen.sum(dim=0))


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
@pytest.mark.parametrize("kind", [np.int16, np.uint16])
@pytest.mark.parametrize("saturates", [True, False])
def test_a_way_of_counting_that_runs_out_of_bits_is_not_used(kind, saturates, monkeypatch):
    """It is right but for rows that are nearly all ones."""

    def counted(a, b):
        found = counts.counted_by_product(a, b)
        return np.minimum(found, np.iinfo(kind).max) if saturates else found.astype(kind)

    monkeypatch.setattr(counts, "counted_in_registers", counted)
    assert counts.fastest() is counts.counted_by_product


@pytest.mark.usefixtures("chosen_anew")
def test_what_is_right_is_used_without_a_word(caplog):
    assert counts.fastest() is counts.counted_in_registers
    assert not caplog.messages


def test_images_at_each_pixel():
    rng = np.random.default_rng(0)
    for images in (0, 1, 255, 256, 2**16 - 1, 2**16 + 1):
        masks = rng.random((3, images, 30)) < (0.9 if images < 256 else 1.1)
        found = counts.images_at_pixels(np.packbits(masks, axis=-1), 30)
        np.testing.assert_array_equal(found, masks.sum(axis=1))
        assert found.dtype == (np.uint8 if images < 256 else np.uint16 if images < 2**16 else "u4")


@pytest.mark.parametrize(("images", "pixels"), [(17, 15), (16, 16), (257, 255), (256, 256)])
def test_all_pixels_of_all_images_of_a_block_are_counted(images, pixels):
    """One less than a smaller type holds, and as many as it does not."""
    masks = torch.ones(2 * images, 1, pixels, dtype=torch.bool)
    firing, blocks = Firing(masks, masks[:, 0]), [0] * images + [1] * images
    assert (counted(firing, firing, blocks) == images * pixels).all()
    orders = torch.arange(2 * images).roll(images)[None]
    everywhere = torch.ones(2 * images, 1, pixels, dtype=torch.bool)
    pairs = similarity_of_pairs([firing], [(0, 0)], everywhere, torch.tensor(blocks), orders)
    assert next(pairs).repaired["jaccard"].tolist() == [[[1.0]]]


def test_counts_of_four_thousand_million_pixels_do_not_wrap():
    a = random_masks(0)
    group, *_ = counted_group(a, a, [0] * 12, torch.ones(12, 1, 30, dtype=torch.bool))
    for most in (2**32 - 1, 2**32):
        (met,) = Meetings.none(group, 1, most, alike=True).met
        met += np.array(most, dtype=met.dtype)
        assert met.astype(np.int64).min() == most


def test_seventy_thousand_images_of_a_block():
    masks = torch.ones(70_000, 1, 3, dtype=torch.bool)
    masks[0, 0, 1] = False
    everywhere = torch.ones(70_000, 1, 3, dtype=torch.bool)
    firing = Firing(masks, everywhere[:, 0])
    *_, found = counted_group(firing, firing, [0] * 70_000, everywhere)
    assert found.fired.ravel().tolist() == [70_000, 69_999, 70_000]
    assert found.seen.ravel().tolist() == [70_000] * 3


def test_more_images_than_chance_can_be_told_of_are_one_sentence(monkeypatch):
    a, blocks = random_masks(0), [0] * 5 + [1] * 7
    monkeypatch.setattr(group_counts, "MOST_IMAGES", 12)
    counted(a, a, blocks)
    monkeypatch.setattr(group_counts, "MOST_IMAGES", 11)
    with pytest.raises(InputError, match=r"12 test images .* the 11 .* data.test_images="):
        counted(a, a, blocks)


def test_some_pixels_packed_again():
    rng = np.random.default_rng(0)
    masks, some = rng.random((3, 4, 30)) < 0.5, np.array([0, 7, 8, 9, 13, 22, 23, 24, 29])
    found = counts.only_some_pixels(np.packbits(masks, axis=-1), some)
    np.testing.assert_array_equal(found, np.packbits(masks[..., some], axis=-1))
