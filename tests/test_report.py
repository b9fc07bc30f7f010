"""The report in a real browser, opened from a file without a network."""

import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from browsing import CHROMIUM, COLOURS, Visitor, choose_measure, place_in, until, wait_for
from cavalcade import Analysis, compare, load_comparison
from cavalcade.comparing.comparable import latest_runs
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.report_answers import partners
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import Labels
from cavalcade.names import names_of_runs
from cavalcade.report.page import Page
from cavalcade.similarity import ConceptCells
from tiny import PlantedSquares, Squares, shuffled_model, tiny_backbone, tiny_data, tiny_visit

MARKUP = "<i onclick='x'>green</i> costs $x_y$, &amp; is a concept with a long $n_a$"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class MarkedSquares(Squares):
    concepts = ("1", MARKUP, "10")

    def labels(self, index):
        masks, labelled = super().labels(index)
        nothing = torch.zeros_like(masks[:1])
        return Labels(torch.cat([masks, nothing]), torch.cat([labelled, ~nothing]))


@dataclass(kw_only=True)
class Marked(PlantedSquares):
    """Squares with a concept whose name is markup, and one that no image shows."""

    def open(self, split):
        return MarkedSquares(self.size, self.counts[split], ["train", "val", "test"].index(split))


NETWORKS = {
    "original": {},
    "shuffled": {"model": shuffled_model()},
    "stranger": {"seed": 5},
    "random-1": {"seed": 11, "random": True},
}


def written(root, method, data, labels=tuple(NETWORKS)):
    """The folder of a comparison of a network, its twin with shuffled channels, and strangers."""
    for label in labels:
        backbone = tiny_backbone(label=label, **NETWORKS[label])
        tiny_visit(root / "runs", backbone, data=tiny_data(backbone, data), method=method)
    runs = latest_runs(root / "runs")
    analysis = Analysis(compare(runs, against=["cka"], repairings=6))
    names = names_of_runs(runs, analysis.comparison.networks)
    tables = tables_of(analysis, names)
    write_comparison(analysis, runs, root / "c", tables, pictures=0)
    write_comparison(analysis, runs, root / "without", tables, pictures=0, report=False)
    return root / "c"


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    return written(tmp_path_factory.mktemp("probed"), Probes(), Marked(grid=(16, 16)))


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    method = Factorisation(num_concepts=4, rows=3000, restarts=0)
    return written(tmp_path_factory.mktemp("mined"), method, PlantedSquares(grid=(16, 16)))


@pytest.fixture(scope="module")
def probed_page(browser, probed):
    """One page for all tests of it, each of which chooses what it looks at."""
    visitor = Visitor(browser)
    yield visitor.open(probed)
    visitor.close()


def shown(page, what="z"):
    """The cells of the matrix on the page."""
    return page.evaluate(f"document.getElementById('matrix').data[0].{what}")


def choose_pair(page, a, b):
    """Choose two networks as a person does, and wait until all of them is shown."""
    names = page.locator("#pair-a option").all_text_contents()
    page.select_option("#pair-a", label=a)
    page.select_option("#pair-b", label=b)
    wait_for(page, "matrix", f"{names.index(a)}-{names.index(b)}-")
    wait_for(page, "matches", f"{names.index(a)}-")


def place_of(page, a, row, b, column):
    """Two layers, as the page knows them."""
    names = page.locator("#pair-a option").all_text_contents()
    return f"{names.index(a)}-{row}-{names.index(b)}-{column}"


def as_array(cells):
    return np.array([[np.nan if value is None else value for value in row] for row in cells])


def ticks(page, plot, axis):
    """What is written along an axis."""
    page.wait_for_selector(f"#{plot} .{axis}tick text")
    return [text for text in page.locator(f"#{plot} .{axis}tick text").all_text_contents() if text]


def pointed_at(page, plot, right, down, start):
    """Wait until a plot says at a place what begins like that; what is above may still move it."""
    for _ in range(50):
        x, y = place_in(page, plot, right, down)
        page.mouse.move(x - 9, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(100)
        said = page.locator(f"{plot} .hovertext").all_text_contents()
        if said and said[0].startswith(start):
            return
    raise AssertionError(f"{plot} says {said}")


def problem(page):
    """What the page says is wrong, once it does."""
    until(page, "document.getElementById('problem')?.textContent.includes('missing')")
    return page.locator("#problem").text_content()


def chosen_pair(page):
    return [page.locator(f"{one} option:checked").text_content() for one in ("#pair-a", "#pair-b")]


def cell_of(loaded, measure, a, layer_a, b, layer_b):
    """The row of `layer_similarity.csv`."""
    names = {"network_a": a, "network_b": b, "layer_a": layer_a, "layer_b": layer_b}
    table = loaded.layer_similarity
    (row,) = table[
        np.logical_and.reduce([table[key].astype(str) == name for key, name in names.items()])
        & (table["measure"] == measure)
    ].itertuples()
    return row


def test_trained_networks_are_shown_first_at_the_layers_that_are_most_alike(probed, opened):
    page, loaded = opened(probed), load_comparison(probed)
    assert chosen_pair(page) == ["original", "shuffled"]
    cells = loaded.matrix("original", "shuffled")
    row, column = np.unravel_index(np.nanargmax(cells), cells.shape)
    said = f"Chosen: {cells.index[row]} of original and {cells.columns[column]} of shuffled."
    assert page.locator("#reading").text_content().startswith(said)
    best = cell_of(
        loaded, "adjusted", "original", cells.index[row], "shuffled", cells.columns[column]
    )
    answer = page.locator("#answers tr").first.text_content()
    assert f"{best.value:.3f} ± {best.stderr:.3f}" in answer
    pairs = loaded.pairs.query("measure == 'adjusted' and statistic == 'similarity'")
    first = pairs[(pairs["network_a"] == "original") & (pairs["network_b"] == "shuffled")].iloc[0]
    assert f"{first['value']:.3f} ± {first['stderr']:.3f}" in answer


def test_the_concept_that_differs_most_is_that_of_the_table(probed, probed_page):
    cells = (
        load_comparison(probed)
        .tables["concept_similarity"]
        .query("network_a == 'original' and network_b == 'stranger' and measure == 'adjusted'")
    )
    matrix = load_comparison(probed).matrix("original", "stranger")
    at = [(str(i), str(matrix.loc[i].idxmax())) for i in matrix.index]
    at += [(str(matrix[j].idxmax()), str(j)) for j in matrix.columns]
    means = {}
    for concept, own in cells.groupby("concept"):
        values = own.set_index([own["layer_a"].astype(str), own["layer_b"].astype(str)])["value"]
        means[concept] = np.mean([values.loc[place] for place in at])
    least = min((value, name) for name, value in means.items() if np.isfinite(value))
    choose_pair(probed_page, "original", "stranger")
    said = probed_page.locator("#pair-lead").text_content()
    assert f"differs most is {least[1]}: {least[0]:.2f}" in said


def test_the_matrix_of_every_measure_is_that_of_the_table(probed, probed_page):
    page, loaded = probed_page, load_comparison(probed)
    for a, b in (("original", "shuffled"), ("shuffled", "original"), ("stranger", "stranger")):
        choose_pair(page, a, b)
        for measure in ("jaccard", "label_conditional", "adjusted", "cka"):
            if a == b and measure == "cka":  # which is made between different networks alone
                assert page.query_selector(f"[data-measure={measure}]") is None
                continue
            choose_measure(page, measure)
            expected = loaded.matrix(a, b, measure).to_numpy()
            np.testing.assert_allclose(as_array(shown(page)), expected, atol=1e-6)
    choose_measure(page, "z")
    assert np.isfinite(as_array(shown(page))).any()


@pytest.mark.parametrize("measure", ["adjusted", "jaccard", "cka", "z"])
def test_what_a_cell_says_is_in_the_table_whatever_is_shown(probed, probed_page, measure):
    page, loaded = probed_page, load_comparison(probed)
    adjusted, raw = (
        cell_of(loaded, measure, "original", "4", "stranger", "6")
        for measure in ("adjusted", "jaccard")
    )
    turned = measure == "jaccard"  # rows and columns are changed over from how they are kept
    choose_pair(page, *(("stranger", "original") if turned else ("original", "stranger")))
    choose_measure(page, measure)
    right, down = (1 / 2, 5 / 6) if turned else (5 / 6, 1 / 2)
    page.mouse.move(*place_in(page, "#matrix", right - 0.05, down))
    page.mouse.move(*place_in(page, "#matrix", right, down))
    page.wait_for_selector("#matrix .hovertext")
    said = page.locator("#matrix .hovertext").text_content()
    assert "4 of original, depth 0.67" in said
    assert "6 of stranger, depth 1.00" in said
    assert f"djusted Jaccard index: {adjusted.value:.3f} ± {adjusted.stderr:.3f}" in said
    assert f"aw Jaccard index: {raw.value:.3f} ± {raw.stderr:.3f}, by chance " in said
    assert np.isfinite(adjusted.share_of_ceiling)
    assert f"hare of ceiling: {adjusted.share_of_ceiling:.2f}" in said
    if measure == "cka":
        cka = cell_of(loaded, "cka", "original", "4", "stranger", "6")
        assert f"{cka.value:.3f} ± {cka.stderr:.3f}" in said


def test_a_click_shows_concepts_of_both_layers_on_the_same_images(probed_page):
    page = probed_page
    choose_pair(page, "original", "stranger")
    page.mouse.move(*place_in(page, "#matrix", 1 / 6, 5 / 6))
    # Plotly takes a click for one on what it saw the pointer over last
    until(
        page,
        "document.querySelector('#matrix .hovertext')?.textContent.startsWith('6 of original')",
    )
    page.mouse.click(*place_in(page, "#matrix", 1 / 6, 5 / 6))
    wait_for(page, "matches", place_of(page, "original", 2, "stranger", 0))
    assert page.locator("#reading").text_content().startswith("Chosen: 6 of original and 2 of stra")
    assert set(page.locator("#matches .name b").all_text_contents()) == {"1", MARKUP, "10"}
    tiles = page.locator("#matches .row:nth-child(2) canvas")
    titles = [tile.get_attribute("title") for tile in tiles.all()]
    assert len(titles) == 8
    assert titles[:4] == titles[4:]
    page.keyboard.press("ArrowRight")  # which goes on from the images
    wait_for(page, "matches", place_of(page, "original", 2, "stranger", 1))
    assert min(page.evaluate(COLOURS, "#matches .row:nth-child(2) canvas")) > 5


def test_masks_are_outlined_where_they_are(probed_page):
    """The path around a mask holds the centres of its pixels, and no others."""
    inside = probed_page.evaluate("""() => {
      const rows = 7, columns = 9, bits = new Uint8Array(rows * columns);
      for (const [i, j] of [[0, 0], [0, 1], [1, 1], [3, 4], [4, 5], [6, 8], [5, 2]]) {
        bits[i * columns + j] = 1;
      }
      const path = outline(bits, [rows, columns], 90, 70);
      const context = document.createElement("canvas").getContext("2d");
      return [...bits].map((bit, k) => [bit, Number(context.isPointInPath(
        path, (k % columns) * 10 + 5, Math.floor(k / columns) * 10 + 5))]);
    }""")
    assert all(bit == found for bit, found in inside)


def test_concepts_that_are_in_no_matrix_are_said_with_the_reason(probed_page):
    said = probed_page.locator("#left-out").text_content()
    assert "In no matrix: 10, which has no pixel in the training images of all networks." in said
    last = probed_page.locator("#multiples .multiple").last
    assert "not defined" in last.text_content()


def test_names_are_text_and_never_markup(probed_page):
    assert probed_page.locator("main i").count() == 0
    assert probed_page.locator("#multiples b").all_text_contents().count(MARKUP) == 1


def test_names_of_layers_and_concepts_that_are_numbers_stay_names(probed_page):
    page = probed_page
    assert ticks(page, "scores", "y") == ["2  0.33", "4  0.67", "6  1.00"]
    red, shortened, never = ticks(page, "scores", "x")
    assert (red, never) == ("1", "10")
    assert re.fullmatch(r"<i.*….* long \$n_a\$", shortened)
    assert [text.split()[0] for text in ticks(page, "matrix", "y")] == ["2", "4", "6"]
    pointed_at(page, "#scores", 1 / 2, 1 / 6, f"{MARKUP}2, 0.33: 0.")


def test_a_long_name_takes_no_room_from_the_plot(probed_page):
    page = probed_page
    height, width = page.evaluate(
        "['height', 'width'].map((side) => document.querySelector('#scores .nsewdrag')[side]"
        ".baseVal.value)"
    )
    assert height >= 3 * 40
    assert width >= 3 * 50
    assert page.evaluate("shortened('layers.of.a.long.name', 1000)") == "layers.of.a.long.name"
    short = page.evaluate("shortened('layers.0.'.repeat(30) + 'conv2', 90)")
    assert re.fullmatch(r"la.*….*conv2", short)
    assert page.evaluate("name => widthOf(name)", short) <= 90


def test_no_button_offers_to_upload_a_chart(probed_page):
    titles = probed_page.evaluate(
        "[...document.querySelectorAll('.modebar-btn')].map((button) => button.dataset.title)"
    )
    assert "Download plot" in titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


def test_the_keyboard_moves_the_chosen_cell(probed_page):
    page = probed_page
    choose_pair(page, "original", "stranger")
    page.focus("#matrix")
    for key in ["ArrowUp"] * 3 + ["ArrowLeft"] * 3 + ["ArrowDown", "ArrowRight"]:
        page.keyboard.press(key)
    wait_for(page, "matches", place_of(page, "original", 1, "stranger", 1))
    assert page.locator("#reading").text_content().startswith("Chosen: 4 of")
    assert " and 4 of " in page.locator("#reading").text_content()


def test_a_pair_is_chosen_in_the_matrix_of_networks(probed_page):
    page = probed_page
    picture = page.locator("#networks-plot svg")
    names = [name.text_content() for name in picture.locator("text[text-anchor=end]").all()][::2]
    assert sorted(names) == sorted(page.locator("#pair-a option").all_text_contents())
    picture.locator("rect.chosen-by-click").first.click()
    wait_for(page, "matrix", "")
    until(page, "name => document.querySelector('#pair-b :checked').label === name", names[1])
    assert chosen_pair(page) == names[:2]
    picture.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    said = page.locator("#said").text_content()  # once for what arrow keys chose
    assert said.startswith(f"{names[2]} and {names[1]}, similarity 0.")
    until(page, "name => document.querySelector('#pair-a :checked').label === name", names[2])
    assert chosen_pair(page) == [names[2], names[1]]


def test_cells_without_a_number_are_hatched(probed, opened):
    page = opened(probed)
    assert page.locator("#matrix .layer-below image, #matrix image").count() == 1  # the cells
    page.evaluate("""async () => {
      const { pair } = stored();
      const content = await load(`pair-${pair.a}-${pair.b}`);
      content.measures.adjusted.value.data[0] = NaN;
      await showPair();
    }""")
    assert shown(page)[0][0] is None
    assert page.locator("#matrix image[*|href^='data:image/svg']").count() == 1
    page.mouse.move(*place_in(page, "#matrix", 1 / 2, 1 / 2))
    page.mouse.move(*place_in(page, "#matrix", 1 / 6, 1 / 6))
    until(page, "document.querySelector('#matrix .hovertext')?.textContent.includes('not defined')")


def test_a_scale_says_that_what_is_below_its_lower_end_looks_like_it(probed, opened):
    page = opened(probed)
    assert "≤ 0" not in page.locator("#matrix .cbaxis").first.text_content()
    page.evaluate("""async () => {
      const { pair } = stored();
      const content = await load(`pair-${pair.a}-${pair.b}`);
      content.measures.adjusted.value.data[1] = content.concepts.value.data[1] = -0.2;
      start.matrix.values.data[1] = -0.2;
      await showPair();
      showNetworks();
    }""")
    until(page, "document.querySelector('#matrix .cbaxis').textContent.startsWith('≤ 0')")
    assert "dark is 0 or less, bright" in page.locator("#concepts-lead").text_content()
    assert "≤ 0.0" in page.locator("#networks-plot text").all_text_contents()


def test_a_part_that_is_missing_is_named_with_the_way_out(probed, browser, tmp_path):
    shutil.copytree(probed, tmp_path / "c")
    parts = tmp_path / "c" / "report" / "parts"
    a, b = re.findall(r'"pairs":\[{"a":(\d),"b":(\d)', (parts / "start.js").read_text())[0]
    gone = parts / f"pair-{a}-{b}.js"
    gone.unlink()
    visitor = Visitor(browser)
    page = visitor.open(tmp_path / "c")
    said = problem(page)
    assert said == (
        f"parts/{gone.name} is missing beside this page. So not all of the report can be shown: "
        "copy its whole folder again."
    )
    assert not page.locator("#matrix").is_visible()
    assert page.locator("#scores .nsewdrag").count() == 1  # the rest is there
    choose_pair(page, "original", "stranger")
    assert page.locator("#matrix").is_visible()
    page.select_option("#pair-b", label="shuffled")  # what was shown is not left below its name
    page.wait_for_selector("#matrix", state="hidden")
    assert visitor.said
    visitor.said.clear()
    visitor.close()


def test_nothing_can_be_sent_from_the_page(browser, probed, tried):
    visitor = Visitor(browser)
    page = visitor.open(probed)
    assert visitor.said == []  # Plotly, its styles and all pictures are allowed
    assert page.evaluate("fetch('data:,x').then(() => 'sent', () => 'refused')") == "refused"
    assert "connect-src 'none'" in " ".join(visitor.said)
    visitor.said.clear()
    page.evaluate("""() => {
      const form = document.createElement("form");
      form.action = "https://example.org";
      document.body.append(form);
      form.submit();
    }""")
    page.wait_for_timeout(100)
    assert "form-action 'none'" in " ".join(visitor.said)
    assert not [said for said in visitor.said if said.startswith("https:")]
    visitor.said.clear()
    visitor.close()
    tried("secrets", "a script in a report that sends data", "blocked by the browser")


def test_a_button_says_whether_colours_are_dark(probed, opened):
    page = opened(probed, color_scheme="dark")
    button = page.get_by_role("button", name="Dark colours")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_first_layer_of_a_network_is_its_best_even_if_one_has_no_score(probed_page):
    found = probed_page.evaluate("""() => [[NaN, 0.2, 0.6], [0.3, NaN, 0.1], [NaN, NaN, NaN]]
      .map((data) => firstLayer({}, { value: { data, shape: [3, 1] } }))""")
    assert found == [2, 0, 0]


def test_it_prints_on_white_without_what_only_a_screen_needs(probed, opened):
    page = opened(probed, color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    style = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert style == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('header')).position") == "static"
    assert not page.locator("nav").is_visible()
    ink = page.evaluate("getComputedStyle(document.querySelector('#matrix .ytick text')).fill")
    assert ink == "rgb(28, 36, 48)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert len(page.pdf(format="A4")) > 50_000


def test_concepts_that_were_mined_are_shown_with_their_partners(mined, opened):
    page, loaded = opened(mined), load_comparison(mined)
    choose_pair(page, "shuffled", "original")
    matrix = loaded.matrix("original", "shuffled")
    i, j = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    wait_for(page, "matches", place_of(page, "shuffled", j, "original", i))
    assert page.locator("#matches .row").count() == 5
    matches = loaded.tables["concept_matches"].query(
        "network_a == 'original' and network_b == 'shuffled'"
    )
    own = matches[
        (matches["layer_a"].astype(str) == str(matrix.index[i]))
        & (matches["layer_b"].astype(str) == str(matrix.columns[j]))
    ]
    best = own.sort_values("adjusted", ascending=False).iloc[0]
    assert f"{best['adjusted']:.3f}" in page.locator("#matches .row:nth-child(2)").text_content()
    page.select_option("#one", label="stranger")
    until(page, "document.querySelectorAll('#gallery .row').length === 4")
    assert "of all images" in page.locator("#gallery .row").first.text_content()


def test_partners_of_layers_with_many_concepts(opened, probed, tmp_path):
    """300 concepts take two bytes, which the page unpacks."""
    count, generator = 300, np.random.default_rng(0)
    adjusted = generator.uniform(size=(count, count))
    names = tuple(("layer", f"c{k}") for k in range(count))
    cells = ConceptCells(names, names, adjusted, adjusted, adjusted)
    found = partners(cells)["partner"]
    assert found.max() > 255
    np.testing.assert_array_equal(found[0, 0], adjusted.argmax(axis=1))
    shutil.copytree(probed / "report", tmp_path / "report")
    Page(tmp_path / "other").add_part("many", {"partner": found})
    shutil.copy(tmp_path / "other" / "parts" / "many.js", tmp_path / "report" / "parts")
    page = opened(tmp_path)
    unpacked = page.evaluate("load('many').then(({ partner }) => [...partner.data])")
    np.testing.assert_array_equal(unpacked, found.ravel())


def test_one_network_alone_and_a_layer_with_itself(probed, opened, tmp_path):
    runs = [run for run in latest_runs(probed.parent / "runs") if run.label == "original"]
    analysis = Analysis(compare(runs, repairings=2))
    write_comparison(analysis, runs, tmp_path / "c", tables_of(analysis, None), pictures=0)
    page = opened(tmp_path / "c")
    assert not page.locator("#networks").is_visible()
    assert not page.locator("#curves-part").is_visible()
    assert chosen_pair(page) == ["original", "original"]
    page.focus("#matrix")
    for key in ["ArrowUp"] * 2 + ["ArrowLeft"] * 2:
        page.keyboard.press(key)
    wait_for(page, "matches", "0-0-0-0")
    said = page.locator("#reading").text_content()
    assert said == "Chosen: 2 of original and 2 of original. The same layer."
    canvas = page.locator("#multiples canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] / 6, "y": box["height"] / 6})
    assert page.locator("#tip").text_content().endswith("The same layer")


def test_without_thumbnails_it_says_so(tmp_path, opened):
    data = PlantedSquares(grid=(16, 16), thumbnails=None)
    page = opened(written(tmp_path, Probes(), data, labels=("original", "stranger")))
    assert "keeps no thumbnails" in page.locator("#matches").text_content()
    assert not list((tmp_path / "c" / "report" / "parts").glob("masks-*"))


def test_it_can_be_left_out(probed):
    assert (probed.parent / "without" / "summary.json").exists()
    assert not (probed.parent / "without" / "report").exists()
