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
