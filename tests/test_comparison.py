"""Comparing finished runs, end to end, with a planted answer."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from cavalcade import InputError, compare, load_comparison, load_run
from cavalcade.comparison import check_comparable, find_runs, latest_runs
from cavalcade.comparison_folder import default_name, print_comparison, write_comparison
from cavalcade.concepts import Probes
from tiny import PlantedSquares, adam, shuffled_model, tiny_backbone, tiny_data, tiny_visit


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three runs: a network, its twin with shuffled channels, and a stranger."""
    root = tmp_path_factory.mktemp("runs")
    for label, options in (
        ("original", {}),
        ("shuffled", {"model": shuffled_model()}),
        ("stranger", {"seed": 5}),
    ):
        backbone = tiny_backbone(label=label, **options)
        data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
        tiny_visit(root, backbone, data=data, method=Probes(optimizer=adam, epochs=8))
    return root


@pytest.fixture(scope="module")
def runs(root):
    return latest_runs(root)


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs)


def test_planted_answer_is_found(comparison):
    """Shuffled channels mean the same at the same depth; a stranger does not, chance removed."""
    twin = comparison.matrix("original", "shuffled")
    assert (np.diag(twin) > 0.9).all()
    assert (twin.to_numpy().argmax(axis=1) == np.arange(3)).all()
    pairs = comparison.pairs.set_index(["network_a", "network_b", "measure"])
    assert pairs.loc[("original", "shuffled", "adjusted"), "depth_gap"] == 0
    stranger = comparison.matrix("original", "stranger").to_numpy()
    assert (np.diag(stranger) < np.diag(twin)).all()


def test_network_with_itself_has_a_diagonal_of_ones(comparison):
    for measure in ("jaccard", "adjusted"):
        own = comparison.matrix("original", "original", measure)
        np.testing.assert_allclose(np.diag(own), 1)
        np.testing.assert_allclose(own, own.T)


def test_concept_cells_agree_with_scikit_learn(runs, comparison):
    a, b = runs[0], runs[2]
    table = comparison.concept_similarity
    cells = table[
        (table["network_a"] == a.label)
        & (table["network_b"] == b.label)
        & (table["measure"] == "jaccard")
    ].set_index(["layer_a", "layer_b", "concept"])["value"]
    for layer_a, layer_b in (("2", "6"), ("4", "2")):
        for k, concept in enumerate(a.concepts):
            x, y = a.masks(layer_a)[:, k].flatten(), b.masks(layer_b)[:, k].flatten()
            reference = jaccard_score(x.numpy(), y.numpy())
            assert cells[layer_a, layer_b, concept] == pytest.approx(reference, abs=1e-12)


def test_layer_cells_are_means_over_concepts(comparison):
    concepts = comparison.concept_similarity
    keys = ["network_a", "layer_a", "network_b", "layer_b", "measure"]
    means = concepts.groupby(keys)["value"].mean()
    layers = comparison.layer_similarity.set_index(keys)["value"]
    pd.testing.assert_series_equal(layers.sort_index(), means.sort_index())


def test_folder_has_tables_matrices_and_pictures(comparison, runs, tmp_path):
    place = tmp_path / "c"
    write_comparison(comparison, runs, place)
    table = pd.read_csv(place / "layer_similarity.csv")
    assert list(table.columns) == [
        *("network_a", "layer_a", "depth_a", "network_b", "layer_b", "depth_b"),
        *("measure", "value", "n_concepts"),
    ]
    assert set(table["measure"]) == {"jaccard", "adjusted"}
    with np.load(place / "matrices.npz", allow_pickle=False) as arrays:
        stored = arrays["original|stranger|adjusted"]
        assert arrays["layers|original"].tolist() == ["2", "4", "6"]
        assert (np.diff(arrays["depths|stranger"]) > 0).all()
    loaded = load_comparison(place)
    np.testing.assert_allclose(loaded.matrix("original", "stranger"), stored, atol=1e-5)
    transposed = loaded.matrix("stranger", "original")
    np.testing.assert_allclose(transposed, stored.T, atol=1e-5)
    pictures = sorted((place / "heatmaps").glob("*.png"))
    assert len(pictures) == 6
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 300
    meta = json.loads((place / "meta.json").read_text())
    assert meta["networks"] == ["original", "shuffled", "stranger"]


def test_short_table_names_pairs_and_places(comparison, tmp_path, capsys):
    print_comparison(comparison, tmp_path)
    printed = capsys.readouterr().out
    assert "shuffled" in printed
    assert str(tmp_path / "heatmaps") in printed.replace("\n", "")


def test_runs_are_found_by_folder_and_glob(runs):
    folder = runs[0].path.parent
    assert [run.label for run in find_runs([folder / "s*"])] == ["shuffled", "stranger"]
    both = find_runs([runs[0].path, folder / "original*"])
    assert [run.label for run in both] == ["original"]


def test_nothing_found_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no run folder at '.*nowhere'"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"holds no finished run; run train.py first"):
        latest_runs(tmp_path)
    with pytest.raises(InputError, match="there is no run to compare"):
        compare([])


def test_latest_is_the_data_set_asked_for_last(root, runs, tmp_path):
    other = shutil.copytree(root, tmp_path / "runs")
    backbone = tiny_backbone(label="original")
    data = tiny_data(backbone, PlantedSquares(grid=(8, 8)))
    newer = tiny_visit(other, backbone, data=data)
    assert [run.path for run in latest_runs(other)] == [newer]
    for path in other.glob(f"{runs[0].path.parents[1].name}/probes/*"):
        os.utime(path, (2e9, 2e9))
        os.utime(path / "meta.json", (2e9, 2e9))
    assert len(latest_runs(other)) == 3


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("grid", {"grid": (8, 8)}),
        ("test images", {"grid": (16, 16), "limit": {"test": 30}}),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, what, options, tmp_path):
    backbone = tiny_backbone(label="other")
    other = load_run(
        tiny_visit(tmp_path, backbone, data=tiny_data(backbone, PlantedSquares(**options)))
    )
    with pytest.raises(InputError, match=rf"original-\w+ and other-\w+ cannot .* their {what}"):
        check_comparable([*runs, other])


def test_names_stay_distinct(runs, tmp_path):
    """Two runs of one label are told apart by their digest."""
    backbone = tiny_backbone(label="original", seed=3)
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    twin = load_run(tiny_visit(tmp_path, backbone, data=data))
    names = compare([runs[0], twin]).networks
    assert names == (runs[0].path.name, twin.path.name)


def test_name_depends_on_the_runs_alone(runs):
    assert default_name(runs) == default_name(runs[::-1])
    assert default_name(runs) != default_name(runs[:2])


def test_unknown_matrix_is_an_error(comparison):
    with pytest.raises(InputError, match="no 'cka' matrix of 'original'"):
        comparison.matrix("original", "shuffled", "cka")


def test_one_run_twice_is_named(root, runs, tmp_path):
    copy = shutil.copytree(root, tmp_path / "runs")
    again = load_run(copy / runs[0].path.relative_to(root))
    with pytest.raises(InputError, match="are one run twice; leave one of them out"):
        compare([*runs, again])


def test_a_folder_stands_for_all_runs_in_it(root, runs):
    data = runs[0].path.parents[1]
    for folder in (root, data, data / "probes"):
        assert [run.label for run in find_runs([folder])] == ["original", "shuffled", "stranger"]
