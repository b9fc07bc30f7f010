"""Small pictures of test images: whole, small, and off for private data."""

import pytest
import torch

from cavalcade.data.sample import LARGEST_THUMBNAIL
from cavalcade.errors import InputError
from cavalcade.thumbnails import Thumbnails, thumbnail
from cavalcade.truth import Truth
from tiny import tiny_backbone, tiny_data, tiny_faces, tiny_visit


def picture(height=60, width=90):
    ramp = torch.linspace(0, 255, width).byte()
    return ramp.expand(3, height, width).contiguous()


def test_the_longer_side_is_as_asked_and_the_shape_is_kept(tmp_path):
    Thumbnails((thumbnail(picture(), 30), thumbnail(picture(90, 60), 30))).save(
        tmp_path / "t.safetensors"
    )
    loaded = Thumbnails.load(tmp_path / "t.safetensors")
    assert [tuple(loaded[k].shape) for k in range(len(loaded))] == [(3, 20, 30), (3, 30, 20)]
    expected = torch.linspace(0, 255, 30)
    assert (loaded[0].float().mean(dim=(0, 1)) - expected).abs().max() < 12


def test_small_images_are_not_enlarged():
    small = Thumbnails((thumbnail(picture(10, 14), 192),))
    assert small[0].shape == (3, 10, 14)


def test_they_are_kept_beside_the_truth_and_can_be_left_out(tmp_path):
    path = tiny_visit(tmp_path)
    truth = Truth.load(path.parents[1] / "truth")
    assert (truth.thumbnail_size, len(truth.thumbnails)) == (192, 8)
    backbone = tiny_backbone(seed=3)
    private = tiny_faces()
    private.thumbnails = None
    other = tiny_visit(tmp_path, backbone, data=tiny_data(backbone, private))
    assert other.parents[1] == path.parents[1]
    truth = Truth.load(path.parents[1] / "truth")  # of the same images, without pictures now
    assert (truth.thumbnail_size, len(truth.thumbnails)) == (None, 0)
    assert not list((path.parents[1] / "truth").glob("thumb*"))


def test_a_size_that_is_none_is_refused():
    faces = tiny_faces()
    faces.thumbnails = 3
    with pytest.raises(
        InputError, match=r"data.thumbnails \(null for none\) is 3; give a whole number from 16 up"
    ):
        faces.__post_init__()


def test_the_largest_that_are_written_can_be_read(tmp_path):
    faces = tiny_faces()
    faces.thumbnails = LARGEST_THUMBNAIL
    faces.__post_init__()
    wide = picture(height=2, width=LARGEST_THUMBNAIL + 100)
    Thumbnails((thumbnail(wide, LARGEST_THUMBNAIL),)).save(tmp_path / "t.safetensors")
    assert Thumbnails.load(tmp_path / "t.safetensors")[0].shape[2] == LARGEST_THUMBNAIL
    faces.thumbnails = LARGEST_THUMBNAIL + 1
    with pytest.raises(
        InputError, match=r"data.thumbnails \(null for none\) is 8193; give at most 8192"
    ):
        faces.__post_init__()
    Thumbnails((thumbnail(wide, LARGEST_THUMBNAIL + 1),)).save(tmp_path / "t.safetensors")
    with pytest.raises(
        InputError, match=r"t.safetensors: picture 0 .*\(8193 x 2 pixels are no thu"
    ):
        Thumbnails.load(tmp_path / "t.safetensors")


def test_a_damaged_picture_is_named_with_its_file(tmp_path):
    content = thumbnail(picture(), 30)
    Thumbnails((content, content[:-60].clone())).save(tmp_path / "t.safetensors")
    loaded = Thumbnails.load(tmp_path / "t.safetensors")  # of which the headers are read alone
    with pytest.raises(InputError, match=f"^{tmp_path}/t.safetensors: picture 1 cannot be read"):
        loaded[1]
