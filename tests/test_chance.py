import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from cavalcade.similarity import Firing, adjusted_jaccard, chance, similarity_of_pairs
from cavalcade.similarity.chance import Fired
from cavalcade.similarity.group_chance import chance_of_group
from test_counts import counted, counted_group, random_masks

BLOCKS = [0] * 4 + [1] * 5 + [2] * 3
PIXELS = chance.PIXELS + 30  # a whole part of the sum, and some more
EVERYWHERE = torch.ones(12, 1, 30, dtype=torch.bool)


def strata_of(seed, images=12, pixels=30, count=3):
    """One label at each pixel of each image."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(count, (images, pixels), generator=g)
    return torch.stack([labels == label for label in range(count)], dim=1)


def expected(a, b, strata=EVERYWHERE, blocks=BLOCKS):
    group, bits, counts = counted_group(a, b, blocks, strata)
    found = chance_of_group(group, counts, bits, np.asarray(blocks), given_labels=True)
    return found.nulls["label_conditional"]


def brute_force(a, b, strata=EVERYWHERE, blocks=BLOCKS, without=None):
    """The definition: P(both fire | both see) over pairs of images of different blocks, times n.

    Pixels of a stratum without such a pair take the mean rate of its others.
    """
    used = [i for i, block in enumerate(blocks) if block != without]
    pairs = [p for p in itertools.product(used, repeat=2) if blocks[p[0]] != blocks[p[1]]]
    result = torch.zeros(a.masks.shape[1], b.masks.shape[1], dtype=torch.float64)
    for stratum in strata.unbind(dim=1):
        x, y = (part.masks & stratum[:, None] for part in (a, b))
        see_x, see_y = (part.seen & stratum for part in (a, b))
        images = (see_x & see_y)[used].sum(dim=0).double()
        fired = sum((x[i, :, None] & y[j, None]).double() for i, j in pairs)
        seen = sum((see_x[i] & see_y[j]).double() for i, j in pairs)
        found = seen > 0
        per_pixel = (fired[..., found] / seen[found] * images[found]).sum(dim=-1)
        result += per_pixel * images.sum() / images[found].sum()
    return result.numpy()


def measured(a, b, strata, blocks):
    """All measures of one concept in two networks."""
    no_orders = torch.zeros(0, len(a.masks), dtype=torch.int64)
    index = torch.as_tensor(blocks)
    return next(similarity_of_pairs([a, b], [(0, 1)], strata, index, no_orders)).measures


def assert_nothing_beyond_chance(estimate, precise):
    """0 within its error, which is small."""
    assert (np.abs(estimate.value) < 4 * estimate.stderr).all()
    assert (estimate.stderr < precise).all()


def test_equals_the_mean_over_all_pairs_of_images_of_different_blocks():
    a, b = random_masks(0), random_masks(1, rows=4)
    np.testing.assert_allclose(expected(a, b).value, brute_force(a, b), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_equals_the_mean_over_all_pairs_within_labels(count):
    a, b, strata = random_masks(0), random_masks(1, rows=4), strata_of(2, count=count)
    np.testing.assert_allclose(expected(a, b, strata).value, brute_force(a, b, strata), rtol=1e-5)
    # labels matter: the other null is another number
    assert not np.allclose(expected(a, b, strata).value, expected(a, b).value, rtol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_without_a_block_is_the_same_with_its_images_deleted(count):
    """Exactly, not to first order: nothing else would make an honest jackknife."""
    blocks = [0] * 3 + [1] * 4 + [2] * 2 + [3] * 3
    a, b = random_masks(0), random_masks(1, rows=4)
    strata = strata_of(2, count=count)
    without = expected(a, b, strata, blocks).without
    assert len(without) == 4
    for block in range(4):
        reference = brute_force(a, b, strata, blocks, without=block)
        np.testing.assert_allclose(without[block], reference, rtol=1e-5)


@pytest.mark.parametrize("at_a_time", [1, 70, 10**6])
def test_some_masks_at_a_time_are_the_same_as_all(at_a_time, monkeypatch):
    a, b = random_masks(1, rows=5), random_masks(2, rows=4)
    strata = strata_of(0)
    whole = expected(a, b, strata)
    monkeypatch.setattr(chance, "MOST_PRODUCTS", at_a_time)
    parts = expected(a, b, strata)
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-6)
    np.testing.assert_allclose(parts.without, whole.without, rtol=1e-6)


def counts_of_many(seed, images, rows, *, seen_by_all=False):
    """Counts of twenty blocks at some pixels, as masks of so many images would give them."""
    rng = np.random.default_rng(seed)
    each = images // 20
    seen = np.full((20, PIXELS), each)
    if not seen_by_all:
        seen -= rng.integers(0, each // 2, PIXELS)
    fired = rng.binomial(seen[:, None], rng.random((20, rows, PIXELS)))
    return fired.astype(np.uint32), seen.astype(np.uint32)


def in_float64(a, b, joint):
    """The formula of `expected_intersection`, of some blocks."""
    (fired_a, seen_a), (fired_b, seen_b) = ([x.astype(float) for x in side] for side in (a, b))
    pairs = seen_a.sum(axis=0) * seen_b.sum(axis=0) - (seen_a * seen_b).sum(axis=0)
    weight = joint.sum(axis=0) / pairs
    total = np.einsum("ap,bp,p->ab", fired_a.sum(axis=0), fired_b.sum(axis=0), weight)
    return total - np.einsum("gap,gbp,p->ab", fired_a, fired_b, weight)


@pytest.mark.parametrize("images", [1000, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("seen_by_all", [True, False])
def test_many_images_are_as_precise_as_few(images, seen_by_all):
    a, b = (counts_of_many(k, images, 3 + k, seen_by_all=seen_by_all) for k in (0, 1))
    joint = np.minimum(a[1], b[1])
    found = chance.expected_intersection([(Fired(*a), Fired(*b), joint)])
    whole = in_float64(a, b, joint)
    np.testing.assert_allclose(found.value, whole, rtol=2e-7)
    for block, without in enumerate(found.without):
        kept = np.arange(20) != block
        parts = ([x[kept] for x in side] for side in (a, b))
        reference = in_float64(*parts, joint[kept])
        np.testing.assert_allclose(without, reference, rtol=2e-7)
        # what the jackknife is made of; a block is a twentieth
        change = found.value - without - (whole - reference)
        np.testing.assert_array_less(np.abs(change), 5e-6 * whole / 20)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("images", [1000, 100_000])
def test_masks_have_the_same_number_whichever_others_they_are_counted_beside(images, every):
    (fired, seen), other = (counts_of_many(k, images, 90) for k in (0, 1))
    joint = np.minimum(seen, other[1])
    whole = chance.expected_intersection([(Fired(fired, seen), Fired(*other), joint)], every)
    for rows in (slice(0, 1), slice(40, 43), slice(85, 90)):
        one = Fired(fired[:, rows], seen)
        alone = chance.expected_intersection([(one, Fired(*other), joint)], every)
        np.testing.assert_array_equal(alone.value, whole.value[rows])
        np.testing.assert_array_equal(alone.without, whole.without[:, rows])


def test_equals_thousands_of_random_re_pairings():
    """Permutations in which no image meets one of its own block, with unequal validity."""
    a, b = random_masks(0, pixels=12), random_masks(1, pixels=12)
    rng = np.random.default_rng(0)
    blocks = np.arange(12) // 3  # of one size: then all pairs of different blocks are as likely
    fired = torch.zeros(3, 3, 12, dtype=torch.float64)
    seen = torch.zeros(12, dtype=torch.float64)
    drawn = 0
    while drawn < 4000:
        shift = rng.permutation(12)
        if (blocks[shift] == blocks).any():
            continue
        partner = torch.from_numpy(shift)
        fired += torch.einsum("imp,inp->mnp", a.masks.double(), b.masks[partner].double())
        seen += (a.seen & b.seen[partner]).sum(dim=0)
        drawn += 1
    joint = (a.seen & b.seen).sum(dim=0)
    simulated = (fired / seen * joint).sum(dim=-1).numpy()
    exact = expected(a, b, EVERYWHERE[..., :12], blocks.tolist()).value
    np.testing.assert_allclose(simulated, exact, rtol=0.02)


def test_masks_that_never_change_are_all_chance():
    """A mask that is the same in every image agrees with itself by position alone."""
    still = Firing((torch.arange(30) < 9).expand(12, 1, 30), EVERYWHERE[:, 0])
    chance = expected(still, still).value
    assert chance.item() == pytest.approx(12 * 9)
    areas = 2 * counted(still, still, BLOCKS).sum(dim=0)[:1, :1].numpy()
    # a Jaccard index of 1 that chance explains in full says nothing
    assert np.isnan(adjusted_jaccard(np.ones((1, 1)), chance, areas)).all()
    assert np.isnan(measured(still, still, EVERYWHERE, BLOCKS)["adjusted"].value).all()


@pytest.mark.parametrize("visible", [1.0, 0.8])
def test_equal_masks_are_exactly_one(visible):
    a = random_masks(0, images=120, pixels=50, visible=visible)
    blind = random_masks(1, images=120, pixels=50, visible=visible).seen
    b = Firing(a.masks & blind[:, None], blind)  # the same, where the other network looked
    strata = strata_of(2, images=120, pixels=50)
    measures = measured(a, b, strata, np.arange(120) // 12)
    for name in ("jaccard", "adjusted", "label_conditional"):
        np.testing.assert_array_equal(np.diagonal(measures[name].value), 1.0)
        np.testing.assert_array_equal(measures[name].without[:, range(3), range(3)], 1.0)
        np.testing.assert_array_equal(np.diagonal(measures[name].stderr), 0.0)


@pytest.mark.parametrize("visible", [1.0, 0.6])
def test_independent_masks_are_zero_within_their_error(visible):
    """Both fire where the sky is, in scenes of their own; each sees other pixels."""
    blocks = np.arange(320) // 8
    firings = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        scene = rng.normal(size=(40, 1, 50))[blocks]
        latent = scene + np.linspace(-1.5, 1.5, 50) + rng.normal(size=(320, 3, 50))
        # what a network sees changes from block to block too
        seen = rng.random((40, 50))[blocks] * rng.random((320, 50)) < visible**2
        firings.append(
            Firing(torch.from_numpy((latent > 0) & seen[:, None]), torch.from_numpy(seen))
        )
    measures = measured(*firings, torch.ones(320, 1, 50, dtype=torch.bool), blocks)
    assert (measures["jaccard"].value > 0.25).all()  # position alone
    assert_nothing_beyond_chance(measures["adjusted"], precise=0.02)


def learnt_the_labels(shared_mistakes, visible=0.8):
    """Two networks that output the truth, with noise of their own or in common."""
    blocks = np.arange(240) // 8
    rng = np.random.default_rng(0)
    truth = (
        rng.normal(size=(30, 60))[blocks]
        + 0.7 * rng.normal(size=(240, 60))
        + np.linspace(-1.5, 1.5, 60)
        > 0
    )
    common = rng.random((240, 1, 60)) < (0.1 if shared_mistakes else 0.0)
    firings = []
    for _ in range(2):
        seen = rng.random((240, 60)) < visible
        own = rng.random((240, 2, 60)) < 0.1
        masks = truth[:, None] ^ common ^ own
        firings.append(Firing(torch.from_numpy(masks & seen[:, None]), torch.from_numpy(seen)))
    labels = torch.from_numpy(np.stack([truth, ~truth], axis=1))
    return measured(*firings, labels, blocks)


@pytest.mark.parametrize("visible", [1.0, 0.6])
def test_the_truth_and_independent_noise_is_agreement_by_label_alone(visible):
    measures = learnt_the_labels(shared_mistakes=False, visible=visible)
    assert (measures["adjusted"].value > 0.4).all()
    assert (measures["adjusted"].value > 10 * measures["adjusted"].stderr).all()
    assert_nothing_beyond_chance(measures["label_conditional"], precise=0.03)


def test_shared_mistakes_are_agreement_beyond_labels():
    conditional = learnt_the_labels(shared_mistakes=True)["label_conditional"]
    critical = stats.t.ppf(0.9999, 29)
    assert (conditional.value > critical * conditional.stderr).all()
    assert (conditional.value > 0.1).all()


def test_one_block_alone_has_no_chance_level():
    estimate = expected(random_masks(0), random_masks(1), blocks=[0] * 12)
    assert np.isnan(estimate.value).all()


def test_pixels_that_nobody_sees_together_do_not_count():
    a, b = random_masks(0), random_masks(1)
    for firing, pixel in ((a, 0), (b, 1)):
        firing.masks[..., pixel] = firing.seen[:, pixel] = False
    kept = [Firing(firing.masks[..., 2:], firing.seen[:, 2:]) for firing in (a, b)]
    part = expected(*kept, EVERYWHERE[..., 2:])
    full = expected(a, b)
    np.testing.assert_allclose(full.value, part.value, rtol=1e-6)
    np.testing.assert_allclose(full.without, part.without, rtol=1e-6)


def alone_in_the_first_block(*firings):
    """Pixel 0 is seen in the first block only, and fires there."""
    for firing in firings:
        firing.seen[4:, 0] = False
        firing.masks[4:, :, 0] = False
        firing.seen[:4, 0] = firing.masks[:4, :, 0] = True


def test_a_pixel_of_one_block_takes_the_mean_rate_of_the_others():
    a, b = random_masks(0), random_masks(1)
    alone_in_the_first_block(a, b)
    estimate = expected(a, b)
    others = [Firing(firing.masks[..., 1:], firing.seen[:, 1:]) for firing in (a, b)]
    part = expected(*others, EVERYWHERE[..., 1:])
    images = (others[0].seen & others[1].seen).sum().item()
    np.testing.assert_allclose(estimate.value, part.value * (images + 4) / images, rtol=1e-5)
    np.testing.assert_allclose(estimate.value, brute_force(a, b), rtol=1e-5)
    # without the first block nobody sees the pixel
    np.testing.assert_allclose(estimate.without[0], part.without[0], rtol=1e-5)


def test_a_pixel_takes_the_mean_rate_of_its_own_label():
    a, b, strata = random_masks(0), random_masks(1), strata_of(2)
    strata[:, :, 5] = False
    strata[:, 2, 5] = torch.tensor(BLOCKS) == 1
    strata[:, 0, 5] = torch.tensor(BLOCKS) != 1
    estimate = expected(a, b, strata)
    np.testing.assert_allclose(estimate.value, brute_force(a, b, strata), rtol=1e-5)
    for block in range(3):
        reference = brute_force(a, b, strata, without=block)
        np.testing.assert_allclose(estimate.without[block], reference, rtol=1e-5)


def label_of_one_block():
    """A label that no image of another block has: within it nothing can be re-paired."""
    inside = (torch.tensor(BLOCKS) == 0)[:, None] & (torch.arange(30) < 6)
    return torch.stack([inside, ~inside], dim=1)


def test_undefined_only_where_a_label_cannot_be_re_paired_and_both_masks_fire():
    a, b, strata = random_masks(0), random_masks(1), label_of_one_block()
    inside = strata[:, 0]
    a.masks[:, 0] &= ~inside
    b.masks[:, 2] &= ~inside
    a.masks[0, 1:, 3] = a.seen[0, 3] = True
    b.masks[0, :2, 3] = b.seen[0, 3] = True
    estimate = expected(a, b, strata)
    undefined = np.zeros((3, 3), dtype=bool)
    undefined[1:, :2] = True
    np.testing.assert_array_equal(np.isnan(estimate.value), undefined)
    # where a mask never fires there, the other label is all there is
    other = expected(a, b, strata[:, 1:])
    np.testing.assert_allclose(estimate.value[~undefined], other.value[~undefined], rtol=1e-6)
    # and without its only block the label is gone
    np.testing.assert_allclose(estimate.without[0], other.without[0], rtol=1e-6)
    assert np.isnan(estimate.without[1:][:, undefined]).all()


def test_a_label_that_only_the_deleted_block_fires_in_is_no_loss():
    """Of two blocks with a label one is deleted; nothing fires in the other."""
    a, b = random_masks(0), random_masks(1)
    blocks = torch.tensor(BLOCKS)
    inside = (blocks < 2)[:, None] & (torch.arange(30) < 6)
    strata = torch.stack([inside, ~inside], dim=1)
    quiet = inside & (blocks == 1)[:, None]
    for firing in (a, b):
        firing.masks[quiet[:, None].expand_as(firing.masks)] = False
    estimate = expected(a, b, strata)
    assert np.isfinite(estimate.value).all()
    other = expected(a, b, strata[:, 1:])
    np.testing.assert_allclose(estimate.without[0], other.without[0], rtol=1e-5)
    assert np.isnan(estimate.without[1]).all()  # both fire, and nothing can be re-paired


@pytest.mark.parametrize(
    ("jaccard", "chance", "result"),
    [(1.0, 0.5, 1.0), (0.5, 0.5, 0.0), (0.0, 0.5, -1.0), (0.75, 0.5, 0.5), (1.0, 1.0, np.nan)],
)
def test_adjusted_jaccard_is_the_share_of_the_room_above_chance(jaccard, chance, result):
    # E = E[I] / (areas - E[I]): areas of 30
    intersection = 30 * chance / (1 + chance)
    value = adjusted_jaccard(np.array(jaccard), np.array(intersection), np.array(30.0))
    np.testing.assert_allclose(value, result, atol=1e-12)


def test_adjusted_jaccard_is_undefined_where_the_index_is():
    nothing = adjusted_jaccard(np.array(np.nan), np.array(0.0), np.array(0.0))
    assert np.isnan(nothing)
