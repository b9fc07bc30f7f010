"""Areas are exact for every frame, and all networks' maps end up on the same grid."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, interpolate

from cavalcade.data.geometry import (
    WHOLE,
    Frame,
    area_average,
    area_averages,
    at_cell_centres,
    neighbours,
    seen_cells,
    to_common_grid,
)

few = settings(max_examples=30, deadline=None)
FRAMES = [
    WHOLE,
    Frame(0.25, 0.125, 0.75, 0.875),  # a crop
    Frame(-0.5, 0.0, 1.5, 1.0),  # padding above and below
    Frame(0.1, -0.3, 0.77, 0.6),  # a crop on three sides, padding on the fourth
    Frame(1 / 3, 1 / 7, 0.4, 0.15),  # within a few pixels
]
sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
spans = st.tuples(st.floats(-0.6, 0.9), st.floats(0.1, 1.6))


@st.composite
def frames(draw):
    (top, height), (left, width) = draw(spans), draw(spans)
    return Frame(top, left, top + height, left + width)


@st.composite
def masks(draw):
    height, width = draw(sizes)
    return random_masks(2, height, width, seed=draw(st.integers(0, 999)))


def random_masks(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5


def random_maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def slow_area_average(masks, frame, grid):
    """Every cell against every pixel, in fractions."""
    concepts, height, width = masks.shape
    result = torch.zeros(concepts, *grid, dtype=torch.float64)

    def overlaps(start, stop, cell, cells, pixels):
        start, stop = Fraction(start), Fraction(stop)
        low = start + (stop - start) * Fraction(cell, cells)
        high = start + (stop - start) * Fraction(cell + 1, cells)
        sides = [(Fraction(p, pixels), Fraction(p + 1, pixels)) for p in range(pixels)]
        return [max(min(high, b) - max(low, a), Fraction(0)) / (high - low) for a, b in sides]

    for i in range(grid[0]):
        down = overlaps(frame.top, frame.bottom, i, grid[0], height)
        for j in range(grid[1]):
            across = overlaps(frame.left, frame.right, j, grid[1], width)
            for k in range(concepts):
                shares = (down[y] * across[x] for y, x in masks[k].nonzero().tolist())
                result[k, i, j] = float(sum(shares))
    return result.float()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (5, 9)])
def test_areas_are_those_of_the_slow_twin(frame, grid):
    drawn = random_masks(2, 5, 7)
    expected = slow_area_average(drawn, frame, grid)
    torch.testing.assert_close(area_average(drawn, frame, grid), expected, atol=1e-6, rtol=0)


@few
@given(masks(), frames(), sizes)
def test_areas_of_any_frame_are_those_of_the_slow_twin(drawn, frame, grid):
    expected = slow_area_average(drawn, frame, grid)
    torch.testing.assert_close(area_average(drawn, frame, grid), expected, atol=1e-6, rtol=0)


@few
@given(masks(), frames(), sizes)
def test_areas_are_shares_and_add_up(drawn, frame, grid):
    here = area_average(drawn, frame, grid)
    elsewhere = area_average(~drawn, frame, grid)
    image = area_average(torch.ones_like(drawn), frame, grid)
    assert 0 <= here.min() <= here.max() <= 1
    torch.testing.assert_close(here + elsewhere, image, atol=1e-6, rtol=0)


@few
@given(masks(), st.floats(0, 0.5), st.floats(0, 0.5), sizes)
def test_area_is_preserved(drawn, above, beside, grid):
    """The whole image is within the frame, so all of the mask's area is on the grid."""
    frame = Frame(-above, -beside, 1 + above / 2, 1 + beside)
    area = (1 + 1.5 * above) * (1 + 2 * beside)
    kept = area_average(drawn, frame, grid).mean((1, 2)) * area
    torch.testing.assert_close(kept, drawn.float().mean((1, 2)), atol=1e-5, rtol=0)


@few
@given(masks(), frames())
def test_several_grids_are_each_as_it_would_be_alone(drawn, frame):
    grids = [(2, 3), (4, 6), (8, 6), (1, 1), (5, 3), (2, 3)]
    together = area_averages(drawn, frame, grids)
    assert [tuple(shares.shape[1:]) for shares in together] == grids
    for grid, shares in zip(grids, together, strict=True):
        assert torch.equal(shares, area_average(drawn, frame, grid))


@few
@given(masks(), frames(), st.permutations(range(4)))
def test_concepts_that_are_absent_change_nothing(drawn, frame, order):
    padded = torch.cat([drawn, torch.zeros_like(drawn)])[order]
    alone = torch.cat([area_average(drawn, frame, (3, 4)), torch.zeros(2, 3, 4)])[order]
    assert torch.equal(area_average(padded, frame, (3, 4)), alone)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_coarse_grid_is_the_mean_of_the_finer_one_that_it_nests(frame):
    coarse, fine = area_averages(random_masks(3, 11, 13), frame, [(3, 2), (12, 6)])
    torch.testing.assert_close(avg_pool2d(fine, (4, 3)), coarse, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(5, 7), (16, 12), (1, 3)])
@pytest.mark.parametrize("grid", [(4, 4), (6, 5), (1, 1), (20, 31)])
def test_cell_centres_are_those_of_the_slow_twin(size, grid):
    drawn = random_masks(2, *size)
    expected = torch.zeros(2, *grid, dtype=torch.bool)
    for i in range(grid[0]):
        for j in range(grid[1]):
            y = math.floor(Fraction(2 * i + 1, 2 * grid[0]) * size[0])
            x = math.floor(Fraction(2 * j + 1, 2 * grid[1]) * size[1])
            expected[:, i, j] = drawn[:, y, x]
    assert torch.equal(at_cell_centres(drawn, grid), expected)


def test_seen_cells_are_those_of_the_slow_twin():
    """In binary fractions, so that a centre on the frame's edge counts as seen."""
    crops = [(0.25, 0.125, 0.75, 0.875), (0.0625, 0.53125, 0.9375, 0.84375)]
    frames = [WHOLE, (-0.5, 0.0, 1.5, 1.0), *crops]
    grid = (8, 16)
    expected = torch.zeros(len(frames), *grid, dtype=torch.bool)
    for n, (top, left, bottom, right) in enumerate(frames):
        for i in range(grid[0]):
            for j in range(grid[1]):
                y, x = (i + 0.5) / grid[0], (j + 0.5) / grid[1]
                expected[n, i, j] = top <= y <= bottom and left <= x <= right
    seen = seen_cells(torch.tensor([list(frame) for frame in frames]), grid)
    assert torch.equal(seen, expected)
    assert seen[0].all()
    assert seen[1].all()
    assert seen[3].sum() == 8 * 6


LAYERS_AND_GRIDS = [
    ((4, 5), (16, 15)),  # up
    ((7, 7), (7, 7)),  # as it is
    ((32, 30), (8, 7)),  # down
    ((3, 40), (20, 9)),  # up one way, down the other
]


@pytest.mark.parametrize(("layer", "grid"), LAYERS_AND_GRIDS)
def test_the_whole_frame_is_bilinear_interpolation(layer, grid):
    maps = random_maps(2, 3, *layer)
    down = layer[0] > grid[0] or layer[1] > grid[1]
    expected = interpolate(maps, grid, mode="bilinear", align_corners=False, antialias=down)
    brought = to_common_grid(maps, torch.tensor([WHOLE, WHOLE]), grid)
    torch.testing.assert_close(brought, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [(4, 5), (24, 40)])
def test_a_crop_is_interpolated_and_put_in_its_place(layer):
    maps = random_maps(1, 2, *layer)
    frame = Frame(0.25, 0.125, 0.75, 0.875)  # of 16 x 16 cells, rows 4 to 11, columns 2 to 13
    down = layer[0] > 8
    inside = interpolate(maps, (8, 12), mode="bilinear", align_corners=False, antialias=down)
    brought = to_common_grid(maps, torch.tensor([frame]), (16, 16))
    torch.testing.assert_close(brought[:, :, 4:12, 2:14], inside, atol=1e-5, rtol=0)
    seen = seen_cells(torch.tensor([frame]), (16, 16))[0]
    assert seen.sum() == 8 * 12
    assert seen[4:12, 2:14].all()


def test_padding_is_interpolated_and_cut_off():
    maps = random_maps(1, 2, 6, 5)
    frame = Frame(-0.5, 0.0, 1.5, 1.0)
    padded = interpolate(maps, (32, 10), mode="bilinear", align_corners=False)
    brought = to_common_grid(maps, torch.tensor([frame]), (16, 10))
    torch.testing.assert_close(brought, padded[:, :, 8:24], atol=1e-5, rtol=0)


def test_outside_of_the_frame_the_nearest_values_are_repeated():
    maps = random_maps(1, 1, 4, 4)
    brought = to_common_grid(maps, torch.tensor([[0.5, 0.5, 1.0, 1.0]]), (16, 16))[0, 0]
    torch.testing.assert_close(brought[:8, :8], maps[0, 0, 0, 0].expand(8, 8))
    torch.testing.assert_close(brought[:8, 8:], brought[8, 8:].expand(8, 8), atol=1e-6, rtol=0)


def test_images_with_frames_of_their_own_are_as_each_would_be_alone():
    maps = random_maps(len(FRAMES), 2, 5, 6)
    together = to_common_grid(maps, torch.tensor(FRAMES), (9, 12))
    for image, frame, alone in zip(maps, FRAMES, together, strict=True):
        one = to_common_grid(image[None], torch.tensor([frame]), (9, 12))
        torch.testing.assert_close(one[0], alone, atol=1e-5, rtol=0)


@few
@given(sizes, sizes, frames())
def test_interpolation_stays_within_the_values_of_the_map(layer, grid, frame):
    maps = random_maps(1, 2, *layer)
    brought = to_common_grid(maps, torch.tensor([frame]), grid)
    assert brought.min() >= maps.min() - 1e-5
    assert brought.max() <= maps.max() + 1e-5
    flat = to_common_grid(torch.full_like(maps, 3.0), torch.tensor([frame]), grid)
    torch.testing.assert_close(flat, torch.full_like(flat, 3.0))


def some_pixels(images, grid, count=60):
    g = torch.Generator().manual_seed(1)
    return [torch.randint(most, (count,), generator=g) for most in (images, *grid)]


@few
@given(sizes, sizes, st.lists(frames(), min_size=1, max_size=4))
def test_some_pixels_of_all_channels_are_those_of_the_whole_map(layer, grid, own):
    maps, places = random_maps(len(own), 3, *layer), some_pixels(len(own), grid)
    image, row, column = places
    whole = to_common_grid(maps, torch.tensor(own), grid)
    found = neighbours(layer, torch.tensor(own), grid, *places).interpolate(maps)
    torch.testing.assert_close(found, whole[image, :, row, column], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layer", "grid"), LAYERS_AND_GRIDS)
def test_concepts_are_the_same_before_and_after_interpolation(layer, grid):
    maps, places = random_maps(len(FRAMES), 5, *layer), some_pixels(len(FRAMES), grid)
    image, row, column = places
    vector, bias = torch.randn(5, generator=torch.Generator().manual_seed(2)), 0.7
    logits = torch.einsum("c,ichw->ihw", vector, maps)[:, None] + bias
    whole = to_common_grid(logits, torch.tensor(FRAMES), grid)[:, 0]
    found = neighbours(layer, torch.tensor(FRAMES), grid, *places).interpolate(maps) @ vector + bias
    torch.testing.assert_close(found, whole[image, row, column], atol=1e-4, rtol=0)


def test_pixels_of_bfloat16_maps_and_none_at_all():
    maps, frame = random_maps(1, 3, 4, 4).bfloat16(), torch.tensor([WHOLE])
    places = some_pixels(1, (9, 9))
    found = neighbours((4, 4), frame, (9, 9), *places).interpolate(maps)
    torch.testing.assert_close(
        found, neighbours((4, 4), frame, (9, 9), *places).interpolate(maps.float())
    )
    none = [place[:0] for place in places]
    assert neighbours((4, 4), frame, (9, 9), *none).interpolate(maps).shape == (0, 3)
