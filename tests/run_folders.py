"""Whether two run folders say the same, file by file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

RELATIVE, OF_TABLES, OF_TENSORS = 1e-3, 1e-5, 2e-5  # the latter where a number is nearly 0
OF_BITS = 1e-4  # pixels at their thresholds may fall on either side
SAME = f"equal to {100 * RELATIVE:g} %, masks to {OF_BITS * 10_000:g} pixel in 10,000"


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_same_up_to_rounding(one: Path, other: Path) -> None:
    """Numbers differ by the order in which they were summed; all else is equal. See `SAME`."""
    assert one.name == other.name
    assert files_of(one) == files_of(other)
    units = _units(load_file(other / "concepts.safetensors"))
    for name in files_of(one):
        a, b = one / name, other / name
        if name.endswith(".safetensors"):
            _same_tensors(load_file(a), load_file(b), units, name)
        elif name.endswith(".csv"):
            frames = (pd.read_csv(path) for path in (a, b))
            pd.testing.assert_frame_equal(*frames, rtol=RELATIVE, atol=OF_TABLES)
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
        if x.dtype == np.uint8:  # masks as bits
            assert np.unpackbits(x ^ y).mean() < OF_BITS, (name, key)
        else:
            unit = units.get(key, 1)
            x, y = x / unit, y / unit
            np.testing.assert_allclose(x, y, RELATIVE, OF_TENSORS, err_msg=f"{name} {key}")
