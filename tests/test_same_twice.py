"""The same seed gives the same files, to the last byte."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from everything_once import COMPARED, METHODS

SCRIPT = Path(__file__).with_name("everything_once.py")
# nothing of this may show: the order in which Python's sets are walked, where and when it is
WORLDS = {
    "here": {"PYTHONHASHSEED": "1", "TZ": "UTC"},
    "some/where else": {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"},
}
PICTURES = (".pdf", ".png", ".jpg")


def kind(name: str) -> str:
    """What a file belongs to, in words."""
    folder = name.split("/", 1)[0]
    if folder in METHODS:
        return "probes" if "probes" in name.split("/") else "mined concepts, and the truth"
    if "/report/" in name:
        return "report pages"
    return "pictures" if name.endswith(PICTURES) else "tables and matrices of comparisons"


def whole_bytes(folder: Path) -> dict[str, str]:
    """Of every file below a folder, checkpoints too, what its bytes are."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path, tried):
    started = []
    for name, variables in WORLDS.items():
        (tmp_path / name).mkdir(parents=True)
        command = [sys.executable, SCRIPT, "made"]
        world = {"cwd": tmp_path / name, "env": os.environ | variables}
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, **world))
    for process in started:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-3000:]
    one, other = (whole_bytes(tmp_path / name / "made") for name in WORLDS)
    assert [name for name in one | other if one.get(name) != other.get(name)] == []
    kinds = Counter(map(kind, one))
    assert {name.split("/", 1)[0] for name in one} == {
        *METHODS,
        *(f"compared {name}" for name in COMPARED),
    }
    assert len(kinds) == 5
    for what in kinds:
        tried("numbers", f"twice with the same seed, all files: {what}", "equal bytes")
