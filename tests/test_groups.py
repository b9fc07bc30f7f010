"""Blocks are contiguous, enough, and cut no group that fits into one; halves are of blocks."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.data.groups import MIN_BLOCKS, contiguous_blocks, held_out, two_halves

few = settings(max_examples=100, deadline=None)
sizes_of_groups = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 90)), max_size=40)


def groups_of(sizes):
    return [f"video-{g}" for g, size in enumerate(sizes) for _ in range(size)]


@few
@given(sizes_of_groups)
def test_blocks_count_up_without_gaps(sizes):
    groups = groups_of(sizes)
    blocks = contiguous_blocks(groups)
    assert len(blocks) == len(groups)
    assert blocks[:1] in ([], [0])
    assert all(after - before in (0, 1) for before, after in pairwise(blocks))


@few
@given(sizes_of_groups)
def test_there_are_enough_blocks(sizes):
    groups = groups_of(sizes)
    assert len(set(contiguous_blocks(groups))) >= min(MIN_BLOCKS, len(groups))


@few
@given(sizes_of_groups, st.integers(1, 30))
def test_no_block_is_larger_than_its_share(sizes, min_blocks):
    groups = groups_of(sizes)
    blocks = contiguous_blocks(groups, min_blocks)
    largest = max(1, len(groups) // min_blocks)
    assert all(blocks.count(block) <= largest for block in set(blocks))


@few
@given(sizes_of_groups)
def test_a_group_that_fits_into_a_block_is_never_cut(sizes):
    groups = groups_of(sizes)
    blocks = contiguous_blocks(groups)
    largest = max(1, len(groups) // MIN_BLOCKS)
    for group, members in groupby(zip(groups, blocks, strict=True), key=lambda pair: pair[0]):
        own = [block for _, block in members]
        if len(own) <= largest:
            assert len(set(own)) == 1
        else:
            others = [b for g, b in zip(groups, blocks, strict=True) if g != group]
            assert not set(own) & set(others)
            pieces = [own.count(block) for block in set(own)]
            assert max(pieces) - min(pieces) <= 1


@pytest.mark.parametrize(
    ("sizes", "min_blocks", "expected"),
    [
        ([], 3, []),
        ([1, 1], 20, [0, 1]),
        ([6], 3, [0, 0, 1, 1, 2, 2]),
        ([5], 2, [0, 0, 1, 1, 2]),  # at least two blocks, of two images at most
        ([1, 1, 1, 1], 2, [0, 0, 1, 1]),
        ([1, 2, 1], 2, [0, 1, 1, 2]),
        ([1, 3, 2], 3, [0, 1, 1, 2, 3, 3]),
    ],
)
def test_examples(sizes, min_blocks, expected):
    assert contiguous_blocks(groups_of(sizes), min_blocks) == expected


@few
@given(sizes_of_groups)
def test_halves_are_of_whole_blocks_and_cut_no_small_group(sizes):
    groups = groups_of(sizes)
    halves, blocks = two_halves(groups), contiguous_blocks(groups)
    assert len(halves) == len(groups)
    assert set(halves) <= {0, 1}
    assert len(set(zip(blocks, halves, strict=True))) == len(set(blocks))
    largest = max(1, len(groups) // MIN_BLOCKS)
    for group in set(groups):
        own = [half for g, half in zip(groups, halves, strict=True) if g == group]
        assert len(own) > largest or len(set(own)) == 1


@few
@given(sizes_of_groups)
def test_halves_are_equal_to_within_a_block(sizes):
    groups = groups_of(sizes)
    first, second = (two_halves(groups).count(half) for half in (0, 1))
    assert abs(first - second) <= max(1, len(groups) // MIN_BLOCKS)
    assert len(groups) < 2 or min(first, second) > 0


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [0]),
        ([2], [0, 1]),
        ([60], [0, 0, 0, 1, 1, 1] * 10),
        ([3, 1] * 15, [0, 0, 0, 1, 1, 1, 1, 0] + [0, 0, 0, 1, 1, 1, 1, 0] * 6 + [0, 0, 0, 1]),
    ],
)
def test_halves_of_examples(sizes, expected):
    assert two_halves(groups_of(sizes)) == expected


@few
@given(sizes_of_groups, st.integers(2, 12))
def test_what_is_held_out_is_whole_groups_spread_evenly(sizes, every):
    groups = groups_of(sizes)
    held = held_out(groups, every)
    assert len(held) == len(groups)
    own = dict(zip(groups, held, strict=True))
    assert [own[group] for group in groups] == held
    of_groups = list(own.values())
    assert any(held) == (len(own) >= 2)
    assert not own or not all(held)
    taken = [number for number, out in enumerate(of_groups) if out]
    assert {after - before for before, after in pairwise(taken)} <= {min(every, len(own))}


def test_groups_apart_from_each_other_are_held_out_whole():
    assert held_out(["a", "b", "a", "b"]) == [False, True, False, True]
    assert held_out([]) == []
    assert held_out(["a", "a"]) == [False, False]
