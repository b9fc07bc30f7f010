"""What a page says of which files are missing: most of all, what to do."""

import shutil

import pytest

from browsing import CHROMIUM, Visitor, until
from cavalcade.report.page import Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.mark.parametrize("content", ['report.receive("start",{"images', ""])
def test_a_part_that_was_cut_short_is_named(browser, tmp_path, content):
    page_folder = Page(tmp_path / "report").folder
    (page_folder / "parts" / "start.js").write_text(content)
    visitor = Visitor(browser)
    page = visitor.look(page_folder / "index.html")
    until(
        page,
        "document.getElementById('problem').textContent.startsWith('parts/start.js is broken')",
    )
    visitor.said.clear()
    visitor.close()


@pytest.mark.parametrize(("kept", "said"), [
    ("index.html", "Copy the whole report folder again, not index.html alone"),
    ("scripts/problems.js", "scripts/parts.js is missing beside this page"),
    ("", "scripts/outlines.js is missing beside this page"),
])  # fmt: skip
def test_a_page_without_its_scripts_says_so(browser, tmp_path, kept, said):
    folder = Page(tmp_path / "report").folder
    if kept:  # nothing but this and the page
        shutil.move(folder, tmp_path / "whole")
        for name in {kept, "index.html"}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "whole" / name, folder / name)
    else:
        (folder / "scripts" / "outlines.js").unlink()
    visitor = Visitor(browser)
    page = visitor.look(folder / "index.html")
    page.wait_for_load_state()
    assert said in page.locator("#problem").text_content()
    assert page.locator("#problem").is_visible()
    visitor.said.clear()
    visitor.close()
