"""Comparing mined runs, end to end, with a planted answer; naming; what is written."""

import numpy as np
import pandas as pd
import pytest
import torch

from cavalcade import Analysis, InputError, compare, load_comparison, load_run
from cavalcade.comparing import chunks
from cavalcade.comparing.comparable import latest_runs
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import Factorisation, Probes
from cavalcade.names import labels_of_truth, names_of, names_of_runs
from cavalcade.similarity import (
    best_match_mean,
    layer_slices,
    repaired_orders,
    similarity_of_pairs,
)
from tiny import PlantedSquares, shuffled_model, tiny_backbone, tiny_data, tiny_visit


def visit_squares(root, method, label, **options):
    backbone = tiny_backbone(label=label, **options)
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    return tiny_visit(root, backbone, data=data, method=method)


def mining(**options):
    return Factorisation(**{"num_concepts": 5, "rows": 3000, "restarts": 0} | options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A network, its twin with shuffled channels, and a stranger."""
    root = tmp_path_factory.mktemp("runs")
    visit_squares(root, mining(), "original")
    visit_squares(root, mining(), "shuffled", model=shuffled_model())
    visit_squares(root, mining(), "stranger", seed=5)
    return root


@pytest.fixture(scope="module")
def runs(root):
    return latest_runs(root)


@pytest.fixture(scope="module")
def analysis(runs):
    return Analysis(compare(runs, against=["cka", "assignment"], repairings=6))


@pytest.fixture(scope="module")
def folder(analysis, runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("comparisons") / "c"
    names = names_of_runs(runs, analysis.comparison.networks)
    write_comparison(analysis, runs, place, tables_of(analysis, names))
    return load_comparison(place)


@pytest.fixture(scope="module")
def probed(root):
    return load_run(visit_squares(root, Probes(), "original"))


def test_memory_of_re_paired_masks_is_said(runs, monkeypatch, caplog):
    """All concepts of a network are counted together."""
    chunks._warn_once.cache_clear()
    rows, images = len(runs[0].concepts), len(runs[0].truth.ids)
    monkeypatch.setattr(chunks, "MOST_NETWORK_BYTES", 2 * rows * images * 32)
    compare(runs[:2], repairings=1)
    assert not caplog.messages
    monkeypatch.setattr(chunks, "MOST_NETWORK_BYTES", 2 * rows * images * 32 - 1)
    compare(runs[:2], repairings=1)
    (said,) = caplog.messages
    chunks._warn_once.cache_clear()
    assert said.startswith("comparing re-paired masks of two networks of 3 layers on")


def test_planted_answer_is_found(analysis):
    """Shuffled channels mine the same concepts at the same depth; a stranger does not."""
    comparison = analysis.comparison
    twin, stranger = (
        comparison.matrix("original", other).to_numpy() for other in ("shuffled", "stranger")
    )
    assert (twin.argmax(axis=1) == np.arange(3)).all()
    assert (np.diag(twin) > np.diag(stranger) + 0.05).all()
    pairs = analysis.pairs.set_index(["network_a", "network_b", "measure", "statistic"])
    assert pairs.loc[("original", "shuffled", "adjusted", "depth_gap"), "value"] == 0
    jaccard = comparison.matrix("original", "shuffled", "jaccard")
    assert (np.diag(jaccard) > 0.9).all()


def test_a_cell_is_the_best_match_of_its_concepts_less_that_of_re_paired_images(analysis, runs):
    comparison = analysis.comparison
    cells = comparison.concept_cells["original", "stranger"]
    rows, columns = (layer_slices(c)[1] for c in (cells.concepts_a, cells.concepts_b))
    firing = [run.firing() for run in (runs[0], runs[2])]
    blocks = torch.tensor(runs[0].truth.blocks)
    orders = torch.from_numpy(repaired_orders(blocks.numpy(), 6))
    (found,) = similarity_of_pairs(firing, [(0, 1)], None, blocks, orders)
    again = found.repaired["adjusted"][:, rows, columns]
    expected = best_match_mean(cells.adjusted[rows, columns]) - best_match_mean(again).mean()
    matrix = comparison.matrix("original", "stranger")
    assert matrix.iloc[1, 1] == pytest.approx(float(expected), abs=1e-6)


def test_concepts_match_themselves_and_their_twins(analysis):
    own = analysis.comparison.concept_cells["original", "original"]
    fires = ~np.isnan(np.diag(own.jaccard))
    for values in (own.jaccard, own.adjusted):
        np.testing.assert_allclose(np.diag(values)[fires], 1, rtol=1e-6)
    table = analysis.concept_matches
    twins = table[(table["network_a"] == "original") & (table["network_b"] == "shuffled")]
    assert twins["mutual"].all()
    assert (twins["layer_a"] == twins["layer_b"]).all()
    assert twins["adjusted"].min() > 0.8
    assert (twins["low"] <= twins["adjusted"] + 1e-9).all()
    assert (twins["adjusted"] <= twins["high"] + 1e-9).all()
    assert not twins.duplicated(["layer_a", "layer_b", "concept_a"]).any()
    assert not twins.duplicated(["layer_a", "layer_b", "concept_b"]).any()


def test_mutual_partners_are_at_layers_that_choose_each_other(analysis):
    best = analysis.best_matches.set_index(["network_a", "network_b", "network", "layer"])["match"]
    found = set()
    for row in analysis.concept_matches.itertuples():
        pair = (row.network_a, row.network_b)
        forth = best[(*pair, row.network_a, row.layer_a)] == row.layer_b
        back = best[(*pair, row.network_b, row.layer_b)] == row.layer_a
        assert forth or back
        assert row.mutual == (forth and back)
        found.add(row.mutual)
    assert found == {True, False}


def test_folder_tells_which_concepts_are_the_same(folder, analysis, runs):
    files = {p.relative_to(folder.path).as_posix() for p in folder.path.rglob("*")}
    assert {"concept_matches.csv", "concept_matrices.npz", "names.csv"} <= files
    assert "concept_similarity.csv" not in files
    assert sum(name.startswith("galleries/") for name in files) == 3
    pd.testing.assert_frame_equal(
        folder.tables["concept_matches"], analysis.concept_matches, rtol=1e-4
    )
    assert set(folder.tables["names"]["network"]) == set(analysis.comparison.networks)
    with np.load(folder.path / "concept_matrices.npz") as arrays:
        found = arrays["original|shuffled|adjusted"]
        assert found.shape == tuple(len(run.concepts) for run in runs[:2])
        assert arrays["concepts|original"].tolist() == [list(c) for c in runs[0].concepts]


def test_similarity_of_assigned_concepts(runs):
    analysis = Analysis(compare(runs[:2], "assignment", repairings=4))
    assert analysis.networks["original", "shuffled"].value > 0.5
    assert (np.diag(analysis.comparison.matrix("original", "shuffled", "assignment")) > 0.5).all()


def test_measures_of_labels_are_refused(runs, probed):
    with pytest.raises(InputError, match="label_conditional does not exist between runs of nmf"):
        compare(runs, "label_conditional")
    with pytest.raises(InputError, match="assignment does not exist between runs of probes"):
        compare([probed], against=["assignment"])


def test_methods_are_not_mixed(runs, probed):
    with pytest.raises(InputError, match=r"differ in their method \(nmf; probes\)"):
        compare([runs[0], probed])


def test_named_by_probes_as_by_the_truth(runs, probed):
    """Probes that fire where the squares are name the same concepts."""
    run = runs[0]
    by_truth, by_probes = names_of(run), names_of(run, probed)
    clear = by_truth["adjusted"] - by_truth["second_adjusted"] > 0.2
    assert set(by_truth.loc[clear, "label"]) == {"red", "green"}
    assert (by_truth["label"] == by_probes["label"])[clear].all()
    assert by_probes["named"][clear].all()
    assert set(labels_of_truth(run.truth)) == {"red", "green"}


def test_probes_of_other_images_cannot_name(runs, tmp_path):
    backbone = tiny_backbone()
    other = load_run(tiny_visit(tmp_path, backbone))
    with pytest.raises(InputError, match="is of other test images than"):
        names_of(runs[0], other)


def test_numbers_of_concepts_may_differ(root, runs):
    more = load_run(visit_squares(root, mining(num_concepts=8), "more", model=shuffled_model()))
    comparison = compare([runs[0], more], repairings=4)
    matrix = comparison.matrix("original", "more")
    assert np.isfinite(matrix.to_numpy()).all()
    assert (np.diag(matrix) > 0.3).all()
