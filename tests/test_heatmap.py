import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cavalcade.report.figures import DPI, ONE_COLUMN, TWO_COLUMNS, save
from cavalcade.report.heatmap import draw_matrices


def drawn(values, factors=(1.0, 0.5)):
    n = len(values)
    frame = pd.DataFrame(values, index=[f"layer{i}" for i in range(n)])
    panels = [(f"{factor}", factor * frame) for factor in factors]
    return draw_matrices(panels, title="t", rows="r", columns="c", scale="s")


def picture(tmp_path, values, name="a", **options):
    save(drawn(values, **options), tmp_path / name, kinds=["png"])
    with Image.open(tmp_path / f"{name}.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_sixty_layers_fill_two_columns(tmp_path):
    pixels = picture(tmp_path, np.eye(60))
    assert pixels.shape[1] == TWO_COLUMNS * DPI
    left, _, _ = drawn(np.eye(60)).axes
    box = left.get_window_extent()
    assert box.width / 60 == pytest.approx(box.height / 60, rel=0.01)  # squares
    assert box.width / 60 > 0.04 * DPI


def test_a_single_matrix_of_few_columns_fills_one(tmp_path):
    assert picture(tmp_path, np.eye(5), factors=[1.0]).shape[1] == round(ONE_COLUMN * DPI)
    assert picture(tmp_path, np.eye(40), factors=[1.0]).shape[1] == TWO_COLUMNS * DPI


@pytest.mark.parametrize("size", [1, 5, 13])
def test_any_size_is_drawn(tmp_path, size):
    assert picture(tmp_path, np.eye(size)).std() > 0


@pytest.mark.parametrize(("size", "written"), [(5, 25), (12, 144), (24, 0)])
def test_values_are_written_where_there_is_room(size, written):
    left, _, _ = drawn(np.full((size, size), 0.126)).axes
    assert [text.get_text() for text in left.texts] == ["0.13"] * written


def test_a_value_that_rounds_to_nothing_has_no_sign():
    left, _, _ = drawn(np.full((2, 2), -0.001)).axes
    assert {text.get_text() for text in left.texts} == {"0.00"}


def test_undefined_cells_look_like_no_value(tmp_path):
    values = np.zeros((3, 3))
    dark = picture(tmp_path, values, "zero")
    values[:] = np.nan
    hatched = picture(tmp_path, values, "nan")
    purple = [68, 1, 84]  # the lowest colour of viridis
    assert (dark == purple).all(axis=2).mean() > 0.2
    # all that is left of it is the end of the colour bar
    assert (hatched == purple).all(axis=2).mean() < 0.01


def test_panels_share_one_scale(tmp_path):
    pixels = picture(tmp_path, np.full((3, 3), 0.9))
    half = pixels.shape[1] // 2
    left, right = pixels[:, :half], pixels[:, half:]
    assert tuple(np.median(left[left.sum(2) < 600], axis=0)) != tuple(
        np.median(right[right.sum(2) < 600], axis=0)
    )


@pytest.mark.parametrize(
    ("lowest", "extend"), [(0.1, "neither"), (-0.1, "min"), (np.nan, "neither")]
)
def test_the_bar_is_pointed_where_values_lie_below_it(lowest, extend):
    *_, bar = drawn(np.array([[0.5, lowest], [0.2, 0.3]])).axes
    assert bar._colorbar.extend == extend
