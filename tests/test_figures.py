"""Figures for papers: sizes, labels, fonts, and nothing that overlaps or is cut off."""

import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

import paper_figures
from cavalcade.report.figures import save


@pytest.fixture(scope="module", params=paper_figures.ALL)
def figure(request):
    return paper_figures.drawn(request.param)


def test_a_figure_is_as_wide_as_a_column_and_no_higher_than_a_page(figure):
    width, height = figure.get_size_inches()
    assert round(25.4 * width) in (85, 178)  # millimetres
    assert 25 < 25.4 * height <= 240


def test_every_axis_says_what_it_is(figure):
    """Colour bars too; axes without numbers share those of one beside or below."""
    named = 0
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if paper_figures.tick_labels(axis):
                assert axis.get_label_text(), axes
                named += 1
    assert named >= 2


def test_no_text_is_smaller_than_five_points(figure):
    assert min(text.get_fontsize() for text in paper_figures.texts(figure)) >= 5


def test_nothing_is_cut_off_at_the_edge_of_the_page(figure):
    boxes = paper_figures.boxes(paper_figures.texts(figure))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= figure.bbox.size).all()


def test_no_two_texts_overlap(figure):
    found = paper_figures.texts(figure)
    boxes = paper_figures.boxes(found)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (low + 0.5 < high).all(axis=2)  # half a pixel is rounding
    np.fill_diagonal(overlap, False)
    pairs = [(found[i].get_text(), found[j].get_text()) for i, j in np.argwhere(overlap)]
    assert not pairs


@pytest.mark.parametrize(("count", "rows", "columns"), [(12, 12, 12), (24, 24, 24), (60, 20, 20)])
def test_as_many_layers_are_named_as_there_is_room_for(count, rows, columns):
    figure = paper_figures.matrices(count, count)
    first, second, _ = figure.axes
    assert [text.get_text() for text in second.get_xticklabels()] == [
        text.get_text() for text in first.get_xticklabels()
    ]
    assert len(first.get_xticklabels()) >= columns
    assert len(first.get_yticklabels()) >= rows
    assert all(re.search(r"  0\.\d\d$", t.get_text()) for t in first.get_yticklabels())
    step = -(-count // len(first.get_yticklabels()))
    assert ("is named" in first.get_ylabel()) == (step > 1)


@pytest.mark.parametrize("name", ["matrices-12x12", "networks-2", "flow-5", "depth-60"])
def test_files_have_the_size_of_the_page_and_embed_their_fonts(tmp_path, name):
    figure = paper_figures.drawn(name)
    save(figure, tmp_path / "lite0.5__lite2")
    width, height = figure.get_size_inches()
    content = (tmp_path / "lite0.5__lite2.pdf").read_bytes()
    assert len(content) < 100_000
    (box,) = re.findall(rb"/MediaBox \[ ?([\d. ]+?) ?\]", content)
    assert [float(x) for x in box.split()] == pytest.approx([0, 0, 72 * width, 72 * height])
    assert b"/FontFile2" in content  # TrueType, as it is
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    with Image.open(tmp_path / "lite0.5__lite2.png") as image:
        assert image.size == (round(300 * width), round(300 * height))
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_the_same_numbers_give_the_same_files(tmp_path):
    for name in ("a", "b"):
        save(paper_figures.drawn("networks-12"), tmp_path / name)
    for kind in ("pdf", "png"):
        a, b = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
        assert a == b


def test_a_user_s_own_settings_stay_and_change_nothing(tmp_path):
    save(paper_figures.drawn("flow-1"), tmp_path / "a")
    own = {"font.size": 20.0, "axes.facecolor": "black", "pdf.fonttype": 3, "text.color": "white"}
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        save(paper_figures.drawn("flow-1"), tmp_path / "b")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_a_name_is_no_mathematics(tmp_path):
    figure = paper_figures.matrices(2, 2, name="$x^{}$ and $\\frac{}$")
    assert not any(text.get_parse_math() for text in paper_figures.texts(figure))
    save(figure, tmp_path / "a")


def test_both_networks_of_a_curve_differ_without_colour():
    where, how = paper_figures.drawn("depth-3").axes
    for axis in (where, how):
        lines = {
            line.get_label() or str(k): (line.get_linestyle(), line.get_marker())
            for k, line in enumerate(container.lines[0] for container in axis.containers)
        }
        assert len(axis.containers) == 2
        assert len(set(lines.values())) == len(lines)


def test_random_networks_are_red_and_the_diagonal_is_plain():
    figure = paper_figures.network_matrix(90)  # so many that not all are named
    axis = next(axis for axis in figure.axes if axis.images)
    labels = [*axis.get_xticklabels(), *axis.get_yticklabels()]
    assert len(labels) < 180
    for label in labels:
        assert (label.get_fontstyle() == "italic") == label.get_text().endswith("random")
    places = {patch.get_xy() for patch in axis.patches if not patch.get_hatch()}
    assert places == {(k - 0.5, k - 0.5) for k in range(90)}
