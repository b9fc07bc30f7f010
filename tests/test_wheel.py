"""What a plain pip install brings."""

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from test_config import CONF

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ROOT, "-w", folder]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("cavalcade-*.whl")
    return found


@pytest.mark.slow
def test_every_option_and_the_page_are_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = CONF.parent
    for pattern in ("conf/**/*.yaml", "report/page/**/*"):
        files = [path for path in package.glob(pattern) if path.suffix not in ("", ".pyc")]
        own = {f"cavalcade/{path.relative_to(package).as_posix()}" for path in files}
        assert own
        assert own <= held, own - held


@pytest.mark.slow
def test_the_programs_run_from_the_wheel_alone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    said = subprocess.run(
        [sys.executable, "-c", "from cavalcade.programs.train import run; run()", "list=data"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "COLUMNS": "140"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "faces rendered from a seed" in said


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train", "compare"])
def test_console_scripts_are_the_programs(wheel, program):
    held = zipfile.ZipFile(wheel)
    (path,) = (name for name in held.namelist() if name.endswith("entry_points.txt"))
    script = f"cavalcade-{program} = cavalcade.programs.{program}:run"
    assert script in held.read(path).decode().splitlines()
    assert callable(importlib.import_module(f"cavalcade.programs.{program}").run)
