"""What a large report costs: to write it, on the disk, and until a browser shows it.

    python -m benchmarks.report
    python -m benchmarks.report --networks 4 --layers 10 --concepts 8

Of synthetic runs without halves, compared by where concepts fire and by linear CKA. Their masks
are as noisy as can be, so that those of real networks take less room. Prints the size of the
folder, how long it takes to write, and, in a headless Chromium that reads it from the disk, without
a network and each time in a new context, medians of how long it takes

- to load Plotly alone, on an empty page, which is the least that a page drawn by it can take;
- until the first picture can be seen (networks x networks, which needs no Plotly);
- until the first matrix of layers is drawn, with its axes;
- from choosing other networks until their matrix is drawn;
- from a click on a cell until the masks of both layers are, those that are on the screen.

All that is read was written just before, so that it comes from the page cache of the system.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.quiet import quiet
from benchmarks.synthetic_runs import write_synthetic_runs
from cavalcade.cli import run
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparison import compare
from cavalcade.comparing.report_parts import write_report
from cavalcade.errors import InputError
from cavalcade.report.page import PLOTLY
from cavalcade.report.tables import print_table
from cavalcade.runs import load_run

THUMBNAIL = 128
SCREEN: ViewportSize = {"width": 1280, "height": 900}
SETTLED = 3000  # milliseconds
EMPTY = '<!doctype html><script src="plotly.min.js"></script>'
DRAWN = "([id, shown]) => document.getElementById(id).dataset.shown === shown"


class Written(NamedTuple):
    """A report: its folder, the seconds it took to write, and layers of its networks."""

    folder: Path
    seconds: float
    layers: int


def main() -> None:
    """Write a report and open it."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--networks", type=at_least_one, default=12, help="that are compared")
    parser.add_argument("--layers", type=at_least_one, default=60, help="of each network")
    parser.add_argument("--concepts", type=at_least_one, default=20, help="at each layer")
    parser.add_argument("--images", type=at_least_one, default=60, help="of the test split")
    parser.add_argument("--grid", type=at_least_one, default=56, help="rows and columns of a mask")
    parser.add_argument("--folder", type=Path, help="to keep the report in")
    args = parser.parse_args()
    if args.networks < 3:
        raise InputError("give --networks=3 or more, so that there is another pair to choose")
    with tempfile.TemporaryDirectory() as place:
        sizes = {name: getattr(args, name) for name in ("images", "layers", "concepts", "grid")}
        report = written(Path(place), args.networks, sizes)
        if args.folder is not None:
            shutil.copytree(report.folder, args.folder)
        megabytes = sum(path.stat().st_size for path in report.folder.rglob("*.*")) / 1e6
        rows = [("the folder, MB", f"{megabytes:.1f}"), ("to write it, s", f"{report.seconds:.1f}")]
        rows += [(name, said(seconds)) for name, seconds in opened(report, args.repeats).items()]
    title = f"{args.networks} networks, {args.layers} layers, {args.concepts} concepts"
    print_table(title, pd.DataFrame(rows, columns=["", f"median of {args.repeats} (range)"]))


def written(place: Path, networks: int, sizes: dict[str, int]) -> Written:
    """A report of synthetic runs."""
    paths = write_synthetic_runs(place, networks, **sizes, halves=False, thumbnails=THUMBNAIL)
    runs = [load_run(path) for path in paths]
    with quiet():
        analysis = Analysis(compare(runs, against=["cka"]))
        analysis.networks  # noqa: B018  what is written to tables before is not counted
        analysis.best_matches  # noqa: B018
    folder, start = place / "report", time.perf_counter()
    with quiet():
        write_report(analysis, runs, None, folder)
    return Written(folder, time.perf_counter() - start, sizes["layers"])


def opened(report: Written, repeats: int) -> dict[str, list[float]]:
    """Seconds of all that one waits for, in each of some visits."""
    (report.folder / "empty.html").write_text(EMPTY)
    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), "")
        if not path:
            raise InputError("there is no Chromium on the PATH; install it to measure the report")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(repeats):
            for name, seconds in visit(browser, report).items():
                found.setdefault(name, []).append(seconds)
        browser.close()
    return found


def visit(browser: Browser, report: Written) -> dict[str, float]:
    """Seconds of one visit to an empty page, and to the report."""
    context = browser.new_context(offline=True, viewport=SCREEN)
    empty = context.new_page()
    alone = timed(lambda: empty.goto((report.folder / "empty.html").as_uri()))
    context.close()
    # Playwright waits by `eval`, which the page's policy refuses
    context = browser.new_context(offline=True, viewport=SCREEN, bypass_csp=True)
    page = context.new_page()
    start = time.perf_counter()
    page.goto((report.folder / "index.html").as_uri(), wait_until="commit")
    page.wait_for_function("document.getElementById('matrix')?.dataset.shown")
    matrix = time.perf_counter() - start
    page.wait_for_selector("html[data-state=ready]")
    # by the page's own clock: what asks from outside waits for Plotly
    first = page.evaluate("performance.getEntriesByName('first picture')[0].startTime") / 1000
    pair = timed(lambda: other_pair(page))
    page.wait_for_timeout(SETTLED)  # the rest of that pair is drawn
    found = {
        f"{PLOTLY.name} on an empty page, s": alone,
        "until the first picture, s": first,
        "until the first matrix of layers, s": matrix,
        "another pair, until its matrix, s": pair,
        "a click on a cell, until its masks, s": timed(lambda: click(page, report.layers)),
    }
    context.close()
    return found


def other_pair(page: Page) -> None:
    """Choose the last two networks, one after the other, and wait for their matrix."""
    last = page.locator("#pair-b option").count() - 1
    page.evaluate("([a, b]) => { choosePair(a, b); }", [last - 1, last])
    page.wait_for_function(DRAWN, arg=["matrix", f"{last - 1}-{last}-adjusted"])


def click(page: Page, layers: int) -> None:
    """Click on the cell in the last row and the first column, and wait for the masks."""
    x, y = place_of(page, layers)
    page.mouse.click(x, y)
    last = page.locator("#pair-b option").count() - 1
    shown = f"{last - 1}-{layers - 1}-{last}-0"
    page.wait_for_function(DRAWN, arg=["matches", shown])


def place_of(page: Page, layers: int) -> tuple[float, float]:
    """Where that cell is, once the page has moved to it."""
    area = page.locator("#matrix .nsewdrag").first
    area.evaluate("area => area.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = area.bounding_box()
    assert box is not None
    cell = box["width"] / layers, box["height"] / layers
    return box["x"] + cell[0] / 2, box["y"] + box["height"] - cell[1] / 2


def timed(work: Callable[[], object]) -> float:
    """Seconds of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def said(seconds: Sequence[float]) -> str:
    """The median, and the range of all."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    run(main)
