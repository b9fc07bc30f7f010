"""Fixtures that several files share."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # two workers on two cores


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
