"""Fixtures that several files share."""

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

pytest_plugins = ["hardening"]  # the fixture `tried`
torch.set_num_threads(1)  # two workers on two cores

# the same examples every time: a suite that fails does so for what was changed
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


@pytest.fixture
def no_waiting():
    """A test that waits for ever, as for a pipe into which nobody writes, fails after a minute."""

    def fail(*_):
        pytest.fail("waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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
