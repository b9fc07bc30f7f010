"""What index maps mean, and that what they should not hold is named."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cavalcade.data.files import ImageFile
from cavalcade.data.index_maps import IndexMapSplit, Legend, image_shape, read_index_map
from cavalcade.data.links import Links
from cavalcade.errors import InputError

LEGEND = Legend(
    concepts={"tree": (4, 9), "car": (2,)},
    void=(255,),
    background=(0,),
    otherwise="which is none of ours",
)
VALUES = np.array([[4, 9, 2], [0, 255, 2]], np.uint8)
SOURCE = Path("map.png")


def tabled(labels):
    return labels.masks.int().tolist(), labels.labelled.int().tolist()


def test_several_values_can_be_one_concept():
    masks, labelled = tabled(LEGEND.labels(VALUES, SOURCE))
    assert masks == [[[1, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1]]]
    assert labelled == 2 * [[[1, 1, 1], [1, 0, 1]]]


def test_one_map_says_for_all_concepts_where_the_truth_is_known():
    assert LEGEND.labels(VALUES, SOURCE).labelled.stride(0) == 0


def test_concepts_that_are_not_chosen_are_background():
    few = LEGEND.only(["car"])
    masks, labelled = tabled(few.labels(VALUES, SOURCE))
    assert masks == [[[0, 0, 1], [0, 0, 1]]]
    assert labelled == [[[1, 1, 1], [1, 0, 1]]]


@pytest.mark.parametrize("other", [1, 3, 254])
@pytest.mark.parametrize("legend", [LEGEND, LEGEND.only(["car"])])
def test_a_value_that_is_not_in_the_legend_is_named(legend, other):
    with pytest.raises(InputError, match=f"map.png holds the index {other}, which is none of ours"):
        legend.labels(np.where(VALUES == 2, np.uint8(other), VALUES), SOURCE)


@pytest.mark.parametrize("other", [-1, -5, -(2**31)])
def test_a_negative_value_is_in_no_legend(other):
    """Some formats hold them; 0, to which they are next, is a class."""
    values = np.where(VALUES == 2, np.int32(other), VALUES.astype(np.int32))
    with pytest.raises(InputError, match=f"map.png holds the index {other}, which is none of ours"):
        LEGEND.labels(values, SOURCE)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_values_may_have_more_than_8_bits(dtype):
    far = VALUES.astype(dtype)
    far[0, 0] = 257  # where a table of 257 values would begin anew
    with pytest.raises(InputError, match="holds the index 257"):
        LEGEND.labels(far, SOURCE)
    legend = replace(LEGEND, concepts={"tree": (257,), "car": (2,), "moss": (4, 9)})
    assert legend.labels(far, SOURCE).masks[0].int().tolist() == [[1, 0, 0], [0, 0, 0]]


def test_there_may_be_more_concepts_than_a_byte_counts():
    legend = replace(LEGEND, concepts={str(k): (k,) for k in range(300)}, void=(), background=())
    values = np.array([[0, 255, 256, 299]], np.uint16)
    assert legend.labels(values, SOURCE).masks.nonzero()[:, 0].tolist() == [0, 255, 256, 299]


def test_a_value_that_cannot_occur_is_none():
    legend = replace(LEGEND, void=(255, -1))
    assert tabled(legend.labels(VALUES, SOURCE)) == tabled(LEGEND.labels(VALUES, SOURCE))


def test_void_goes_before_a_concept():
    labels = replace(LEGEND, void=(255, 2)).labels(VALUES, SOURCE)
    assert not labels.masks[1].any()
    assert torch.equal(labels.labelled[0], torch.from_numpy((VALUES != 2) & (VALUES != 255)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_values_are_those_of_the_file(tmp_path, mode):
    values = np.array([[0, 1, 1], [1, 0, 0]])
    kind = {"1": bool, "I;16": np.uint16}.get(mode, np.uint8)
    picture = Image.fromarray(values.astype(kind))
    if mode == "P":
        picture.putpalette([200, 10, 30] * 256)
    picture.save(tmp_path / "map.png")
    assert np.array_equal(read_index_map(tmp_path / "map.png"), values)


# A split


@pytest.fixture
def split(tmp_path):
    """One image and its index map, both there."""
    image, index_map = tmp_path / "a.png", tmp_path / "map.png"
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(image)
    Image.fromarray(VALUES).save(index_map)
    links = Links(tmp_path, follow=False)
    return IndexMapSplit([ImageFile(image, "a.png", "a")], {image: index_map}, LEGEND, links)


def test_a_split_reads_nothing_before_it_is_asked(split):
    split.images[0].unlink()
    split.index_maps[0].unlink()
    again = IndexMapSplit(
        [ImageFile(split.images[0], "a.png", "a")],
        {split.images[0]: split.index_maps[0]},
        LEGEND,
        split.links,
    )
    assert (again.ids, again.concepts) == (("a",), ("tree", "car"))


def test_labels_are_those_of_the_index_map(split):
    assert tabled(split.labels(0)) == tabled(LEGEND.labels(VALUES, SOURCE))
    assert split[0].image.shape == (3, 2, 3)


def test_the_size_of_an_image_is_read_from_its_header(split):
    """Half of its pixels are missing."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    Image.fromarray(noise).save(split.images[0])
    whole = split.images[0].read_bytes()
    split.images[0].write_bytes(whole[:45])
    assert image_shape(split.images[0]) == (2, 3)
    assert split.labels(0).masks.shape == (2, 2, 3)
    with pytest.raises(InputError, match=r"a.png cannot be read as an image"):
        split.image(0)


def missing(split):
    split.index_maps[0].unlink()


def in_colours(split):
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(split.index_maps[0])


def turned(split):
    Image.fromarray(VALUES.T.copy()).save(split.index_maps[0])


def damaged(split):
    split.index_maps[0].write_bytes(b"not a picture")


def without_image(split):
    split.images[0].write_bytes(b"not a picture")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "image {image} has no mask; put one at {map}"),
        (in_colours, "{map} has 3 channels; a mask has one, with indices"),
        (turned, "{map} is 2x3 pixels but its image {image} is 3x2 pixels; give the mask"),
        (damaged, "{map} cannot be read as an image"),
        (without_image, "{image} cannot be read as an image"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(split, spoil, message):
    spoil(split)
    expected = message.format(image=split.images[0], map=split.index_maps[0])
    with pytest.raises(InputError, match=re.escape(expected)):
        split.labels(0)
