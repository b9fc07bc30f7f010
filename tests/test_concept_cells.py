import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from cavalcade.similarity import (
    CONCEPT_MEASURES,
    Fired,
    Firing,
    expected_intersection,
    repaired_orders,
    similarity_of_pairs,
)
from cavalcade.similarity.chance import some_pixels
from test_chance import strata_of
from test_counts import counted_group, random_masks

BLOCKS = torch.tensor([0] * 3 + [1] * 4 + [2] * 2 + [3] * 3)
PAIRS = list(itertools.product(range(3), repeat=2))


def orders(blocks, repairings=8):
    return torch.from_numpy(repaired_orders(np.asarray(blocks), repairings))


def three_networks():
    return [random_masks(seed, rows=rows) for seed, rows in ((0, 3), (1, 4), (2, 2))]


def cells_of(networks, pairs, strata=None, blocks=BLOCKS, repairings=8):
    if strata is None:
        strata = strata_of(9, len(blocks), networks[0].seen.shape[1], count=2)
    again = orders(blocks, repairings)
    found = list(similarity_of_pairs(networks, pairs, strata, torch.as_tensor(blocks), again))
    return dict(zip(pairs, found, strict=True))


def sklearn_jaccard(a, b, images):
    both = (a.seen & b.seen)[images].numpy()
    return [
        [
            jaccard_score(a.masks[images, i].numpy()[both], b.masks[images, j].numpy()[both])
            for j in range(b.masks.shape[1])
        ]
        for i in range(a.masks.shape[1])
    ]


def test_raw_index_agrees_with_scikit_learn_with_and_without_each_block():
    networks = three_networks()
    for (i, j), cells in cells_of(networks, PAIRS).items():
        a, b = networks[i], networks[j]
        jaccard = cells.measures["jaccard"]
        assert tuple(cells.measures) == CONCEPT_MEASURES
        every = torch.arange(12)
        np.testing.assert_allclose(jaccard.value, sklearn_jaccard(a, b, every), atol=1e-12)
        for block in range(4):
            reference = sklearn_jaccard(a, b, every[block != BLOCKS])
            np.testing.assert_allclose(jaccard.without[block], reference, atol=1e-12)


def test_raw_index_of_re_paired_images_agrees_with_scikit_learn():
    networks = three_networks()
    for (i, j), cells in cells_of(networks, PAIRS).items():
        assert tuple(cells.repaired) == CONCEPT_MEASURES
        again = orders(BLOCKS)
        assert len(again) == 3
        for order, repaired in zip(again, cells.repaired["jaccard"], strict=True):
            b = Firing(networks[j].masks[order], networks[j].seen[order])
            reference = sklearn_jaccard(networks[i], b, torch.arange(12))
            np.testing.assert_allclose(repaired, reference, atol=1e-12)


def test_changing_the_networks_over_transposes():
    cells = cells_of(three_networks(), PAIRS)
    for i, j in PAIRS:
        for name, one in cells[i, j].measures.items():
            other = cells[j, i].measures[name]
            assert one.value.shape == ((3, 4, 2)[i], (3, 4, 2)[j])
            np.testing.assert_allclose(one.value, other.value.T, rtol=0, atol=1e-6)
            np.testing.assert_allclose(one.without, other.without.swapaxes(1, 2), rtol=0, atol=1e-6)
            np.testing.assert_allclose(one.stderr, other.stderr.T, rtol=0, atol=1e-6)


def test_a_network_with_itself_is_symmetric_with_ones():
    for name, own in cells_of(three_networks(), [(0, 0)])[0, 0].measures.items():
        np.testing.assert_allclose(own.value, own.value.T, rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(np.diagonal(own.value), 1.0)


def test_a_pair_does_not_depend_on_the_networks_beside_it():
    networks = three_networks()
    among = cells_of(networks, [(1, 2)])[1, 2]
    alone = cells_of(networks[1:], [(0, 1)])[0, 1]
    for name in CONCEPT_MEASURES:
        np.testing.assert_array_equal(among.measures[name].value, alone.measures[name].value)
    np.testing.assert_array_equal(among.repaired["adjusted"], alone.repaired["adjusted"])


@pytest.mark.parametrize("visible", [1.0, 0.8])
def test_a_pair_among_many_is_the_same_to_the_last_bit(visible):
    """Also where large products round otherwise than small ones; seen alike or not."""
    networks = [random_masks(seed, rows=9, pixels=300, visible=visible) for seed in range(12)]
    strata = strata_of(9, pixels=300, count=2)
    pairs = [(i, j) for i in range(12) for j in range(i, 12)]
    among = cells_of(networks, pairs, strata)
    for i, j in ((0, 0), (3, 10), (11, 11)):
        alone = cells_of([networks[i], networks[j]], [(0, 1)], strata)[0, 1]
        for name in CONCEPT_MEASURES:
            one, other = among[i, j].measures[name], alone.measures[name]
            np.testing.assert_array_equal(one.value, other.value)
            np.testing.assert_array_equal(one.without, other.without)
            np.testing.assert_array_equal(among[i, j].repaired[name], alone.repaired[name])


def test_a_pair_holds_no_numbers_of_others():
    networks = [random_masks(seed) for seed in range(5)]
    for cells in cells_of(networks, [(0, 1), (0, 4), (1, 1)]).values():
        estimates = cells.measures.values()
        arrays = [*(x for e in estimates for x in (e.value, e.without)), *cells.repaired.values()]
        assert all(x.base is None or x.base.nbytes == x.nbytes for x in arrays)


def test_blind_to_the_order_of_images():
    networks, strata = three_networks(), strata_of(9, count=2)
    order = torch.from_numpy(np.random.default_rng(0).permutation(12))
    moved = [Firing(network.masks[order], network.seen[order]) for network in networks]
    one = cells_of(networks, PAIRS, strata)
    other = cells_of(moved, PAIRS, strata[order], BLOCKS[order])
    for pair in PAIRS:
        for name in CONCEPT_MEASURES:
            a, b = (cells[pair].measures[name] for cells in (one, other))
            np.testing.assert_array_equal(a.value, b.value)
            np.testing.assert_array_equal(a.without, b.without)


def test_two_empty_masks_are_not_defined():
    a, b = random_masks(0), random_masks(1)
    a.masks[:, 0] = False
    b.masks[:, 1] = False
    jaccard = cells_of([a, b], [(0, 1)])[0, 1].measures["jaccard"].value
    undefined = np.zeros((3, 3), dtype=bool)
    undefined[0, 1] = True
    np.testing.assert_array_equal(np.isnan(jaccard), undefined)
    assert jaccard[0, 0] == 0  # one of them fires


def in_blocks(*areas):
    """One mask that holds as many pixels of the first image of each block of two."""
    masks = torch.zeros(2 * len(areas), 1, 30, dtype=torch.bool)
    for block, area in enumerate(areas):
        masks[2 * block, 0, :area] = True
    return Firing(masks, torch.ones(2 * len(areas), 30, dtype=torch.bool))


@pytest.mark.parametrize(
    ("areas", "enough"),
    [
        ((6, 6, 6, 0, 0), True),  # three blocks, evenly
        ((6, 6, 0, 0, 0), False),
        ((9, 6, 6, 0, 0), False),  # unevenly, as good as 2.9
        ((9, 6, 6, 1, 0), True),  # 3.1
        ((30, 0, 0, 0, 0), False),
        ((0, 0, 0, 0, 0), False),
        ((6, 6, 0), True),  # of three blocks no more is asked
    ],
)
def test_cells_that_fire_in_fewer_than_three_effective_blocks_are_undefined(areas, enough):
    network, steady = in_blocks(*areas), in_blocks(*[5] * len(areas))
    both = Firing(torch.cat([network.masks, steady.masks], dim=1), network.seen)
    blocks = np.arange(len(both.seen)) // 2
    cells = cells_of([both], [(0, 0)], blocks=blocks)[0, 0].measures["jaccard"]
    assert np.isfinite(cells.value[0, 0]) == enough
    assert np.isfinite(cells.without[:, 0, 0]).all() == enough
    # the union with what fires everywhere is spread widely enough
    assert np.isfinite(cells.value[1]).all() == (areas[0] < 30)
    assert np.isfinite(cells.value[1, 1])


def test_a_cell_is_defined_by_what_both_see():
    """A mask that fires in many blocks, but where the other network looked in two only."""
    a, b = in_blocks(5, 5, 5, 5, 5), in_blocks(5, 5, 0, 0, 0)
    b.seen[4:] = False
    cells = cells_of([a, b], [(0, 1), (0, 0)], blocks=np.arange(10) // 2)
    assert np.isnan(cells[0, 1].measures["jaccard"].value).all()
    assert cells[0, 0].measures["jaccard"].value == 1


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=9),
    repairings=st.integers(0, 12),
    seed=st.integers(0, 5),
)
def test_no_image_is_re_paired_with_one_of_its_own_block(sizes, repairings, seed):
    blocks = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(blocks)
    found = repaired_orders(blocks, repairings)
    assert found.shape == (min(repairings, len(sizes) - 1), len(blocks))
    assert (blocks[found] != blocks).all()
    assert len(np.unique(blocks[found], axis=0)) == len(found)  # each another shift
    for order in found:
        for block in range(len(sizes)):
            partners = order[blocks == block]
            assert (np.diff(partners) >= 0).all()  # neighbouring frames stay neighbours
            assert len(np.unique(blocks[partners])) == 1  # and whole blocks together
        assert len(np.unique(blocks[order])) == len(sizes)  # every block is used


def test_blocks_of_one_size_are_moved_on_whole():
    found = repaired_orders(np.repeat(np.arange(4), 2), 3)
    np.testing.assert_array_equal(found[0], [2, 3, 4, 5, 6, 7, 0, 1])
    np.testing.assert_array_equal(found[2], [6, 7, 0, 1, 2, 3, 4, 5])


def test_blocks_of_other_sizes_are_spread_over():
    found = repaired_orders(np.array([0, 0, 0, 0, 1, 1]), 8)
    np.testing.assert_array_equal(found, [[4, 4, 5, 5, 0, 2]])


def test_steps_are_spread_evenly():
    blocks = np.arange(21)
    np.testing.assert_array_equal(repaired_orders(blocks, 5)[:, 0], [1, 6, 10, 15, 20])


def test_one_block_cannot_be_re_paired():
    assert repaired_orders(np.zeros(5, dtype=int), 8).shape == (0, 5)
    cells = cells_of(three_networks(), [(0, 1)], blocks=torch.zeros(12, dtype=torch.int64))
    assert cells[0, 1].repaired["adjusted"].shape == (0, 3, 4)
    assert np.isfinite(cells[0, 1].measures["jaccard"].value).all()
    assert np.isnan(cells[0, 1].measures["adjusted"].value).all()


def scenes(seed, shared=None, blocks=40, per=4, pixels=60):
    """Masks that know where the sky is, with a scene for each block."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), per)
    scene = rng.normal(size=(blocks, pixels))[block] if shared is None else shared
    position = np.linspace(-1.5, 1.5, pixels)
    masks = scene[:, None] + position + 0.5 * rng.normal(size=(len(block), 2, pixels)) > 0
    seen = rng.random((len(block), pixels)) < 0.8
    return Firing(torch.from_numpy(masks & seen[:, None]), torch.from_numpy(seen)), scene


@pytest.mark.parametrize("related", [False, True])
def test_re_paired_images_average_to_zero(related):
    """Also where the networks are alike: the scenes are what makes them so."""
    a, scene = scenes(0)
    b, _ = scenes(1, scene if related else None)
    blocks = np.repeat(np.arange(40), 4)
    strata = torch.ones(160, 1, 60, dtype=torch.bool)
    cells = cells_of([a, b], [(0, 1)], strata, blocks, repairings=39)[0, 1]
    repaired = cells.repaired["adjusted"]
    assert len(repaired) == 39
    stderr = repaired.std(axis=0, ddof=1) / np.sqrt(39)
    assert (stderr < 0.01).all()
    assert (np.abs(repaired.mean(axis=0)) < 4 * stderr).all()
    assert (cells.repaired["jaccard"].mean(axis=0) > 0.25).all()  # position alone
    own = cells.measures["adjusted"]
    assert (own.value > 10 * own.stderr).all() == related


def test_re_paired_images_of_a_fine_grid_are_counted_at_some_pixels():
    """A fifth of them from a thousand on: the same as a coarse grid of those pixels."""
    some = torch.from_numpy(some_pixels(1000, 5))
    assert len(some) == 200
    fine = [random_masks(seed, pixels=1000) for seed in (0, 1)]
    coarse = [Firing(part.masks[..., some], part.seen[:, some]) for part in fine]
    strata = torch.ones(12, 1, 1000, dtype=torch.bool)
    one = cells_of(fine, [(0, 1)], strata)[0, 1]
    other = cells_of(coarse, [(0, 1)], strata[..., some])[0, 1]
    for name in one.repaired:
        np.testing.assert_allclose(one.repaired[name], other.repaired[name], rtol=1e-5)
    # the images themselves are counted in full
    full = sklearn_jaccard(*fine, torch.arange(12))
    np.testing.assert_allclose(one.measures["jaccard"].value, full, atol=1e-12)


def test_errors_judged_by_some_pixels_are_near_the_exact_ones():
    """Smooth masks on a fine grid whose width is a multiple of five; values stay exact."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40] / 40
    position = np.sin(3 * columns) - rows

    def network(scene):
        waves = [np.sin(k * rows + p) * np.cos(k * columns) for k, p in ((2, 0), (5, 1), (9, 2))]
        own = rng.normal(size=(63, 3))
        latent = position + np.einsum("ik,khw->ihw", scene + 0.6 * own, np.array(waves))
        masks = torch.from_numpy(latent > 0).flatten(1)[:, None]
        return Firing(masks, torch.ones(63, 1600, dtype=torch.bool))

    scene = np.repeat(rng.normal(size=(21, 3)), 3, axis=0)
    networks = [network(scene), network(scene)]
    truth = networks[0].masks[:, 0] & networks[1].masks[:, 0]
    strata = torch.stack([truth, ~truth], dim=1)
    blocks = np.repeat(np.arange(21), 3)
    found = cells_of(networks, [(0, 1)], strata, blocks)[0, 1].measures
    everywhere = torch.ones(63, 1, 1600, dtype=torch.bool)
    group, _, counts = counted_group(*networks, blocks, everywhere)
    seen = counts.seen[0, ..., 0].T
    fired = [Fired(counts.fired[0, ..., rows].transpose(1, 2, 0), seen) for rows in group.rows]
    exact = expected_intersection([(*fired, seen)])
    some = expected_intersection([(*fired, seen)], 5)
    np.testing.assert_allclose(some.value, exact.value, rtol=1e-5)
    np.testing.assert_allclose(some.stderr, exact.stderr, rtol=0.15)
    assert all(np.isfinite(cells.stderr).all() for cells in found.values())


def test_a_layer_without_the_concept_says_nothing():
    """It fires nowhere, but for want of training pixels: NaN, not 0."""
    a, b = random_masks(0), random_masks(1)
    a.masks[:, 1] = False
    silent = cells_of([a, b], [(0, 1)])[0, 1].measures["adjusted"].value
    assert (silent[1] <= 0).all()
    lacking = a._replace(found=torch.tensor([True, False, True]))
    for cells in cells_of([lacking, b], [(0, 1)])[0, 1].measures.values():
        assert np.isnan(cells.value[1]).all()
        assert np.isnan(cells.without[:, 1]).all()
        assert np.isfinite(cells.value[[0, 2]]).all()
