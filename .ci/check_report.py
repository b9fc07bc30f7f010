"""Opens the report of the README's demo as a person does, and checks what it says."""

from pathlib import Path

import numpy as np

import cavalcade
from browsing import COLOURS, Visitor, choose_measure, chromium, place_in, wait_for

(folder,) = Path("comparisons").resolve().glob("faces-*")
comparison = cavalcade.load_comparison(folder)
networks = ("efficientnet_lite0", "efficientnet_lite2")
cells = comparison.layer_similarity.query("network_a != network_b")
best = cells[cells["measure"] == "adjusted"].sort_values("value").iloc[-1]
pair = comparison.pairs.query("measure == 'adjusted' and statistic == 'similarity'").iloc[0]
concepts = comparison.concept_similarity["concept"].unique()

with chromium() as browser:
    visitor = Visitor(browser)
    page = visitor.open(folder)

    # which layers mean the same, how sure is that, which concept differs most, what is chance?
    answer = page.locator("#answers tr").first.text_content()
    for said in (
        f"{best['layer_a']} and {best['layer_b']}",
        f"{best['value']:.3f} ± {best['stderr']:.3f}",
        f"{pair['value']:.3f} ± {pair['stderr']:.3f}",
    ):
        assert said in answer, (said, answer)
    assert any(concept in answer for concept in concepts), answer

    # a cell that is pointed at says what the table says
    matrix = comparison.matrix(*networks)
    row, column = np.unravel_index(np.argmin(matrix), matrix.shape)
    across, down = (column + 0.5) / matrix.shape[1], (row + 0.5) / matrix.shape[0]
    page.mouse.move(*place_in(page, "#matrix", across - 0.02, down))
    page.mouse.move(*place_in(page, "#matrix", across, down))
    page.wait_for_selector("#matrix .hovertext")
    told = page.locator("#matrix .hovertext").text_content()
    assert f"{matrix.index[row]} of {networks[0]}" in told, told
    assert f"{matrix.iloc[row, column]:.3f} ±" in told, told

    # a click shows the concepts of both layers, with masks on photographs
    page.mouse.click(*place_in(page, "#matrix", across, down))
    wait_for(page, "matches", f"0-{row}-1-{column}")
    assert set(page.locator("#matches .name b").all_text_contents()) == set(concepts)
    assert min(page.evaluate(COLOURS, "#matches canvas")) > 50

    for measure in ("jaccard", "label_conditional", "cka", "svcca", "z"):
        choose_measure(page, measure)
    visitor.close()  # nothing was said on the console, nothing asked of a network
print("report: says what the tables say")
