"""Lower bounds of what is required: each says why, and one step of .ci/run tests at all of them."""

import os
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = ROOT / "pyproject.toml"
LOWEST = ROOT / ".ci/lowest.py"
TESTED = ("test", "demo", "sweep")  # extras that the tests need
CALLERS = {"torch", "torchvision"}  # go with the machine
OURS = "cavalcade"


def project():
    return tomllib.loads(PYPROJECT.read_text())["project"]


def declared():
    """Every line of a requirement, as it stands in the file, with what it requires."""
    lists = [project()["dependencies"], *project()["optional-dependencies"].values()]
    lines = PYPROJECT.read_text().splitlines()
    for text in (text for each in lists for text in each):
        (line,) = {line for line in lines if line.strip().startswith(f'"{text}"')}
        yield line, Requirement(text)


def test_every_bound_says_why():
    bounded = [(line, asked) for line, asked in declared() if asked.name != OURS]
    assert len(bounded) > 40
    for line, asked in bounded:
        assert any(each.operator == ">=" for each in asked.specifier), f"no lower bound: {line}"
        _, _, reason = line.partition("#")
        assert len(reason.split()) >= 3, f"no reason: {line}"


def lowest():
    found = subprocess.run([sys.executable, LOWEST], capture_output=True, text=True, check=True)
    return [Requirement(line) for line in found.stdout.splitlines()]


def test_the_lowest_of_all_that_tests_need_are_printed():
    extras = project()["optional-dependencies"]
    wanted = {*project()["dependencies"], *(text for name in TESTED for text in extras[name])}
    asked = {each.name: each for each in map(Requirement, wanted)}
    for name in (OURS, *CALLERS):
        del asked[name]
    printed = {each.name: each for each in lowest()}
    assert printed.keys() == asked.keys()
    for name, each in printed.items():
        (pinned,) = each.specifier
        assert pinned.operator == "=="
        assert f">={pinned.version}" in str(asked[name].specifier)
        assert asked[name].specifier.contains(pinned.version)


@pytest.mark.parametrize("text", ["numpy", "numpy<3", "numpy>=1,>=2"])
def test_what_has_no_lower_bound_is_an_error(text):
    lower_bound = runpy.run_path(str(LOWEST))["lower_bound"]
    with pytest.raises(ValueError, match="unpack"):
        lower_bound(Requirement(text))


@pytest.mark.skipif(
    os.environ.get("CAVALCADE_LOWEST") != "1", reason="only where the lowest versions are installed"
)
def test_all_are_installed_at_their_lower_bounds(tried):
    """Asked last by the step of .ci/run, after its tests have passed."""
    bounds = lowest()
    for each in bounds:
        (pinned,) = each.specifier
        assert Version(version(each.name)) == Version(pinned.version)
    what = "dependencies but torch and torchvision, all at their lower bounds at once"
    tried("versions", what, "tests of that step passed")
