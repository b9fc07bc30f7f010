"""Compared pairs that are kept: the same numbers to the last bit, and nothing computed twice."""

import json
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file, save_file

from cavalcade import Analysis, InputError, compare, load_run
from cavalcade.comparing import (
    chunks,
    concept_counts,
    feature_matrices,
    mined_matrices,
    stored_numbers,
)
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.comparing.pair_store import PairsOnDisk, _checksum
from cavalcade.comparing.stored_pairs import StoredPairs
from cavalcade.concepts import Factorisation, Probes
from cavalcade.folders import kind_of, read_meta, write_meta
from cavalcade.truth import Truth
from faults import Child, Kill, no_child_is_left  # noqa: F401
from hardening import AGAIN
from tiny import PlantedSquares, tiny_backbone, tiny_data, tiny_visit

NAMES = ("one", "two", "three", "four")
MEASURES = ["cka", "procrustes"]


def visit_squares(root, method):
    backbone = tiny_backbone(label="one")
    counts = {"train": 12, "val": 4, "test": 23}  # blocks of one image and of two
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16), counts=counts))
    return tiny_visit(root, backbone, data=data, method=method)


def changed(folder, name, shift):
    """A run like another whose masks and features are those of other images."""
    place = folder.with_name(name)
    if place != folder:
        shutil.copytree(folder, place)
    for file in ("masks", "features", "halves/masks"):
        path = place / f"{file}.safetensors"
        if path.exists():
            tensors = load_file(path)
            moved = {k: v if k == "seen" else v.roll(shift, 0) for k, v in tensors.items()}
            save_file(moved, path)
    meta = json.loads((place / "meta.json").read_text()) | {"label": name.removesuffix("-0")}
    kept = {k: v for k, v in meta.items() if k not in ("kind", "format", "files")}
    write_meta(place, "run", kept)
    return place


def folders(root, method):
    first = visit_squares(root, method)
    return {"one": first} | {
        name: changed(first, name, 3 * NAMES.index(name)) for name in NAMES[1:]
    }


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    root = tmp_path_factory.mktemp("probed")
    return folders(root, Probes())


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    root = tmp_path_factory.mktemp("mined")
    return folders(root, Factorisation(num_concepts=3, rows=1000, restarts=0))


def compared(places, names, cache, **options):
    """A comparison of some of the runs, by name."""
    runs = [load_run(places[name]) for name in names]
    options = {"against": MEASURES, "repairings": 3} | options
    return compare(runs, cache=cache, **options)


def check_equal(one, other):
    """All tables and matrices to the last bit, networks in any order."""
    for measure, matrices in one.matrices.items():
        assert len(matrices) == len(other.matrices[measure])
        for matrix in matrices:
            again = other.layer_matrix(matrix.pair.network_a, matrix.pair.network_b, measure)
            np.testing.assert_array_equal(matrix.values, again.values)
            np.testing.assert_array_equal(matrix.estimate.without, again.estimate.without)
            np.testing.assert_array_equal(matrix.repaired, again.repaired)
    for measure, halves in one.halves.items():
        for network, matrix in halves.items():
            np.testing.assert_array_equal(matrix.values, other.halves[measure][network].values)
    if one.networks == other.networks:
        pd.testing.assert_frame_equal(
            one.layer_similarity, other.layer_similarity, check_exact=True
        )
        pd.testing.assert_frame_equal(
            one.concept_similarity, other.concept_similarity, check_exact=True
        )
        for pair, cells in one.concept_cells.items():
            for part in ("jaccard", "adjusted", "stderr"):
                again = getattr(other.concept_cells[pair], part)
                np.testing.assert_array_equal(getattr(cells, part), again)


def by_concept(comparison):
    """All cells of concepts by names, in either order of networks."""
    table = comparison.concept_similarity
    keys = ["network_a", "layer_a", "network_b", "layer_b", "concept", "measure"]
    there = table.set_index(keys)[["value", "stderr"]]
    turned = table.rename(columns={f"{x}_{a}": f"{x}_{b}" for x in ("network", "layer")
                                   for a, b in ("ab", "ba")})  # fmt: skip
    both = pd.concat([there, turned.set_index(keys)[["value", "stderr"]]])
    return both[~both.index.duplicated()].sort_index()


@pytest.fixture
def counted(monkeypatch):
    """What is computed: pairs of masks by concept, and pairs of features."""
    found = {"masks": 0, "features": 0}

    def watch(module, name, what, size):
        original = getattr(module, name)

        def watched(*args):
            found[what] += size(*args)
            return original(*args)

        monkeypatch.setattr(module, name, watched)

    for module in (concept_counts, mined_matrices):
        watch(module, "similarity_of_pairs", "masks", lambda _, pairs, *__: len(pairs))
    watch(feature_matrices, "feature_similarity", "features", lambda *_: 1)
    return found


@pytest.mark.parametrize("method", ["probed", "mined"])
def test_one_network_more_costs_its_own_pairs(method, request, tmp_path, counted, caplog):
    """Two concepts, and halves of each network; by features different networks alone."""
    places = request.getfixturevalue(method)
    caplog.set_level(logging.INFO)
    whole = compared(places, NAMES, None)
    assert "computed" not in caplog.text
    counted.update(masks=0, features=0)
    compared(places, NAMES[:3], tmp_path)
    assert counted == {"masks": 6 if method == "mined" else 2 * (6 + 3), "features": 2 * 3}
    counted.update(masks=0, features=0)
    more = compared(places, NAMES, tmp_path)
    assert counted == {"masks": 4 if method == "mined" else 2 * (4 + 1), "features": 2 * 3}
    assert f"4 of 10 pairs computed, 6 read from {tmp_path}" in caplog.text
    check_equal(more, whole)
    counted.update(masks=0, features=0)
    other_order = compared(places, NAMES[::-1], tmp_path)
    fewer = compared(places, NAMES[1:3], tmp_path)
    assert counted == {"masks": 0, "features": 0}
    assert f"0 of 3 pairs computed, 3 read from {tmp_path}" in caplog.text
    check_equal(other_order, whole)
    check_equal(fewer, compared(places, NAMES[1:3], None))
    if method == "probed":
        table, again = by_concept(whole), by_concept(other_order)
        pd.testing.assert_frame_equal(table, again, check_exact=True)


def test_folders_are_equal_to_the_last_bit(probed, tmp_path):
    """From scratch, and from what other comparisons left."""
    compared(probed, NAMES[:2], tmp_path / "pairs", against=["cka"])
    runs = [load_run(probed[name]) for name in NAMES[:3]]
    for name, cache in (("scratch", None), ("more", tmp_path / "pairs")):
        analysis = Analysis(compare(runs, against=["cka"], repairings=3, cache=cache))
        write_comparison(analysis, runs, tmp_path / name, tables_of(analysis), pictures=0)
    files = json.loads((tmp_path / "scratch/meta.json").read_text())["files"]
    assert files == json.loads((tmp_path / "more/meta.json").read_text())["files"]
    assert "matrices.npz" in files
    assert not any(name.startswith(("figures/matrices/", "figures/depth/")) for name in files)


@pytest.mark.parametrize("method", ["probed", "mined"])
def test_numbers_of_pairs_are_kept_in_any_order(method, request, tmp_path, monkeypatch):
    """Their bootstrap is drawn once, and says the same of the networks the other way round."""
    places = request.getfixturevalue(method)
    calls, original = [], stored_numbers.pair_numbers
    monkeypatch.setattr(
        stored_numbers, "pair_numbers", lambda *args: calls.append(1) or original(*args)
    )
    options = {"against": ["cka"], "repairings": 3}
    keys = ["measure", "statistic"]
    first = Analysis(compared(places, NAMES[:2], tmp_path, **options)).pairs.set_index(keys)
    assert len(calls) == 4
    other = Analysis(compared(places, NAMES[1::-1], tmp_path, **options)).pairs.set_index(keys)
    assert len(calls) == 4
    anew = Analysis(compared(places, NAMES[1::-1], None, **options)).pairs.set_index(keys)
    pd.testing.assert_frame_equal(other, anew, check_exact=True)
    names = ["network_a", "network_b"]
    for table in (first, other):
        assert set(table[names].to_numpy().ravel()) == set(NAMES[:2])
    without = [table.drop(columns=names) for table in (first, other)]
    pd.testing.assert_frame_equal(*without, check_exact=True)
    assert first["value"].notna().any()


def test_a_measure_of_features_has_nulls_of_its_own(probed, tmp_path, counted):
    """As what is held against another it has none: the pairs are others."""
    compared(probed, NAMES[:2], tmp_path)
    counted.update(features=0)
    by_cka = compared(probed, NAMES[:2], tmp_path, similarity="cka")
    assert counted["features"] == 3
    check_equal(by_cka, compared(probed, NAMES[1::-1], None, similarity="cka"))


def test_a_run_that_is_made_again_is_never_served_as_it_was(probed, tmp_path):
    places = {name: tmp_path / "squares" / "probes" / f"{name}-0" for name in NAMES[:2]}
    shutil.copytree(probed["one"].parents[1] / "truth", tmp_path / "squares" / "truth")
    for name, place in places.items():
        shutil.copytree(probed[name], place)
    before = compared(places, NAMES[:2], tmp_path / "pairs")
    changed(places["two"], "two-0", 5)
    after = compared(places, NAMES[:2], tmp_path / "pairs")
    assert not np.array_equal(before.matrix("one", "two"), after.matrix("one", "two"))
    np.testing.assert_array_equal(before.matrix("one", "one"), after.matrix("one", "one"))
    check_equal(after, compared(places, NAMES[:2], None))


def copied(place, tmp_path):
    """A run among copies of all others."""
    data = Path(shutil.copytree(place.parents[1], tmp_path / "data"))
    return data / place.relative_to(place.parents[1])


def made_again(place):
    """A run of the same content takes the place of another."""
    old = place.rename(place.with_name("old"))
    shutil.copytree(old, place, copy_function=shutil.copyfile)
    shutil.rmtree(old)


@pytest.mark.parametrize(
    "read",
    [
        lambda run: run.masks(run.layers[0].name),
        lambda run: run.features(run.layers[0].name),
        lambda run: run.strengths(run.layers[0].name),
        lambda run: run.seen,
        lambda run: run.concept_set,
        lambda run: run.scores,
        lambda run: run.stored_firing(0),
        lambda run: run.stored_firing(0, half=1),
        lambda run: run.half_masks(1, 0),
    ],
)
def test_nothing_is_read_of_a_run_that_took_the_place_of_another(read, probed, tmp_path):
    place = copied(probed["one"], tmp_path)
    read(load_run(place))
    run = load_run(place)
    made_again(place)
    with pytest.raises(InputError, match="was made again or deleted while it was read"):
        read(run)


@pytest.mark.parametrize("when", ["loading", "before", "while"])
def test_a_run_that_is_made_again_while_it_is_compared_is_no_number(
    when, probed, tmp_path, monkeypatch
):
    one = copied(probed["one"], tmp_path)
    two = one.with_name("two")
    strata = Truth.strata_bits

    def strata_and_run(truth, concept):
        if concept == 1:
            made_again(two)
        return strata(truth, concept)

    def meta_and_run(place, kind):
        meta = read_meta(place, kind)
        if place == two:
            made_again(two)
        return meta

    def load_and_compare():
        runs = [load_run(one), load_run(two)]
        if when == "before":
            made_again(two)
        compare(runs, repairings=3, cache=tmp_path / "pairs")

    if when == "loading":
        monkeypatch.setattr("cavalcade.runs.read_meta", meta_and_run)
    if when == "while":
        monkeypatch.setattr(Truth, "strata_bits", strata_and_run)
    with pytest.raises(InputError, match=f"{two}.* was made again .* the same command again"):
        load_and_compare()
    assert not list((tmp_path / "pairs").rglob("*.safetensors"))


def test_other_repairings_are_computed(probed, tmp_path, counted):
    compared(probed, NAMES[:2], tmp_path, against=[])
    counted.update(masks=0)
    none = compared(probed, NAMES[:2], tmp_path, against=[], repairings=0)
    assert counted["masks"] == 2 * 3  # the halves have none
    check_equal(none, compared(probed, NAMES[:2], None, against=[], repairings=0))


KEPT = "kept pairs, damaged or of other shapes"


def files_of(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "of another"])
def test_a_damaged_file_is_computed_again(harm, probed, tmp_path, counted, caplog, tried):
    compared(probed, NAMES[:2], tmp_path, against=[])
    path, other = files_of(tmp_path / "probes")[:2]
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-9],
            "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "emptied": b"",
            "of another": other.read_bytes(),
        }[harm]
    )
    counted.update(masks=0)
    again = compared(probed, NAMES[:2], tmp_path, against=[])
    assert counted["masks"] == 2
    (line,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert str(path) in line.getMessage()
    assert path.read_bytes() == content
    check_equal(again, compared(probed, NAMES[:2], None, against=[]))
    tried("folders", KEPT, AGAIN)


FOREIGN = {  # with a checksum that fits
    "an array less": lambda arrays: {k: x for k, x in arrays.items() if k != "repaired"},
    "an array more": lambda arrays: {**arrays, "more": np.zeros(3)},
    "another shape": lambda arrays: {**arrays, "value": arrays["value"][..., :-1]},
    "axes turned": lambda arrays: {**arrays, "without": np.moveaxis(arrays["without"], 2, 0)},
    "whole numbers": lambda arrays: {**arrays, "value": np.ones(arrays["value"].shape, int)},
    "whole numbers more": lambda arrays: {**arrays, "more": np.ones(3, int)},
    "far too large": lambda arrays: {**arrays, "more": np.zeros(10**6)},
}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("harm", [*FOREIGN, "a pipe", "a folder"])
def test_numbers_that_do_not_fit_are_computed_again(harm, probed, tmp_path, counted, caplog, tried):
    whole = compared(probed, NAMES[:2], tmp_path, against=[])
    path, *_ = files_of(tmp_path / "probes")
    if harm in FOREIGN:
        arrays = FOREIGN[harm](load_arrays(path.read_bytes()))
        arrays.pop("checksum")
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        path.write_bytes(save_arrays(arrays | {"checksum": _checksum(path.stem, arrays)}))
    else:
        path.unlink()
        (os.mkfifo if harm == "a pipe" else os.mkdir)(path)
    counted.update(masks=0)
    caplog.clear()
    if harm == "a folder":  # which nobody may remove
        with pytest.raises(InputError, match="cannot keep compared pairs in"):
            compared(probed, NAMES[:2], tmp_path, against=[])
        return
    check_equal(compared(probed, NAMES[:2], tmp_path, against=[]), whole)
    assert counted["masks"] == 2
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert str(path) in line
    tried("folders", KEPT, AGAIN)


def test_a_killed_comparison_goes_on(probed, tmp_path, counted, monkeypatch):
    """Each chunk is stored before the next starts; chunks here are of one pair each."""
    monkeypatch.setattr(concept_counts, "MOST_BYTES", 0)
    write, written = StoredPairs.write, []

    def killed(self, key, arrays):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(self, key, arrays)
        written.append(key)

    with monkeypatch.context() as patch:
        patch.setattr(StoredPairs, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            compared(probed, NAMES[:3], tmp_path, against=[])
    counted.update(masks=0)
    rest = compared(probed, NAMES[:3], tmp_path, against=[])
    assert counted["masks"] == 2 * (6 - 3 + 3)
    check_equal(rest, compared(probed, NAMES[:3], None, against=[]))
    assert all(path.suffix == ".safetensors" for path in files_of(tmp_path))


def test_a_place_that_cannot_be_written_is_said_at_once(probed, tmp_path, counted):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot keep compared pairs in .*file.*cache=null"):
        compared(probed, NAMES[:2], tmp_path / "file")
    assert counted["masks"] == 0


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    store = PairsOnDisk(tmp_path)

    def full(path, _):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device\); give another place"):
        store.write("cka", "ab", {"value": np.ones(2)})
    assert not files_of(tmp_path)


def test_a_folder_that_may_only_be_read_serves_what_it_has(probed, tmp_path, monkeypatch):
    whole = compared(probed, NAMES[:2], tmp_path)

    def refused(*_):
        raise AssertionError

    monkeypatch.setattr(PairsOnDisk, "_writing", refused)
    check_equal(compared(probed, NAMES[1::-1], tmp_path), whole)


@pytest.mark.parametrize("method", ["probed", "mined"])
@pytest.mark.parametrize("refused", [("touch", "write_bytes"), ("replace",)])
def test_what_a_folder_lacks_that_may_only_be_read_is_computed(
    method, refused, request, tmp_path, monkeypatch, counted, caplog
):
    """The whole folder, or what others have made in it."""
    places = request.getfixturevalue(method)
    Analysis(compared(places, NAMES[:2], tmp_path))
    whole = compared(places, NAMES[:3], None)
    files, again = files_of(tmp_path), dict(counted)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in refused:
        monkeypatch.setattr(f"pathlib.Path.{name}", refuse)
    counted.update(masks=0, features=0)
    caplog.clear()
    found = compared(places, NAMES[:3], tmp_path)
    assert 0 < counted["masks"] < again["masks"]
    check_equal(found, whole)
    pd.testing.assert_frame_equal(Analysis(found).pairs, Analysis(whole).pairs, check_exact=True)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert line == (
        f"{tmp_path} may only be read (Permission denied): pairs that it lacks are computed, and "
        "not kept"
    )
    assert files_of(tmp_path) == files


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(InputError, match=r"keep compared pairs in .*new \(Permission denied\)"):
        PairsOnDisk(tmp_path / "new").check_writable()


def test_what_killed_writers_left_is_removed_after_a_day(probed, tmp_path):
    old, new, others = (
        tmp_path / name
        for name in (".cavalcade-0.partial", ".cavalcade-1.partial", ".settings-of-another")
    )
    for path in (old, new, others):
        path.touch()
    for path in (old, others):
        os.utime(path, (time.time() - 90000,) * 2)
    compared(probed, NAMES[:2], tmp_path, against=[])
    assert {path for path in files_of(tmp_path) if path.suffix != ".safetensors"} == {new, others}


def test_a_writer_leaves_what_is_not_whole_where_it_is_looked_for(tmp_path):
    kill = Kill(Path, "replace")
    store = PairsOnDisk(tmp_path / "pairs")
    child = Child(lambda: store.write("cka", "ab", {"value": np.ones(2)}), tmp_path / "log", kill)
    assert child.wait() == -9, child.said
    (left,) = files_of(tmp_path / "pairs")
    os.utime(left, (1, 1))
    store.check_writable()
    assert not files_of(tmp_path / "pairs")


def test_pairs_are_no_comparison_and_no_run(probed, tmp_path):
    compared(probed, NAMES[:2], tmp_path / ".pairs", against=[])
    assert kind_of(tmp_path / ".pairs") is None
    assert not list(tmp_path.rglob("meta.json"))


def test_the_same_content_twice_is_one_pair(probed, tmp_path, counted):
    """Copies are computed as a network with itself, and every pair has its numbers."""
    copy = tmp_path / "squares" / "probes" / "copy-0"
    shutil.copytree(probed["one"].parents[1] / "truth", tmp_path / "squares" / "truth")
    shutil.copytree(probed["one"], copy)
    comparison = compared({"one": probed["one"], "copy": copy}, ("one", "copy"), None, against=[])
    assert counted["masks"] == 2 * (1 + 1)
    one, other = comparison.networks
    for pair in ((one, other), (other, other)):
        np.testing.assert_array_equal(comparison.matrix(*pair), comparison.matrix(one, one))


@pytest.mark.parametrize("most", [(1, 2), (4, 4), (6, 100), (400, 7), (400, 400)])
@pytest.mark.parametrize("new", [(), (0,), (7,), (19,), (3, 4, 11), range(20)])
def test_rectangles_cover_what_is_missing_once(most, new):
    every = [(i, j) for i in range(20) for j in range(i, 20)]
    missing = [(i, j) for i, j in every if i in new or j in new or (i, j) in ((0, 9), (5, 18))]
    found = chunks.rectangles(missing, *most)
    assert sorted(pair for chunk in found for pair in chunk) == missing
    for chunk in found:
        assert len(chunk) <= most[0]
        assert len({network for pair in chunk for network in pair}) <= most[1]


def test_one_network_more_is_two_rectangles():
    """Its column, and its row: no pair beside it is counted, and other networks are read once."""
    missing = [(min(i, 40), max(i, 40)) for i in range(100)]
    column, row = chunks.rectangles(missing, 230, 400)
    assert {j for _, j in column} == {i for i, _ in row} == {40}
    (everything,) = chunks.rectangles([(i, j) for j in range(9) for i in range(j + 1)], 230, 400)
    assert len(everything) == 45


def test_numbers_of_chunks_do_not_depend_on_them(probed, monkeypatch):
    whole = compared(probed, NAMES, None)
    for module in (concept_counts, feature_matrices):
        monkeypatch.setattr(module, "MOST_NETWORK_BYTES", 0)
    check_equal(compared(probed, NAMES, None), whole)
