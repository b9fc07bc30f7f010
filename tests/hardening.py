"""What is tried against the package, how often, and what happens: docs/hardening.md is made of it.

A test asks for the fixture `tried` and says, when it knows, what it did and what came of it:

    tried("images", "a picture cut short", REFUSED, times=200)

`pytest --tried=FILE` keeps what the tests that passed said, by test, so that the file grows over
several calls; and which of them were skipped. `python tests/hardening.py FILE` says whether the
table in the docs is that of the file; with `--write` it makes it so.
"""

import argparse
import difflib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

PROPERTY, ASKS = "tried", "asks for tried"
PAGE = Path(__file__).parents[1] / "docs/hardening.md"
BEGIN, END = "<!-- made by the tests: begin -->", "<!-- made by the tests: end -->"
AREAS = {  # in the order of the tables
    "images": "Images, masks and what lists them",
    "activations": "Numbers that are none",
    "folders": "Run folders, artifacts and caches of others",
    "code": "What must not run",
    "secrets": "What must not leave",
    "kills": "Processes that are killed",
    "disk": "Disks, folders and memory that refuse",
    "numbers": "Numbers",
    "versions": "Versions",
    "endurance": "Endurance",
}

# What happened, in the same words wherever the same did
REFUSED = "refused, naming the file"
REFUSED_FIELD = "refused, naming the file and the field"
REFUSED_FOLDER = "refused, naming the folder"
READ_OR_REFUSED = "refused, or read; no other error"
NOTHING_RAN = "refused; nothing ran"
STOPPED = "refused in one sentence"
AS_IT_WAS = "read as it was"
UNCHANGED = "unchanged"
LEFT_OUT = "left out and named"
AGAIN = "computed again, with a warning"
SAME = "went on and ended the same"
HIDDEN, SHOWN = "hidden", "shown"

Saying = tuple[str, str, str, int]  # area, what was tried, what happened, how often
Tried = Callable[..., None]


class Plugin:
    """Keeps what tests say in a file; None of those that were skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: dict[str, list[Saying]] = {}
        self.skipped: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = [value for name, value in report.user_properties if name == PROPERTY]
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped and (ASKS, True) in map(tuple, report.user_properties):
            self.skipped.add(report.nodeid)
        elif report.when == "call" and said:
            self.said[report.nodeid] = [tuple(each) for each in said]

    def pytest_sessionfinish(self) -> None:
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        found = dict.fromkeys(self.skipped) | before | self.said
        found = {test: said for test, said in found.items() if test not in self.failed}
        self.path.write_text(json.dumps(found, indent=1))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tried", type=Path, help="where to keep what was tried; see hardening.py")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("tried")
    if path is not None and not hasattr(config, "workerinput"):  # workers report to this one
        config.pluginmanager.register(Plugin(path.absolute()))


def pytest_itemcollected(item: pytest.Item) -> None:
    if "tried" in getattr(item, "fixturenames", ()):
        item.user_properties.append((ASKS, True))


@pytest.fixture
def tried(record_property: Callable[[str, Any], None]) -> Tried:
    """Says what was tried and what came of it."""
    return said_by(record_property)


def said_by(record_property: Callable[[str, Any], None]) -> Tried:
    """What the fixture `tried` gives to a test."""

    def tried(area: str, what: str, happened: str, times: int = 1) -> None:
        assert area in AREAS, f"{area} is no area; there are: {', '.join(AREAS)}"
        assert times > 0
        record_property(PROPERTY, (area, what, happened, times))

    return tried


def rows_of(said: Mapping[str, Iterable[Saying] | None]) -> dict[str, dict[str, dict[str, int]]]:
    """How often each came of what was tried, by area; in the order of areas, then of names."""
    found: dict[str, dict[str, dict[str, int]]] = {
        area: defaultdict(lambda: defaultdict(int)) for area in AREAS
    }
    for entries in said.values():
        for area, what, happened, times in entries or ():
            found[area][what][happened] += times
    return {area: {w: dict(rows[w]) for w in sorted(rows)} for area, rows in found.items() if rows}


def page_of(rows: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """The tables in Markdown."""
    lines: list[str] = []
    for area, tries in rows.items():
        lines += [f"## {AREAS[area]}", "", "| What was tried | Times | What happened |"]
        lines += ["| --- | ---: | --- |"]
        for what, happened in tries.items():
            total = sum(happened.values())
            most = sorted(happened.items(), key=lambda entry: (-entry[1], entry[0]))
            words = [text if count == total else f"{count} {text}" for text, count in most]
            lines.append(f"| {what} | {total} | {'; '.join(words)} |")
        lines.append("")
    return "\n".join(lines)


def differences(page: str, made: str) -> list[str]:
    """Lines that are on one side alone, or elsewhere."""
    ours, theirs = page.strip().splitlines(), made.strip().splitlines()
    return [*difflib.unified_diff(ours, theirs, PAGE.name, "the tests", lineterm="", n=0)]


def main() -> int:
    """Check the page, or write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    before, rest = PAGE.read_text().split(BEGIN)
    table, after = rest.split(END)
    said = json.loads(asked.file.read_text())
    made = page_of(rows_of(said))
    if asked.write:
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}")
        return 0
    found = differences(table, made)
    print("\n".join(found) or f"{PAGE.name}: the table is that of the tests")
    if found and (skipped := sorted(test for test, own in said.items() if own is None)):
        print("\nskipped, so that what they try is missing:", *skipped, sep="\n  ")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
