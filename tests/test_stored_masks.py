"""Masks read from a run folder, a few images at a time."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cavalcade import InputError
from cavalcade.concepts.encoding import pack
from cavalcade.similarity import Fires, Firing, repaired_orders, similarity_of_pairs
from cavalcade.stored_masks import StoredBits, StoredFiring

GRID = (5, 6)
LAYERS = ("2.conv", "10")


@pytest.fixture
def stored(tmp_path):
    """Two layers with three concepts each, and what was seen."""
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(23, 3, *GRID, generator=generator) < 0.5 for name in LAYERS}
    seen = torch.rand(23, *GRID, generator=generator) < 0.8
    masks = {name: each & seen[:, None] for name, each in masks.items()}
    tensors = {f"layers/{name}": pack(each) for name, each in masks.items()}
    save_file({"seen": pack(seen), **tensors}, tmp_path / "masks.safetensors")
    return tmp_path / "masks.safetensors", masks, seen


def firing_of(path, which, found):
    bits = StoredBits(path)
    rows = [(f"layers/{name}", which) for name in LAYERS]
    return StoredFiring(bits, rows, bits, np.array(found), GRID[0] * GRID[1])


@pytest.mark.parametrize("images", [[0, 1, 2], [22], [3, 3, 4, 9, 10, 0], list(range(23)), []])
def test_some_images_are_what_the_library_reads(stored, images):
    path, masks, seen = stored
    firing = firing_of(path, slice(1, 2), [True, False])
    assert isinstance(firing, Fires)
    assert (firing.num_rows, firing.num_pixels) == (2, 30)
    chosen = np.array(images, dtype=np.int64)
    reference = torch.stack([pack(masks[name][chosen, 1]) for name in LAYERS]).numpy()
    np.testing.assert_array_equal(firing.mask_bits(chosen), reference)
    np.testing.assert_array_equal(firing.seen_bits(chosen), pack(seen[chosen]).numpy())


def test_all_concepts_of_all_layers(stored):
    path, masks, seen = stored
    firing = firing_of(path, slice(None), [True] * 6)
    every = torch.cat([masks[name].flatten(2) for name in LAYERS], dim=1)
    in_memory = Firing(every, seen.flatten(1))
    some = np.arange(4, 9)
    np.testing.assert_array_equal(firing.mask_bits(some), in_memory.mask_bits(some))
    np.testing.assert_array_equal(firing.seen_bits(some), in_memory.seen_bits(some))


def test_pairs_are_the_same_from_disk_and_from_memory(stored):
    path, masks, seen = stored
    found = [True, False, True, True, True, True]
    every = torch.cat([masks[name].flatten(2) for name in LAYERS], dim=1)
    blocks = torch.arange(23) // 4
    orders = torch.from_numpy(repaired_orders(blocks.numpy(), 3))
    strata = torch.stack([every[:, 0], ~every[:, 0]], dim=1)
    for kind in (None, strata):
        one, other = (
            next(similarity_of_pairs([each], [(0, 0)], kind, blocks, orders))
            for each in (
                firing_of(path, slice(None), found),
                Firing(every, seen.flatten(1), torch.tensor(found)),
            )
        )
        assert tuple(one.measures) == tuple(other.measures)
        for name, cells in one.measures.items():
            np.testing.assert_array_equal(cells.value, other.measures[name].value)
            np.testing.assert_array_equal(cells.without, other.measures[name].without)
            np.testing.assert_array_equal(one.repaired[name], other.repaired[name])


@pytest.mark.parametrize("damage", ["missing", "cut", "no header", "another tensor"])
def test_a_damaged_file_is_one_sentence(stored, damage):
    path, *_ = stored
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        name = {"cut": content[:-200], "no header": b"\xff" * 100}
        path.write_bytes(name.get(damage, content.replace(b"layers/10", b"layers/11")))
    with pytest.raises(InputError, match=r"masks.safetensors cannot be read .* make it again"):
        firing_of(path, slice(None), [True] * 6).mask_bits(np.arange(23))


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_of_another_run_is_not_read_in_its_stead(stored, gone):
    """Of the same shape and size, so that nothing else would tell them apart."""
    path, *_ = stored
    firing = firing_of(path, slice(None), [True] * 6)
    firing.mask_bits(np.arange(3))
    again = path.with_name("again")
    again.write_bytes(path.read_bytes())
    again.replace(path)
    if gone:
        path.unlink()
    for read in (firing.mask_bits, firing.seen_bits):
        with pytest.raises(InputError, match=r"masks.safetensors was made again or deleted while"):
            read(np.arange(3, 6))
