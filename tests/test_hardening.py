"""The table of what was tried holds what tests that passed have said, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hardening
from hardening import differences, page_of, rows_of, said_by

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
    assert differences(page, f"\n{page}\n") == []
    found = differences(page, page.replace("| 4 |", "| 5 |"))
    assert [line for line in found if line.startswith(("-|", "+|"))] == [
        "-| cut short | 4 | 3 refused; 1 read as whole |",
        "+| cut short | 5 | 3 refused; 1 read as whole |",
    ]


def test_a_row_that_stands_twice_or_elsewhere_is_shown():
    page = page_of(rows_of(SAID))
    row = "| cut short | 4 | 3 refused; 1 read as whole |\n"
    assert differences(page, page.replace(row, row * 2))
    assert differences(page, page.replace(row, "") + row)


def run(folder, tests, tried="tried.json"):
    """What is in the file after pytest has run these tests: names, and what each does."""
    lines = [f"def test_{name}(tried):\n    {work}\n" for name, work in tests.items()]
    (folder / "test_a.py").write_text("import pytest\n" + "".join(lines))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "hardening", f"--tried={tried}"]
    path = {**os.environ, "PYTHONPATH": str(Path(hardening.__file__).parent)}
    path |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    subprocess.run(command, cwd=folder, env=path, check=False, capture_output=True)
    return {
        name.rpartition("_")[2]: said and said[0][1]
        for name, said in json.loads((folder / tried).read_text()).items()
    }


SAY = 'tried("images", "{}", "refused")'


def test_what_is_said_goes_to_a_file_that_grows_and_failures_do_not(tmp_path):
    one, bad, skip = SAY.format("one"), SAY.format("bad") + "; assert False", "pytest.skip()"
    assert run(tmp_path, {"one": one, "bad": bad, "gone": skip}) == {"one": "one", "gone": None}
    # another call: one is skipped now, another passes that was skipped, and a third fails now
    assert run(tmp_path, {"one": skip, "gone": SAY.format("here"), "two": SAY.format("two")}) == {
        **{"one": "one", "gone": "here", "two": "two"}
    }
    assert run(tmp_path, {"one": bad}) == {"gone": "here", "two": "two"}


def test_tests_that_were_skipped_are_named_where_the_table_differs(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"words\n{hardening.BEGIN}\n{hardening.END}\n")
    (tmp_path / "tried.json").write_text(json.dumps({**SAID, "c::three": None}))
    monkeypatch.setattr(hardening, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["hardening.py", str(tmp_path / "tried.json")])
    assert hardening.main() == 1
    assert capsys.readouterr().out.endswith("is missing:\n  c::three\n")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--write"])
    assert hardening.main() == 0
    monkeypatch.setattr(sys, "argv", sys.argv[:2])
    assert hardening.main() == 0
    assert capsys.readouterr().out == "page.md: the table is that of the tests\n"


def test_an_area_that_is_none_is_said():
    with pytest.raises(AssertionError, match="nonsense is no area"):
        said_by(lambda *_: None)("nonsense", "a", "b")
