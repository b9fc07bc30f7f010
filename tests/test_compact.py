"""The truth comes back as it was packed, whatever its shape, and in little memory."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cavalcade.data import Labels
from cavalcade.data.compact import CompactLabels, bit_rows, compressed


def random_labels(seed, concepts, shape, void):
    """Random truth; the first concept is absent, and labelled nowhere if that is per concept."""
    generator = torch.Generator().manual_seed(seed)
    masks, known = torch.rand((2, concepts, *shape), generator=generator) > 0.4
    masks[:1], known[:1] = False, False
    if void == "per image":
        return Labels(masks, known[-1:].expand(concepts, -1, -1))
    if void == "absent":
        return Labels(masks, torch.tensor(True).expand(masks.shape))
    return Labels(masks, known)


def append(compact, labels):
    masks, unknown = bit_rows(labels)
    compact.append(tuple(labels.masks.shape[1:]), compressed([*masks, *unknown]))


images = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.sampled_from(["per image", "per concept", "absent"]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(images, st.integers(0, 4), st.data())
def test_labels_come_back(drawn, concepts, data):
    compact = CompactLabels(concepts)
    all_labels = [random_labels(seed, concepts, shape, void) for seed, shape, void in drawn]
    for labels in all_labels:
        append(compact, labels)
    assert len(compact) == len(drawn)
    rows = data.draw(st.permutations(range(concepts)))[: data.draw(st.integers(0, concepts))]
    for index, labels in enumerate(all_labels):
        found = compact.read(index, rows)
        assert torch.equal(found.masks, labels.masks[rows])
        assert torch.equal(found.labelled, labels.labelled[rows])


def test_one_map_that_stands_for_all_concepts_still_does():
    compact = CompactLabels(3)
    for void in ("per image", "absent", "per concept"):
        append(compact, random_labels(0, 3, (5, 7), void))
    assert [compact.read(index, [2, 0]).shared for index in range(3)] == [True, True, False]


def test_what_is_absent_and_labelled_everywhere_takes_no_memory():
    compact = CompactLabels(80)
    append(compact, Labels(torch.zeros(80, 48, 64, dtype=torch.bool), torch.ones(80, 48, 64) > 0))
    assert compact.num_bytes == 0
    found = compact.read(0, range(80))
    assert not found.masks.any()
    assert found.labelled.all()


def test_a_mask_with_few_edges_takes_a_small_part_of_its_bits():
    masks = torch.zeros(1, 480, 640, dtype=torch.bool)
    masks[:, 100:300, 200:500] = True
    compact = CompactLabels(1)
    append(compact, Labels(masks, torch.tensor(True).expand(masks.shape)))
    assert 0 < compact.num_bytes < masks.numel() / 8 / 50


@pytest.mark.parametrize("void", ["per image", "per concept"])
def test_what_is_read_can_be_written_to(void):
    """Also by who shares the buffer."""
    compact = CompactLabels(2)
    append(compact, random_labels(1, 2, (4, 4), void))
    before = compact.read(0, [0, 1])
    compact.read(0, [0, 1]).masks[:] = True
    assert torch.equal(compact.read(0, [0, 1]).masks, before.masks)


def test_it_can_be_sent_to_a_process():
    compact = CompactLabels(2)
    append(compact, random_labels(1, 2, (4, 4), "per image"))
    again = pickle.loads(pickle.dumps(compact))
    assert torch.equal(again.read(0, [0, 1]).masks, compact.read(0, [0, 1]).masks)
