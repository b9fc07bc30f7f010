"""The table of what was tried holds what tests that passed have said, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardening import differences, page_of, rows_of, said_by

CONFTEST = Path(__file__).with_name("conftest.py")

SAID = {
    "a::one": [("kills", "train, at any file", "went on and ended the same", 2)],
    "b::two": [
        ("images", "cut short", "refused", 3),
        ("images", "cut short", "read as whole", 1),
        ("kills", "train, at any file", "went on and ended the same", 1),
    ],
}


def test_rows_add_up_what_tests_said():
    rows = rows_of(SAID)
    assert list(rows) == ["images", "kills"]
    assert rows["kills"] == {"train, at any file": {"went on and ended the same": 3}}
    page = page_of(rows)
    assert "| cut short | 4 | 3 refused; 1 read as whole |" in page
    assert "| train, at any file | 3 | went on and ended the same |" in page


def test_a_number_that_differs_is_shown():
    page = page_of(rows_of(SAID))
    assert differences(page, page) == []
    other = page.replace("| 4 |", "| 5 |")
    assert len(differences(page, other)) == 2


def test_what_is_said_goes_to_a_file_that_grows_and_failures_do_not(tmp_path):
    text = 'def test_{0}(tried):\n    tried("images", "{0}", "refused")\n    assert {1}\n'
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_a.py").write_text(text.format("one", "True") + text.format("bad", "False"))
    (tmp_path / "test_b.py").write_text(text.format("two", "True"))
    command = [sys.executable, "-m", "pytest", "-q", "--tried", str(tmp_path / "tried.json")]
    path = {**os.environ, "PYTHONPATH": str(CONFTEST.parent)}
    for name in ("test_a.py", "test_b.py"):
        subprocess.run([*command, name], cwd=tmp_path, env=path, check=False, capture_output=True)
    found = json.loads((tmp_path / "tried.json").read_text())
    assert [each[0][1] for each in found.values()] == ["one", "two"]


def test_an_area_that_is_none_is_said():
    with pytest.raises(AssertionError, match="nonsense is no area"):
        said_by(lambda *_: None)("nonsense", "a", "b")
