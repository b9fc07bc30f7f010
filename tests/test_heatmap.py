import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cavalcade.report.heatmap import draw_matrices


def picture(tmp_path, values, name="a.png"):
    n = len(values)
    frame = pd.DataFrame(values, index=[f"layer{i}" for i in range(n)])
    panels = [("raw", frame), ("adjusted", frame / 2)]
    draw_matrices(panels, tmp_path / name, title="t", rows="r", columns="c")
    with Image.open(tmp_path / name) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_sixty_layers_get_room_for_their_names(tmp_path):
    pixels = picture(tmp_path, np.eye(60))
    assert pixels.shape[0] / 60 > 20  # pixels per row
    assert pixels.shape[1] > 2 * 60 * 20


@pytest.mark.parametrize("size", [1, 5, 13])
def test_any_size_is_drawn(tmp_path, size):
    assert picture(tmp_path, np.eye(size)).std() > 0


def test_undefined_cells_look_like_no_value(tmp_path):
    values = np.zeros((3, 3))
    dark = picture(tmp_path, values, "zero.png")
    values[:] = np.nan
    hatched = picture(tmp_path, values, "nan.png")
    purple = [68, 1, 84]  # the lowest colour of viridis
    assert (dark == purple).all(axis=2).mean() > 0.2
    # all that is left of it is the end of the colour bars
    assert (hatched == purple).all(axis=2).mean() < 0.01


def test_panels_share_one_scale(tmp_path):
    pixels = picture(tmp_path, np.full((3, 3), 0.9))
    half = pixels.shape[1] // 2
    left, right = pixels[:, :half], pixels[:, half:]
    assert tuple(np.median(left[left.sum(2) < 600], axis=0)) != tuple(
        np.median(right[right.sum(2) < 600], axis=0)
    )
