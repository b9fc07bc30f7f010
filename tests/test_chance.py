import itertools

import numpy as np
import pytest
import torch

from cavalcade.similarity import PixelCounts, adjusted_jaccard, expected_intersection
from test_counts import counted, random_masks

BLOCKS = [0] * 4 + [1] * 5 + [2] * 3


def pixel_counts(masks, seen, blocks=BLOCKS):
    counts = PixelCounts(max(blocks) + 1, *masks.shape[1:])
    for block in sorted(set(blocks)):
        part = torch.tensor([i for i, other in enumerate(blocks) if other == block])
        counts.update(block, masks[part], seen[part])
    return counts


def expected(a, seen_a, b, seen_b, blocks=BLOCKS):
    x, y = pixel_counts(a, seen_a, blocks), pixel_counts(b, seen_b, blocks)
    joint = (seen_a & seen_b).sum(dim=0)
    return expected_intersection(x.fired, y.fired, x.seen, y.seen, joint)


def test_equals_the_mean_over_all_pairs_of_images_of_different_blocks():
    """The definition, pixel by pixel: P(both fire | both see) over all re-pairings, times n."""
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    pairs = [p for p in itertools.product(range(12), repeat=2) if BLOCKS[p[0]] != BLOCKS[p[1]]]
    fired = sum((a[i, :, :, None] & b[j, :, None]).double() for i, j in pairs)
    seen = sum((seen_a[i] & seen_b[j]).double() for i, j in pairs)
    joint = (seen_a & seen_b).sum(dim=0)
    reference = (fired / seen * joint).sum(dim=-1)
    torch.testing.assert_close(expected(a, seen_a, b, seen_b), reference)


def test_equals_thousands_of_random_re_pairings():
    """Permutations in which no image meets one of its own block, with unequal validity."""
    (a, seen_a), (b, seen_b) = random_masks(0, pixels=12), random_masks(1, pixels=12)
    rng = np.random.default_rng(0)
    blocks = np.array(BLOCKS)
    fired = torch.zeros(2, 3, 3, 12, dtype=torch.float64)
    seen = torch.zeros(12, dtype=torch.float64)
    drawn = 0
    while drawn < 4000:
        shift = rng.permutation(12)
        if (blocks[shift] == blocks).any():
            continue
        partner = torch.from_numpy(shift)
        fired += torch.einsum("igmp,ignp->gmnp", a.double(), b[partner].double())
        seen += (seen_a & seen_b[partner]).sum(dim=0)
        drawn += 1
    joint = (seen_a & seen_b).sum(dim=0)
    simulated = (fired / seen * joint).sum(dim=-1)
    exact = expected(a, seen_a, b, seen_b)
    torch.testing.assert_close(simulated, exact, rtol=0.06, atol=0.15)


def test_masks_that_never_change_are_all_chance():
    """A mask that is the same in every image agrees with itself by position alone."""
    still = (torch.arange(30) < 9).expand(12, 1, 1, 30)
    seen = torch.ones(12, 30, dtype=torch.bool)
    joint = counted(still, seen, still, seen, BLOCKS)
    chance = expected(still, seen, still, seen)
    assert chance.item() == pytest.approx(12 * 9)
    # a Jaccard index of 1 that chance explains in full says nothing
    assert adjusted_jaccard(joint.jaccard(), chance, joint.area_sums()).isnan().all()


def test_equal_masks_are_one_and_independent_ones_zero():
    a, seen_a = random_masks(0, images=240, pixels=50)
    b, seen_b = random_masks(1, images=240, pixels=50)
    blocks = [i // 12 for i in range(240)]
    same = counted(a, seen_a, a, seen_a, blocks)
    adjusted = adjusted_jaccard(
        same.jaccard(), expected(a, seen_a, a, seen_a, blocks), same.area_sums()
    )
    diagonal = adjusted.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, torch.ones_like(diagonal))
    other = counted(a, seen_a, b, seen_b, blocks)
    adjusted = adjusted_jaccard(
        other.jaccard(), expected(a, seen_a, b, seen_b, blocks), other.area_sums()
    )
    assert adjusted.abs().max() < 0.03


def test_one_block_alone_has_no_chance_level():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    assert expected(a, seen_a, b, seen_b, [0] * 12).isnan().all()


def test_pixels_that_nobody_sees_together_do_not_count():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    a[..., 0] = b[..., 1] = False
    seen_a[:, 0] = seen_b[:, 1] = False
    full = expected(a, seen_a, b, seen_b)
    kept = slice(2, None)
    part = expected(a[..., kept], seen_a[:, kept], b[..., kept], seen_b[:, kept])
    torch.testing.assert_close(full, part)


def test_a_pixel_of_one_block_spoils_only_the_masks_that_share_it():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    seen_a[4:, 0] = False  # the first run sees pixel 0 in the first block only
    seen_b[4:, 0] = False
    a[4:, :, :, 0] = b[4:, :, :, 0] = False
    seen_a[:4, 0] = seen_b[:4, 0] = True
    a[:4, :, :, 0] = b[:4, :, :, 0] = True
    a[:, 0, 0, 0] = False
    values = expected(a, seen_a, b, seen_b)
    assert not values[0, 0].isnan().any()
    assert values[0, 1:].isnan().all()
    kept = slice(1, None)
    part = expected(a[..., kept], seen_a[:, kept], b[..., kept], seen_b[:, kept])
    torch.testing.assert_close(values[0, 0], part[0, 0])
