"""Whether two run folders say the same, file by file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_same_up_to_rounding(one: Path, other: Path) -> None:
    """Numbers differ by the order in which they were summed; all else is equal."""
    assert one.name == other.name
    assert files_of(one) == files_of(other)
    units = _units(load_file(other / "concepts.safetensors"))
    for name in files_of(one):
        a, b = one / name, other / name
        if name.endswith(".safetensors"):
            _same_tensors(load_file(a), load_file(b), units, name)
        elif name.endswith(".csv"):
            pd.testing.assert_frame_equal(pd.read_csv(a), pd.read_csv(b), rtol=1e-3, atol=1e-5)
        elif name == "meta.json":
            read = [json.loads(path.read_text()) for path in (a, b)]
            assert read[0].pop("files").keys() == read[1].pop("files").keys()
            assert read[0] == read[1]


def _units(concepts):
    """What rounding of vectors is relative to: the largest entry of each channel, if above 1.

    That of all training images: a half may see nothing in a channel, whose entries are near 0.
    """
    vectors = {key: t for key, t in concepts.items() if key.endswith("vectors")}
    return {key: np.abs(t).max(axis=0).clip(min=1) for key, t in vectors.items()}


def _same_tensors(ours, theirs, units, name):
    assert ours.keys() == theirs.keys()
    for key in ours:
        x, y = ours[key], theirs[key]
        assert x.shape == y.shape, (name, key)
        if x.dtype == np.uint8:  # masks as bits: a pixel at its threshold may fall on either side
            assert np.unpackbits(x ^ y).mean() < 1e-4, (name, key)
        else:
            unit = units.get(key, 1)
            x, y = x / unit, y / unit
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-5, err_msg=f"{name} {key}")
