"""Folders of earlier versions are read as they were meant; those of later ones are refused."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cavalcade import Analysis, InputError, compare, load_comparison, load_run
from cavalcade.comparing import pair_store
from cavalcade.comparing.comparable import find_runs
from cavalcade.comparing.comparison_folder import tables_of
from cavalcade.comparing.pair_store import PairsOnDisk
from cavalcade.concepts import ActivationCache, activation_cache
from cavalcade.folders import FORMAT, put_whole, recover, written_whole
from cavalcade.names import names_of_runs
from cavalcade.runs import MinedRun
from cavalcade.truth import Truth
from cavalcade.visiting.trainers import Trainers
from hardening import REFUSED_FOLDER
from kept_formats import FACTS, FORMATS, compared, facts_of
from run_folders import files_of
from tiny import quiet_trainer, tiny_backbone, tiny_data

KEPT = sorted(FORMATS.glob("format_*"))
FACTS_OF = {place.name: json.loads((place / FACTS).read_text()) for place in KEPT}
RUNS = [(place, run) for place in KEPT for run in FACTS_OF[place.name]]
COMPARED = [(place, method) for place in KEPT for method in ("probes", "nmf")]
ROUNDING = {"rtol": 1e-5, "atol": 1e-7}  # of another machine; tables have six digits


def state_of(folder):
    """Every file with its content, and when it was written."""
    return {
        name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for name in files_of(folder)
        for path in [folder / name]
    }


def said(place):
    return place.name.replace("_", " ")


@pytest.fixture(autouse=True, scope="module")
def nothing_is_written():
    before = state_of(FORMATS)
    yield
    assert state_of(FORMATS) == before


def assert_same(found, kept, where=""):
    """Equal, numbers up to rounding."""
    if isinstance(kept, dict):
        assert list(found) == list(kept), where
        for name in kept:
            assert_same(found[name], kept[name], f"{where}/{name}")
    elif isinstance(kept, list):
        assert len(found) == len(kept), where
        for place, (ours, theirs) in enumerate(zip(found, kept, strict=True)):
            assert_same(ours, theirs, f"{where}[{place}]")
    elif isinstance(kept, float):
        np.testing.assert_allclose(found, kept, **ROUNDING, err_msg=where)
    else:
        assert found == kept, where


def test_folders_of_every_format_are_kept():
    """When the format rises: add what is written now with tests/fixtures/make_format.py."""
    assert [place.name for place in KEPT] == [f"format_{k}" for k in range(1, FORMAT + 1)]


@pytest.mark.parametrize(("place", "run"), RUNS, ids=lambda x: getattr(x, "name", x))
def test_a_run_says_what_it_said(place, run, tried):
    kept = FACTS_OF[place.name][run]
    assert_same(facts_of(load_run(place / run)), kept)
    tried(
        "versions", f"runs of {said(place)}, read now", "every number as it was when they were made"
    )


def test_strengths_that_were_infinite_are_as_strong_as_can_be():
    run = load_run(next((KEPT[0] / "runs").glob("*/probes/quantile-*")))
    assert run.strengths("6").isinf().all()
    assert (run.relative_strengths("6") == 1).all()
    assert run.relative_strengths("2").amax() == 1


@pytest.mark.parametrize(("place", "method"), COMPARED, ids=lambda x: getattr(x, "name", x))
def test_runs_compare_as_they_did(place, method, tried):
    runs, comparison = compared(place, method)
    with np.load(place / "comparisons" / method / "matrices.npz", allow_pickle=False) as arrays:
        for matrices in comparison.matrices.values():
            for matrix in matrices:
                key = f"{matrix.pair.network_a}|{matrix.pair.network_b}|{matrix.measure}"
                np.testing.assert_allclose(matrix.values, arrays[key], **ROUNDING)
                errors = arrays[f"{key}|stderr"]
                np.testing.assert_allclose(matrix.estimate.stderr, errors, **ROUNDING)
    kept = load_comparison(place / "comparisons" / method)
    mined = all(isinstance(run, MinedRun) for run in runs)
    names = names_of_runs(runs, comparison.networks) if mined else None
    tables = tables_of(Analysis(comparison), names)
    for name in ("layer_similarity", "concept_similarity", "pairs", "best_matches", "ceilings"):
        assert (name in tables) == (name in kept.tables)
        if name in tables:
            found, table = tables[name].reset_index(drop=True), kept.tables[name]
            pd.testing.assert_frame_equal(found, table, check_dtype=False, rtol=2e-5, atol=1e-6)
    tried("versions", f"runs of {said(place)}, compared now", "layers as alike as they were then")


@pytest.mark.parametrize(("place", "method"), COMPARED, ids=lambda x: getattr(x, "name", x))
def test_a_comparison_is_read(place, method, tried):
    kept = load_comparison(place / "comparisons" / method)
    matrix = kept.matrix("original", "stranger")
    assert list(matrix.index) == list(matrix.columns) == ["2", "4", "6"]
    with np.load(kept.path / "matrices.npz", allow_pickle=False) as arrays:
        stored = arrays["original|stranger|adjusted"]
    np.testing.assert_allclose(matrix, stored, atol=1e-6, rtol=1e-5)
    assert kept.summary["similarity"] == "adjusted"
    assert set(kept.pairs["measure"]) >= {"adjusted", "cka", "procrustes"}
    tried("versions", f"comparisons of {said(place)}, read now", "every table and matrix there")


@pytest.mark.parametrize("place", KEPT, ids=lambda place: place.name)
def test_pairs_that_were_kept_are_read(place):
    store = PairsOnDisk(place / "pairs")
    files = sorted((place / "pairs").rglob("*.safetensors"))
    assert {path.parents[1].name for path in files} >= {"probes", "halves", "mined"}
    for path in files:
        shapes = {name: a.shape for name, a in load_file(path).items() if a.dtype.kind == "f"}
        arrays = store.read(path.parents[1].name, path.stem, shapes)
        assert arrays is not None
        assert np.isfinite(arrays["value"]).all()
        assert {"without", "repaired"} <= set(arrays)


# what says which format a folder has, and what is said of it
NEWER = (FORMAT + 1, 99, 10**6)
NO_FORMAT = (0, -1, True, False, None, "1", "one", 1.0, 1.5, [1], {"number": 1})
MISSING = object()
READERS = {"run": load_run, "truth": Truth.load, "comparison": load_comparison}


@pytest.fixture
def copies(tmp_path):
    """A folder of each kind, which may be changed."""
    shutil.copytree(KEPT[-1], tmp_path / "copy")
    (truth,) = (tmp_path / "copy/runs").glob("*/truth")
    (run,) = truth.parent.glob("probes/original-*")
    return {"run": run, "truth": truth, "comparison": tmp_path / "copy/comparisons/probes"}


def with_format(folder, value):
    meta = json.loads((folder / "meta.json").read_text())
    meta |= {"format": value}
    kept = {name: entry for name, entry in meta.items() if entry is not MISSING}
    (folder / "meta.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("kind", READERS)
def test_a_newer_format_is_refused(copies, kind, tried):
    for value in NEWER:
        with_format(copies[kind], value)
        said = f"{copies[kind]} has format {value}, this version reads {FORMAT}; update cavalcade$"
        with pytest.raises(InputError, match=said):
            READERS[kind](copies[kind])
    what = "a folder of a newer format, read"
    tried("versions", what, REFUSED_FOLDER, times=len(NEWER))


@pytest.mark.parametrize("kind", READERS)
def test_a_format_that_is_none_is_refused(copies, kind, tried):
    values = (*NO_FORMAT, MISSING)
    for value in values:
        with_format(copies[kind], value)
        with pytest.raises(InputError, match=r"meta\.json.*format.*make it again") as error:
            READERS[kind](copies[kind])
        assert str(copies[kind]) in str(error.value)
    what = "a folder whose format is no whole number, below 1 or missing"
    tried("versions", what, "refused, naming the file", times=len(values))


@pytest.mark.parametrize("kind", READERS)
def test_what_a_newer_version_made_is_not_replaced(copies, kind, tried):
    """Neither by the same run or comparison, made anew, nor by one that is fetched."""
    place = copies[kind]
    other = shutil.copytree(place, place.with_name("other"))
    with_format(place, FORMAT + 1)
    before = state_of(place)

    def write():
        with written_whole(place, kind=kind) as folder:
            (folder / "file").write_text("older")

    tries = (write, lambda: recover(place, kind), lambda: put_whole(other, place, kind))
    for each in tries:
        with pytest.raises(InputError, match="update cavalcade"):
            each()
    assert state_of(place) == before
    assert (other / "meta.json").exists()
    what = "a folder of a newer format, at the place of a new run"
    tried("versions", what, REFUSED_FOLDER, times=len(tries))


def test_runs_of_a_newer_format_are_not_left_out_of_a_comparison(copies):
    with_format(copies["run"], FORMAT + 1)
    with pytest.raises(InputError, match="update cavalcade"):
        find_runs([copies["run"].parents[1]])


@pytest.mark.parametrize(("name", "value"), [("STORE", 99), ("__version__", "99.0")])
def test_pairs_of_a_newer_version_are_neither_read_nor_changed(
    tmp_path, monkeypatch, name, value, tried
):
    runs = find_runs([KEPT[-1] / "runs/*/probes/original-*", KEPT[-1] / "runs/*/probes/stranger-*"])
    cache = tmp_path / "pairs"

    def computed():
        pair_store._installed.cache_clear()
        return len(compare(runs, against=["cka"], repairings=2, cache=cache).store.computed)

    with monkeypatch.context() as newer:
        newer.setattr(pair_store, name, value)
        assert computed() == 3
    theirs = state_of(cache)
    assert computed() == 3
    assert computed() == 0
    ours = state_of(cache)
    assert len(ours) == 2 * len(theirs)
    assert theirs.items() <= ours.items()
    tried(
        "versions", "cached pairs of a newer version, looked for", "not read, and left as they are"
    )
    pair_store._installed.cache_clear()


def test_activations_of_a_newer_version_are_neither_read_nor_changed(tmp_path, monkeypatch, tried):
    def serve():
        backbone, trainers = tiny_backbone(), Trainers(quiet_trainer)
        ActivationCache(tmp_path).serve(backbone, tiny_data(backbone), trainers, trainers.precision)

    with monkeypatch.context() as newer:
        newer.setattr(activation_cache, "__version__", "99.0")
        serve()
    theirs = {path: content for path, (content, _) in state_of(tmp_path).items()}
    serve()
    ours = {path: content for path, (content, _) in state_of(tmp_path).items()}
    assert len([path for path in ours if path.endswith("maps.bin")]) == 2 * 9
    assert theirs.items() <= ours.items()
    what = "cached activations of a newer version, looked for"
    tried("versions", what, "not read, and left as they are")
