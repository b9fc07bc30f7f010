"""What a plain pip install brings."""

import importlib
import os
import re
import subprocess
import sys
import tarfile
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
def test_nothing_but_the_packages_is_in_the_wheel(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    own = re.compile(r"cavalcade/|hydra_plugins/|cavalcade-[^/]+\.dist-info/")
    assert [name for name in held if not own.match(name)] == []


@pytest.mark.slow
def test_the_source_archive_holds_what_a_wheel_is_made_of(tmp_path):
    """Not the tests, nor the old folders that they read."""
    builder = tmp_path / "hatchling"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", builder, "hatchling"]
    subprocess.run(install, check=True, capture_output=True)
    build = f"from hatchling.build import build_sdist; build_sdist({str(tmp_path)!r})"
    path = os.environ | {"PYTHONPATH": str(builder)}
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, env=path, check=True)
    (found,) = tmp_path.glob("cavalcade-*.tar.gz")
    with tarfile.open(found) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    files = {name for name in held if not name.startswith("src/")}
    assert files == {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", ".gitignore"}
    assert "src/cavalcade/conf/train.yaml" in held


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
