"""Reports in a real browser, opened from a file without a network."""

import shutil
import time
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

# how many brightnesses there are in each of some canvases
COLOURS = """which => [...document.querySelectorAll(which)].map((canvas) => new Set(
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size)"""


@contextmanager
def chromium():
    """A browser without a window."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # which root needs
        )
        yield found
        found.close()


class Visitor:
    """Opens reports; what their consoles say, and what they ask a network for, are errors."""

    def __init__(self, browser):
        self.browser, self.said, self.contexts = browser, [], []

    def open(self, folder, **options):
        """Open a report that is whole, and wait until all of it is drawn."""
        page = self.look(folder / "report" / "index.html", **options)
        page.wait_for_selector("html[data-state=ready]")
        return page

    def look(self, file, **options):
        """Open a page, which may not be whole."""
        context = self.browser.new_context(offline=True, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self.asked)
        page.goto(file.as_uri())
        return page

    def asked(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.said.append(request.url)

    def close(self):
        for context in self.contexts:
            context.close()
        assert self.said == []


def until(page, what, arg=None):
    """Wait until some JavaScript is true; Playwright's own way is refused, since it is `eval`."""
    end = time.monotonic() + 30
    while not page.evaluate(what, arg):
        assert time.monotonic() < end, f"never true: {what}"
        page.wait_for_timeout(20)


def wait_for(page, part, start):
    until(
        page,
        "([part, start]) => document.getElementById(part).dataset.shown?.startsWith(start)",
        [part, start],
    )


def place_in(page, plot, right, down):
    """A place on the screen, as shares of the width and height of a plot."""
    area = page.locator(f"{plot} .nsewdrag").first
    area.evaluate("area => area.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = area.bounding_box()
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def choose_measure(page, measure):
    """Click its button, and wait until the matrix shows it."""
    page.click(f"[data-measure={measure}]")
    until(
        page,
        "measure => document.getElementById('matrix').dataset.shown.endsWith(`-${measure}`)",
        measure,
    )
