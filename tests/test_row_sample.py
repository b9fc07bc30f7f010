"""Which activations are kept: the same number of every image, seeded, none of the padding."""

from typing import NamedTuple

import pytest
import torch

from cavalcade.concepts.row_sample import RowSample
from cavalcade.data.geometry import cells_inside
from tiny import quiet_trainer, tiny_backbone, tiny_data


class Rows(NamedTuple):
    images: torch.Tensor
    activations: torch.Tensor


def rows_of(taken, backbone):
    own = {name: taken.rows.of(name) for name in backbone.names}
    return {name: Rows(origins.images, rows) for name, (origins, rows) in own.items()}


def sample(budget=48, seed=0, backbone=None, batch_size=4):
    backbone = backbone or tiny_backbone()
    data = tiny_data(backbone, batch_size=batch_size)
    taken = RowSample(backbone, len(data.splits["train"]), budget, seed)
    quiet_trainer(logger=False, enable_checkpointing=False).test(
        taken, data.in_order("train"), verbose=False
    )
    return backbone, data, rows_of(taken, backbone)


def test_every_image_gives_as_many_rows():
    _, data, rows = sample(budget=48)
    for layer in rows.values():
        counts = torch.bincount(layer.images, minlength=len(data.splits["train"]))
        assert counts.tolist() == [4] * 12


def test_the_budget_is_kept_to():
    _, _, rows = sample(budget=17)
    assert len(rows["2"].images) == 17
    assert set(torch.bincount(rows["2"].images).tolist()) == {1, 2}
    _, _, rows = sample(budget=5)  # fewer than images
    assert torch.bincount(rows["2"].images, minlength=12).sum() == 5


def test_a_layer_with_fewer_pixels_gives_all_of_them():
    _, _, rows = sample(budget=12 * 1000)
    assert torch.bincount(rows["6"].images).tolist() == [16] * 12


def test_rows_are_activations_of_their_image_each_pixel_once():
    backbone, data, rows = sample(budget=120)
    for batch in data.in_order("train"):
        maps = backbone(batch.inputs)
        for name, layer in rows.items():
            for image, position in zip(maps[name], batch.positions, strict=True):
                kept = layer.activations[layer.images == position]
                pixels = image.flatten(1).T
                found = (kept[:, None] == pixels[None]).all(dim=2)
                assert found.any(dim=1).all()
                distances = torch.cdist(pixels, pixels) + torch.eye(len(pixels))
                if (distances > 0).all():  # all pixels differ, so none can be kept twice
                    assert (found.sum(dim=0) <= 1).all()


def test_the_draw_depends_on_the_seed_alone():
    first, again = (sample(batch_size=size)[2] for size in (4, 3))
    for name in first:
        torch.testing.assert_close(first[name].activations, again[name].activations)
    other = sample(seed=1)[2]
    assert not torch.equal(first["2"].activations, other["2"].activations)


def test_layers_of_one_grid_keep_the_same_pixels():
    backbone = tiny_backbone(("0", "1", "2"))
    batch = next(iter(tiny_data(backbone).in_order("train")))
    taken = RowSample(backbone, 12, 60, 0)
    taken.test_step(batch)
    rows = rows_of(taken, backbone)
    maps = backbone(batch.inputs)
    first = rows["0"].activations[0]
    (place,) = torch.nonzero((first == maps["0"][0].flatten(1).T).all(dim=1))[:1, 0].tolist()
    assert torch.equal(rows["2"].activations[0], maps["2"][0].flatten(1)[:, place])


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((0.0, 0.0, 1.0, 1.0), [[1, 1], [1, 1]]),
        ((0.25, 0.25, 0.75, 0.75), [[1, 1], [1, 1]]),  # a crop lies inside
        ((-1.0, 0.0, 1.0, 1.0), [[0, 0], [1, 1]]),  # padded above
        ((0.0, -0.5, 1.0, 3.0), [[1, 0], [1, 0]]),  # padded on the right
    ],
)
def test_cells_in_the_padding_are_no_part_of_the_image(frame, expected):
    inside = cells_inside(torch.tensor([frame]), (2, 2))
    assert inside[0].int().tolist() == expected


def test_images_are_drawn_apart_and_never_from_their_padding():
    """Of three images, the third has padding below its upper half."""
    taken = RowSample(tiny_backbone(), 3, 3 * 20, 0)
    frames = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 1]])
    first, second, padded = taken._cells((8, 8), frames, [0, 1, 2])
    assert len(first) == len(second) == len(padded) == 20
    assert set(first.tolist()) != set(second.tolist())
    assert int(padded.max()) < 32
    few = RowSample(tiny_backbone(), 3, 3 * 50, 0)._cells((8, 8), frames, [0, 1, 2])
    assert [len(cells) for cells in few] == [50, 50, 32]
