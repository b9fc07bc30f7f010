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
    for name in files_of(one):
        a, b = one / name, other / name
        if name.endswith(".safetensors"):
            _same_tensors(load_file(a), load_file(b), name)
        elif name.endswith(".csv"):
            pd.testing.assert_frame_equal(pd.read_csv(a), pd.read_csv(b), rtol=1e-3, atol=1e-5)
        elif name == "meta.json":
            read = [json.loads(path.read_text()) for path in (a, b)]
            assert read[0].pop("files").keys() == read[1].pop("files").keys()
            assert read[0] == read[1]


def _same_tensors(ours, theirs, name):
    assert ours.keys() == theirs.keys()
    for key in ours:
        x, y = ours[key], theirs[key]
        assert x.shape == y.shape, (name, key)
        if x.dtype == np.uint8:  # masks as bits: a pixel at its threshold may fall on either side
            assert np.unpackbits(x ^ y).mean() < 1e-4, (name, key)
        else:
            # channels that hardly vary have the largest entries, beside which others are rounding
            largest = max(1, np.abs(y).max()) if key.endswith("vectors") else 1
            error = f"{name} {key}"
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-5 * largest, err_msg=error)
