"""Fixtures that several files share."""

from pathlib import Path

import pytest
import torch

from hardening import Plugin, Tried, said_by

torch.set_num_threads(1)  # two workers on two cores


def pytest_addoption(parser):
    parser.addoption("--tried", type=Path, help="where to keep what was tried; see hardening.py")


def pytest_configure(config):
    path = config.getoption("tried")
    if path is not None and not hasattr(config, "workerinput"):  # workers report to this one
        config.pluginmanager.register(Plugin(path.absolute()))


@pytest.fixture
def tried(record_property) -> Tried:
    """Says what was tried and what came of it; see hardening.py."""
    return said_by(record_property)


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The folder of CamVid, 701 labelled frames of four videos from a car."""
    folder = Path(__file__).parents[2] / "shared/data/camvid"
    if not folder.is_dir():
        pytest.skip(f"CamVid is not at {folder}")
    return folder


@pytest.fixture(scope="module")
def browser():
    """A real one; imported by the few files that need it."""
    from browsing import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser):
    """Opens reports of which nothing may be said on a console, nor asked of a network."""
    from browsing import Visitor

    visitor = Visitor(browser)
    yield visitor.open
    visitor.close()
