"""Prints what is declared in pyproject.toml at its lower bound: `python .ci/lowest.py > FILE`.

    pip install --requirement FILE --no-deps --editable .

All of the dependencies and of what the tests need besides. Left to the caller: torch and
torchvision, which go together and with the machine.
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("test", "demo", "sweep")
CALLERS = ("torch", "torchvision")


def lowest() -> dict[str, str]:
    """The lower bound of each package by its name.

    Raises:
        ValueError: for one that has none, or more than one.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    found = (Requirement(line) for line in asked)
    others = [each for each in found if each.name not in (project["name"], *CALLERS)]
    return {each.name: lower_bound(each) for each in others}


def lower_bound(requirement: Requirement) -> str:
    """The version after `>=`.

    Raises:
        ValueError: if there is none, or more than one.
    """
    (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
    return bound


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest().items()))
