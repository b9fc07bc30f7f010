import numpy as np
import pandas as pd
import pytest

from cavalcade import table_files
from cavalcade.table_files import read_table, write_table


def as_pandas(table, tmp_path):
    """The text that pandas writes."""
    table.to_csv(tmp_path / "pandas.csv", index=False, float_format="%.6g")
    return (tmp_path / "pandas.csv").read_bytes()


def table_of(rows):
    rng = np.random.default_rng(0)
    value = rng.normal(size=rows) * 10.0 ** rng.integers(-20, 20, size=rows)
    value[1::7] = np.nan
    value[2:6] = [np.inf, -np.inf, -0.0, 1e6]
    names = ["blocks.0", 'a "b", c', "two\nlines", "", " ", "NA", "ü", "2"]
    return pd.DataFrame(
        {
            "network": rng.choice(names, rows),
            "layer": pd.Series(rng.choice(np.array(["x", "y", None], dtype=object), rows)),
            "depth": rng.choice([0.1, 1 / 3, np.nan], rows),
            "trunk": rng.random(rows) > 0.5,
            "cells": rng.integers(-5, 5, rows),
            "value": value,
            "single": value.clip(-1e3, 1e3).astype(np.float32),
        }
    )


@pytest.mark.parametrize("at_once", [7, 2**16])
def test_the_text_is_that_of_pandas(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(table_files, "ROWS", at_once)
    monkeypatch.setattr(table_files, "REPEATED", 6)
    table = table_of(500)
    write_table(table, tmp_path / "own.csv")
    assert (tmp_path / "own.csv").read_bytes() == as_pandas(table, tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(),
        pd.DataFrame({"network": []}),
        pd.DataFrame({"network": ["", "a"]}),
        pd.DataFrame({"network": [], "value": []}),
        pd.DataFrame({"mixed": ["a", 1.123456789, None], "value": [1.0, 2.0, 3.0]}),
        pd.DataFrame({"kind": pd.Categorical(["a", "b", "a"]), "value": [1.0, 2.0, 3.0]}),
        pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]),
    ],
    ids=["nothing", "no rows", "one column", "empty", "mixed", "categories", "one name twice"],
)
def test_tables_of_other_kinds_are_those_of_pandas(tmp_path, table):
    write_table(table, tmp_path / "own.csv")
    assert (tmp_path / "own.csv").read_bytes() == as_pandas(table, tmp_path)


def test_what_is_written_is_read_again(tmp_path):
    table = pd.DataFrame(
        {"network_a": ["a,b", "2"], "layer_a": ["NA", "x"], "value": [0.5, np.nan]}
    )
    write_table(table, tmp_path / "own.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "own.csv"), table, check_dtype=False)
