"""What is tried against the package, how often, and what happens: docs/hardening.md is made of it.

A test asks for the fixture `tried` and says, when it knows, what it did and what came of it:

    tried("images", "cut short at any byte", "refused, with the file named", times=200)

`pytest --tried=FILE` keeps what the tests that passed said, by test, so that the file grows over
several calls. `python tests/hardening.py FILE` says whether the table in the docs is that of the
file; with `--write` it makes it so.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "tried"
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

Saying = tuple[str, str, str, int]  # area, what was tried, what happened, how often
Tried = Callable[..., None]


class Plugin:
    """Keeps what tests say in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: dict[str, list[Saying]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = [value for name, value in report.user_properties if name == PROPERTY]
        if report.when == "call" and report.passed and said:
            self.said[report.nodeid] = [tuple(each) for each in said]

    def pytest_sessionfinish(self) -> None:
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps(before | self.said, indent=1))


def said_by(record_property: Callable[[str, Any], None]) -> Tried:
    """What the fixture `tried` gives to a test."""

    def tried(area: str, what: str, happened: str, times: int = 1) -> None:
        assert area in AREAS, f"{area} is no area; there are: {', '.join(AREAS)}"
        assert times > 0
        record_property(PROPERTY, (area, what, happened, times))

    return tried


def rows_of(said: Mapping[str, Iterable[Saying]]) -> dict[str, dict[str, dict[str, int]]]:
    """How often each came of what was tried, by area; in the order of areas, then of names."""
    found: dict[str, dict[str, dict[str, int]]] = {
        area: defaultdict(lambda: defaultdict(int)) for area in AREAS
    }
    for entries in said.values():
        for area, what, happened, times in entries:
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
    """Lines that are on one side alone."""
    ours, theirs = set(page.splitlines()), set(made.splitlines())
    return [f"- {line}" for line in sorted(ours - theirs)] + [
        f"+ {line}" for line in sorted(theirs - ours)
    ]


def main() -> int:
    """Check the page, or write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    before, rest = PAGE.read_text().split(BEGIN)
    table, after = rest.split(END)
    made = page_of(rows_of(json.loads(asked.file.read_text())))
    if asked.write:
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}")
        return 0
    found = differences(table, made)
    print("\n".join(found) or f"{PAGE.name}: the table is that of the tests")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
