"""The report in a real browser, opened from a file without a network."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from playwright.sync_api import sync_playwright

from cavalcade import Analysis, compare, load_comparison
from cavalcade.comparing.comparable import latest_runs
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import Labels
from cavalcade.names import names_of_runs
from tiny import PlantedSquares, Squares, shuffled_model, tiny_backbone, tiny_data, tiny_visit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
MARKUP = "<i onclick='x'>green</i>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class MarkedSquares(Squares):
    concepts = ("red", MARKUP, "never")

    def labels(self, index):
        masks, labelled = super().labels(index)
        nothing = torch.zeros_like(masks[:1])
        return Labels(torch.cat([masks, nothing]), torch.cat([labelled, ~nothing]))


@dataclass(kw_only=True)
class Marked(PlantedSquares):
    """Squares with a concept whose name is markup, and one that no image shows."""

    def open(self, split):
        return MarkedSquares(self.size, self.counts[split], ["train", "val", "test"].index(split))


def written(root, method, data, **options):
    """The folder of a comparison of a network, its twin with shuffled channels, and strangers."""
    for label, network in (
        ("original", {}),
        ("shuffled", {"model": shuffled_model()}),
        ("stranger", {"seed": 5}),
        ("random-1", {"seed": 11, "random": True}),
    ):
        backbone = tiny_backbone(label=label, **network)
        tiny_visit(root / "runs", backbone, data=tiny_data(backbone, data), method=method)
    runs = latest_runs(root / "runs")
    analysis = Analysis(compare(runs, against=["cka"], repairings=6))
    names = names_of_runs(runs, analysis.comparison.networks)
    write_comparison(analysis, runs, root / "c", tables_of(analysis, names), pictures=0, **options)
    return root / "c"


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    return written(tmp_path_factory.mktemp("probed"), Probes(), Marked(grid=(16, 16)))


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    method = Factorisation(num_concepts=4, rows=3000, restarts=0)
    return written(tmp_path_factory.mktemp("mined"), method, PlantedSquares(grid=(16, 16)))


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # which root needs
        )
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a report; what its console says is an error."""
    said, contexts = [], []

    def open_(folder, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((folder / "report" / "index.html").as_uri())
        page.wait_for_selector("html[data-state=ready]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def shown(page, what="z"):
    """The cells of the matrix on the page."""
    return page.evaluate(f"document.getElementById('matrix').data[0].{what}")


def settled(page, measure):
    page.click(f"[data-measure={measure}]")
    page.wait_for_selector(f"[data-measure={measure}][aria-pressed=true]")
    page.wait_for_timeout(300)


def place_in(page, plot, right, down):
    """A place on the screen, as shares of the width and height of a plot."""
    area = page.locator(f"{plot} .nsewdrag").first
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = area.bounding_box()
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def as_array(cells):
    return np.array([[np.nan if value is None else value for value in row] for row in cells])


def test_the_matrix_of_every_measure_is_that_of_the_table(probed, opened):
    page, loaded = opened(probed), load_comparison(probed)
    for a, b in (("original", "shuffled"), ("shuffled", "original"), ("stranger", "stranger")):
        page.select_option("#pair-a", label=a)
        page.select_option("#pair-b", label=b)
        page.wait_for_timeout(500)
        for measure in ("jaccard", "label_conditional", "adjusted", "cka"):
            if a == b and measure == "cka":  # which is made between different networks alone
                assert page.query_selector(f"[data-measure={measure}]") is None
                continue
            settled(page, measure)
            expected = loaded.matrix(a, b, measure).to_numpy()
            np.testing.assert_allclose(as_array(shown(page)), expected, atol=1e-6)


def test_what_a_cell_says_is_in_the_table(probed, opened):
    page, loaded = opened(probed), load_comparison(probed)
    table = loaded.layer_similarity
    row = table[
        (table["network_a"] == "original")
        & (table["network_b"] == "shuffled")
        & (table["measure"] == "adjusted")
        & (table["layer_a"] == "4")
        & (table["layer_b"] == "6")
    ].iloc[0]
    page.select_option("#pair-a", label="original")
    page.select_option("#pair-b", label="shuffled")
    page.wait_for_timeout(500)
    page.mouse.move(*place_in(page, "#matrix", 5 / 6, 1 / 2))
    page.wait_for_selector("#matrix .hovertext")
    said = page.locator("#matrix .hovertext").text_content()
    assert "4  0." in said
    assert f"Adjusted Jaccard index: {row['value']:.3f} ± {row['stderr']:.3f}" in said
    assert "raw: " in said
    if np.isfinite(row["share_of_ceiling"]):
        assert f"share of ceiling: {row['share_of_ceiling']:.2f}" in said


def test_a_click_shows_concepts_of_both_layers_on_the_same_images(probed, opened):
    page = opened(probed)
    page.select_option("#pair-a", label="original")
    page.select_option("#pair-b", label="stranger")
    page.wait_for_timeout(500)
    page.mouse.click(*place_in(page, "#matrix", 1 / 6, 5 / 6))
    page.wait_for_function(
        "document.getElementById('reading').textContent.startsWith('Chosen: 6 of')"
    )
    assert page.locator("#reading").text_content().startswith("Chosen: 6 of original and 2 of stra")
    page.wait_for_timeout(1000)
    names = page.locator("#matches .name b").all_text_contents()
    assert set(names) == {"red", MARKUP, "never"}
    tiles = page.locator("#matches .row:nth-child(2) canvas")
    assert tiles.count() == 8
    titles = [tile.get_attribute("title") for tile in tiles.all()]
    assert titles[:4] == titles[4:]
    colours = page.evaluate(
        "[...document.querySelectorAll('#matches .row:nth-child(2) canvas')].map((canvas) => "
        "new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data).size)"
    )
    assert min(colours) > 5


def test_trained_networks_are_shown_first(probed, opened):
    page = opened(probed)
    chosen = [
        page.locator(f"{one} option:checked").text_content() for one in ("#pair-a", "#pair-b")
    ]
    assert chosen == ["original", "shuffled"]


def test_names_are_text_and_never_markup(probed, opened):
    page = opened(probed)
    assert page.locator("main i").count() == 0
    assert page.locator("#multiples b").all_text_contents().count(MARKUP) == 1


def test_the_keyboard_moves_the_chosen_cell(probed, opened):
    page = opened(probed)
    page.focus("#matrix")
    for key in ["ArrowUp"] * 3 + ["ArrowLeft"] * 3 + ["ArrowDown", "ArrowRight"]:
        page.keyboard.press(key)
        page.wait_for_timeout(100)
    assert page.locator("#reading").text_content().startswith("Chosen: 4 of")
    assert " and 4 of " in page.locator("#reading").text_content()


def test_a_pair_is_chosen_in_the_matrix_of_networks(probed, opened):
    page = opened(probed)
    order = page.evaluate("document.getElementById('networks-plot').data[0].y")
    assert len(order) == 4
    page.mouse.click(*place_in(page, "#networks-plot", 3 / 8, 7 / 8))
    page.wait_for_timeout(700)
    chosen = [
        page.locator(f"{one} option:checked").text_content() for one in ("#pair-a", "#pair-b")
    ]
    assert chosen == [order[3], order[1]]


def test_concepts_that_were_mined_are_shown_with_their_partners(mined, opened):
    page = opened(mined, color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.select_option("#pair-a", label="shuffled")
    page.select_option("#pair-b", label="original")
    page.wait_for_timeout(500)
    matches = load_comparison(mined).tables["concept_matches"]
    page.wait_for_selector("#matches .row")
    assert page.locator("#matches .row").count() == 5
    layer = page.locator("#reading").text_content().split(" of ")[0].removeprefix("Chosen: ")
    own = matches[
        (matches["network_a"] == "original")
        & (matches["network_b"] == "shuffled")
        & (matches["layer_b"] == layer)
    ]
    if len(own):
        best = own.sort_values("adjusted", ascending=False).iloc[0]
        said = page.locator("#matches .row:nth-child(2)").text_content()
        assert f"{best['adjusted']:.3f}" in said
    page.select_option("#one", label="stranger")
    page.wait_for_timeout(500)
    assert page.locator("#gallery .row").count() == 4
    assert "in all images" in page.locator("#gallery .row").first.text_content()


def test_without_thumbnails_it_says_so(tmp_path, opened):
    data = PlantedSquares(grid=(16, 16), thumbnails=None)
    page = opened(written(tmp_path, Probes(), data))
    assert "keeps no thumbnails" in page.locator("#matches").text_content()
    assert not list((tmp_path / "c" / "report" / "parts").glob("masks-*"))


def test_it_can_be_left_out(tmp_path):
    assert not (
        written(tmp_path, Probes(), PlantedSquares(grid=(16, 16)), report=False) / "report"
    ).exists()
