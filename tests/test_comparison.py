"""Comparing finished runs, end to end, with a planted answer."""

import itertools
import json
import logging
import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from cavalcade import Analysis, InputError, compare, load_comparison, load_run
from cavalcade.comparing import chunks, concept_counts
from cavalcade.comparing.comparable import latest_runs
from cavalcade.comparing.comparison_folder import default_name, tables_of, write_comparison
from cavalcade.comparing.feature_matrices import feature_matrices
from cavalcade.comparing.pictures import drawn_pairs, print_comparison
from cavalcade.comparing.stored_pairs import features_of
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataset, Labels
from cavalcade.data.groups import two_halves
from cavalcade.similarity import CONCEPT_MEASURES, Pair, prepare, repaired_orders
from tiny import PlantedSquares, shuffled_model, tiny_backbone, tiny_data, tiny_visit


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A network, its twin with shuffled channels, a stranger, and two that count as random."""
    root = tmp_path_factory.mktemp("runs")
    for label, options in (
        ("original", {}),
        ("shuffled", {"model": shuffled_model()}),
        ("stranger", {"seed": 5}),
        ("random-1", {"seed": 11, "random": True}),
        ("random-2", {"seed": 12, "random": True}),
    ):
        backbone = tiny_backbone(label=label, **options)
        data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
        tiny_visit(root, backbone, data=data, method=Probes())
    return root


@pytest.fixture(scope="module")
def runs(root):
    return latest_runs(root)


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs, against=["cka", "procrustes"], repairings=6)


@pytest.fixture(scope="module")
def analysis(comparison):
    return Analysis(comparison)


@pytest.fixture(scope="module")
def folder(analysis, runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("comparisons") / "c"
    write_comparison(analysis, runs, place, tables_of(analysis))
    return place


def test_planted_answer_is_found(comparison, analysis):
    """Shuffled channels mean the same at the same depth; a stranger does not, chance removed."""
    twin = comparison.matrix("original", "shuffled")
    assert (np.diag(twin) > 0.9).all()
    assert (twin.to_numpy().argmax(axis=1) == np.arange(3)).all()
    pairs = analysis.pairs.set_index(["network_a", "network_b", "measure", "statistic"])
    assert pairs.loc[("original", "shuffled", "adjusted", "depth_gap"), "value"] == 0
    stranger = comparison.matrix("original", "stranger").to_numpy()
    assert (np.diag(stranger) < np.diag(twin)).all()


def test_network_with_itself_has_a_diagonal_of_ones(comparison):
    for measure in CONCEPT_MEASURES:
        own = comparison.matrix("original", "original", measure)
        np.testing.assert_allclose(np.diag(own), 1)
        np.testing.assert_allclose(own, own.T, atol=1e-6)


def test_concept_cells_agree_with_scikit_learn(runs, comparison):
    a, b = (next(run for run in runs if run.label == name) for name in ("original", "stranger"))
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
    layers = layers[layers.index.get_level_values("measure").isin(CONCEPT_MEASURES)]
    pd.testing.assert_series_equal(layers.sort_index(), means.sort_index())


def test_every_cell_has_an_error_and_a_ceiling(comparison):
    layers = comparison.layer_similarity
    equal = np.isclose(layers["value"], 1)  # what is equal in all images is so without some
    assert equal.mean() < 0.3
    assert (layers.loc[~equal, "stderr"] > 0).all()
    np.testing.assert_allclose(layers.loc[equal, "stderr"], 0, atol=1e-6)
    assert comparison.concept_similarity["stderr"].notna().all()
    adjusted = layers[layers["measure"] == "adjusted"]
    assert adjusted["ceiling"].between(0, 1).all()
    share = adjusted["value"] / adjusted["ceiling"]
    pd.testing.assert_series_equal(adjusted["share_of_ceiling"], share, check_names=False)
    assert layers.loc[layers["measure"] == "cka", "ceiling"].isna().all()


def test_the_network_that_is_nearer_is_named(analysis):
    nearer = analysis.nearer.set_index(["network", "nearer", "farther"])
    row = nearer.loc[("original", "shuffled", "stranger")]
    assert row["difference"] > 0
    assert row["low"] > 0
    assert row["q"] < 0.05


def test_twins_cluster_together(analysis):
    tree = analysis.networks.tree()
    first = {tree.networks[int(k)] for k in tree.linkage[0, :2]}
    assert first == {"original", "shuffled"}
    assert tree.support[0] == 1


def test_random_twins_are_the_null_of_trained_pairs(analysis):
    pairs = analysis.pairs.set_index(["network_a", "network_b", "measure", "statistic"])
    twin = pairs.loc[("random-1", "random-2", "adjusted", "mean_best_match")]
    row = pairs.loc[("original", "shuffled", "adjusted", "mean_best_match")]
    assert row["kind"] == "trained"
    assert twin["kind"] == "random"
    assert row["random"] == twin["value"]
    assert row["z_random"] > 3
    assert np.isnan(twin["z_random"])
    assert row["z_repaired"] > 3
    similarity = pairs.loc[("original", "shuffled", "adjusted", "similarity")]
    assert similarity["value"] == pytest.approx(row["value"], abs=0.05)
    assert similarity["repaired"] == pytest.approx(0, abs=0.05)


def test_twins_without_halves_are_no_null_of_a_share_of_the_ceiling(comparison):
    halves = {
        measure: {name: half for name, half in own.items() if not comparison.random[name]}
        for measure, own in comparison.halves.items()
    }
    pairs = Analysis(replace(comparison, halves=halves)).pairs
    own = pairs.query("network_a == 'original' and network_b == 'shuffled'")
    random = own.query("measure == 'adjusted'").set_index("statistic")["random"]
    assert np.isfinite(random["similarity"])
    assert np.isnan(random["share_of_ceiling"])


def test_random_networks_are_told_apart(comparison):
    kinds = {m.pair.title: comparison.kind(m.pair) for m in comparison.between("adjusted")}
    assert kinds["original and stranger"] == "trained"
    assert kinds["original and random-1"] == "mixed"
    assert kinds["random-1 and random-2"] == "random"


def test_similarity_may_be_any_measure(comparison, runs):
    """Same outputs, same errors, for measures that know no concepts."""
    geometry = compare(runs, "cka", ["adjusted"], repairings=3)
    analysis = Analysis(geometry)
    number = analysis.networks["original", "shuffled"]
    assert number.value == analysis.numbers["cka"]["original", "shuffled"]["similarity"].value
    assert np.isfinite([number.z, *number.interval]).all()
    assert analysis.networks["original", "stranger"].stderr > 0
    assert "adjusted" in set(analysis.agreement["measure"])
    assert analysis.flow.empty
    np.testing.assert_array_equal(
        geometry.matrix("original", "stranger", "cka"),
        comparison.matrix("original", "stranger", "cka"),
    )
    for options in ({"similarity": "ckaa"}, {"against": ["ckaa"]}):
        with pytest.raises(InputError, match="is 'ckaa'; give one of jaccard"):
            compare(runs, **options)
    with pytest.raises(InputError, match="repairings is -1; give a whole number from 0 up"):
        compare(runs, repairings=-1)


def test_layers_and_networks_are_asked_which_is_nearer(analysis):
    found = analysis.is_nearer("original", "stranger", "shuffled")
    assert (found["nearer"], found["farther"]) == ("shuffled", "stranger")
    row = analysis.nearer.set_index(["network", "nearer", "farther"])
    assert found["p"] == row.loc[("original", "shuffled", "stranger"), "p"]
    found = analysis.is_nearer(("original", "4"), ("shuffled", "2"), ("shuffled", "4"))
    assert found["nearer"] == "shuffled: 4"
    cells = analysis.comparison.matrix("original", "shuffled")
    assert found["difference"] == pytest.approx(cells.loc["4", "4"] - cells.loc["4", "2"])
    assert found["p"] < 0.05
    with pytest.raises(InputError, match="network is 'vgg'; give one of original"):
        analysis.similarity_of("vgg", "original")
    with pytest.raises(InputError, match="layer of shuffled is '9'; give one of 2, 4, 6"):
        analysis.similarity_of(("original", "4"), ("shuffled", "9"))
    with pytest.raises(InputError, match="are a network and a layer; give two networks, or two"):
        analysis.similarity_of("original", ("shuffled", "4"))


def test_agreement_covers_the_cells_of_all_pairs(analysis):
    table = analysis.agreement.set_index("measure")
    assert list(table.index) == ["jaccard", "label_conditional", "cka", "procrustes"]
    assert (table["cells"] == 10 * 9).all()
    assert (table["low"] <= table["value"]).all()
    assert len(analysis.disagreements) == 4 * 20


def test_folder_has_tables_matrices_and_pictures(folder, runs):
    table = pd.read_csv(folder / "layer_similarity.csv")
    assert list(table.columns) == [
        *("network_a", "layer_a", "depth_a", "network_b", "layer_b", "depth_b"),
        *("measure", "value", "stderr", "n_concepts", "ceiling", "share_of_ceiling"),
    ]
    assert set(table["measure"]) == {*CONCEPT_MEASURES, "cka", "procrustes"}
    with np.load(folder / "matrices.npz", allow_pickle=False) as arrays:
        stored = arrays["original|stranger|adjusted"]
        assert (arrays["original|stranger|adjusted|stderr"] > 0).all()
        assert arrays["layers|original"].tolist() == ["2", "4", "6"]
        assert (np.diff(arrays["depths|stranger"]) > 0).all()
    loaded = load_comparison(folder)
    np.testing.assert_allclose(loaded.matrix("original", "stranger"), stored, atol=1e-5)
    transposed = loaded.matrix("stranger", "original")
    np.testing.assert_allclose(transposed, stored.T, atol=1e-5)
    with pytest.raises(InputError, match="no 'knn' matrix of 'original' and 'stranger'"):
        loaded.matrix("original", "stranger", "knn")
    for name in ("pairs", "best_matches", "ceilings", "nearer", "agreement", "disagreements"):
        assert len(loaded.tables[name]), name
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["networks"] == [run.label for run in runs]


def test_every_pair_and_statement_has_its_picture(folder):
    figures = folder / "figures"
    pictures = sorted(p.relative_to(figures).as_posix() for p in folder.rglob("*.png"))
    assert len([p for p in pictures if p.startswith("matrices/")]) == 15
    assert len([p for p in pictures if p.startswith("depth/")]) == 10
    assert {"networks.png", "agreement.png", "flow.png"} <= set(pictures)
    for picture in pictures:
        with Image.open(figures / picture) as image:
            assert min(image.size) > 300
            assert len(image.convert("L").histogram()) - image.convert("L").histogram().count(0) > 9
        assert (figures / picture).with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_only_the_first_pairs_are_drawn(analysis):
    """Trained ones first; a network with itself while there are no more networks than that."""
    first = [pair.title for pair in drawn_pairs(analysis, 4)]
    assert first[:3] == ["original and shuffled", "original and stranger", "shuffled and stranger"]
    assert len(first) == 4
    some = drawn_pairs(analysis, 5)
    assert sum(pair.of_one for pair in some) == 5
    assert len(some) == 10
    assert len(drawn_pairs(analysis, None)) == len(drawn_pairs(analysis, 10)) == 15


def test_names_of_layers_are_read_as_text(folder):
    """Layers are called 2, 4, 6 here: they are names in every table."""
    tables = load_comparison(folder).tables
    assert set(tables["best_matches"]["match"]) <= {"2", "4", "6"}
    assert set(tables["flow"]["differs_from"]) <= {"2", "4", "6", ""}


def test_short_table_names_pairs_findings_and_places(analysis, tmp_path, capsys):
    print_comparison(analysis, tmp_path)
    printed = capsys.readouterr().out
    assert "shuffled" in printed
    assert (
        "Over 3 pairs of trained networks, the mean adjusted Jaccard index of layers"
        in " ".join(printed.split())
    )
    assert str(tmp_path) in printed.replace("\n", "")


def test_names_stay_distinct(runs, tmp_path):
    """Two runs of one label are told apart by their digest."""
    backbone = tiny_backbone(label="original", seed=3)
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    twin = load_run(tiny_visit(tmp_path, backbone, data=data))
    original = next(run for run in runs if run.label == "original")
    names = compare([original, twin], repairings=1).networks
    assert names == (original.path.name, twin.path.name)


def test_name_depends_on_the_runs_alone(runs):
    assert default_name(runs) == default_name(runs[::-1])
    assert default_name(runs) != default_name(runs[:2])
    assert default_name(runs, "cka") == f"{default_name(runs)}-cka"


def test_unknown_matrix_is_an_error(comparison):
    with pytest.raises(InputError, match="no 'rsa' matrix of 'original'"):
        comparison.matrix("original", "shuffled", "rsa")


def test_unequal_blocks_have_a_null_for_features_too(runs):
    """Images of other blocks repeat then: no permutation, so layers are prepared again."""
    pairs = {(0, 1): Pair("a", runs[0].layers, "b", runs[1].layers)}
    blocks = np.repeat(np.arange(5), [2, 14, 3, 20, 1])
    orders = repaired_orders(blocks, 4)
    assert any(len(set(order)) < 40 for order in orders)
    for measure in ("knn", "cka", "rsa_spearman"):
        (matrix,) = feature_matrices(runs, pairs, measure, blocks, orders)
        first, second = sorted(runs[:2], key=features_of)  # re-paired are those of the second
        one, other = ([run.features(x.name).numpy() for x in run.layers] for run in (first, second))
        for order, found in zip(orders, matrix.repaired, strict=True):
            again = prepare(measure, [layer[order] for layer in other])
            expected = prepare(measure, one).similarity(again)
            np.testing.assert_allclose(found, expected if first is runs[0] else expected.T)


@pytest.fixture
def little_memory(monkeypatch):
    chunks._warn_once.cache_clear()
    monkeypatch.setattr(chunks, "MOST_NETWORK_BYTES", 7_000)
    monkeypatch.setattr(chunks, "GIGABYTE", 1e3)
    yield
    chunks._warn_once.cache_clear()


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        # two networks of 3 layers: 4 bytes for each two of 40 images, twice
        (
            {"against": ["cka", "knn"], "repairings": 0},
            ["pooled features .* some 76.8 GB .*data.te"],
        ),
        (
            {"similarity": "rsa", "repairings": 0},
            ["agreement=\\[\\] and a similarity= of concepts"],
        ),
        # no more axes than channels: 8, 12 and 16 of them
        ({"against": ["procrustes"], "repairings": 0}, ["some 46.1 GB"]),
        # 256 bits for each image at 3 layers, of one concept at a time
        ({"repairings": 1}, ["re-paired masks of two .* 3 layers on 40 .* 7.7 GB .* repairings=0"]),
        ({"repairings": 0}, []),
    ],
)
def test_memory_beyond_what_a_chunk_may_take_is_said_once(runs, options, said, caplog):
    compare(runs[:2], **options)
    messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    for message, pattern in zip(messages, said, strict=True):
        assert re.search(pattern, message)


@pytest.mark.usefixtures("little_memory")
def test_memory_of_pairs_that_are_stored_is_not_said(runs, tmp_path, caplog):
    for _ in range(2):
        chunks._warn_once.cache_clear()
        compare(runs[:2], against=["cka"], repairings=0, cache=tmp_path)
    assert sum("GB of memory" in message for message in caplog.messages) == 1


@dataclass(kw_only=True)
class NoGreenAtFirst(PlantedSquares):
    """The first half of the training images does not show the second concept."""

    def open(self, split):
        images = super().open(split)
        return WithoutGreen(images) if split == "train" else images


class WithoutGreen(ConceptDataset):
    def __init__(self, images):
        self.images = images
        self.concepts, self.ids, self.groups = images.concepts, images.ids, images.groups
        halves = two_halves(self.groups)
        self.without = {k for k, half in enumerate(halves) if half == 0}

    def image(self, index):
        return self.images.image(index)

    def labels(self, index):
        masks, labelled = self.images.labels(index)
        masks[1] &= index not in self.without
        return Labels(masks, labelled)


def test_a_concept_that_one_half_never_shows_is_left_out_everywhere(tmp_path):
    found = []
    for label, seed in (("one", 0), ("two", 5)):
        backbone = tiny_backbone(label=label, seed=seed)
        data = tiny_data(backbone, NoGreenAtFirst(grid=(16, 16)))
        method = Probes()
        found.append(load_run(tiny_visit(tmp_path, backbone, data=data, method=method)))
    comparison = compare(found, repairings=2)
    assert comparison.left_out == ("green",)
    for matrices in comparison.matrices.values():
        assert {matrix.concepts for matrix in matrices} == {("red",)}
    for half in comparison.halves["adjusted"].values():
        assert half.concepts == ("red",)
    cells = comparison.concept_similarity  # it is known of the whole networks
    assert cells.loc[cells["concept"] == "green", "value"].notna().all()


@pytest.mark.parametrize("place", ["between", "own"])
def test_a_number_and_its_null_are_means_over_the_same_concepts(runs, place, monkeypatch):
    """One cell of one re-pairing has no value; of a network with itself, that cell has none."""
    original, pair = concept_counts.similarity_of_pairs, (0, 1) if place == "between" else (0, 0)
    calls = itertools.count()

    def one_is_missing(networks, pairs, *rest):
        found, concept = list(original(networks, pairs, *rest)), next(calls)
        if concept == 1 and pair in pairs:
            found[pairs.index(pair)].repaired["adjusted"][2, 0, 1] = np.nan
        return iter(found)

    monkeypatch.setattr(concept_counts, "similarity_of_pairs", one_is_missing)
    comparison = compare(runs[:2], repairings=4)
    kept = ("red",) if place == "between" else ("red", "green")
    assert comparison.left_out == (("green",) if place == "between" else ())
    for matrices in comparison.matrices.values():
        assert {matrix.concepts for matrix in matrices} == {kept}
    missing = [np.argwhere(np.isnan(m.repaired)) for m in comparison.matrices["adjusted"]]
    assert np.concatenate(missing).tolist() == ([[2, 0, 1]] if place == "own" else [])


def test_the_same_run_of_two_folders_is_as_alike_as_can_be(runs, tmp_path):
    """Their similarity is 1 without an error, and they can be clustered."""
    twin = tmp_path / "runs" / "squares" / "probes" / "twin-0"
    original = next(run for run in runs if run.label == "original")
    shutil.copytree(original.path.parents[1] / "truth", twin.parents[1] / "truth")
    shutil.copytree(original.path, twin)
    stranger = next(run for run in runs if run.label == "stranger")
    analysis = Analysis(compare([original, load_run(twin), stranger], repairings=3))
    number = analysis.networks[original.path.name, "twin-0"]
    assert number.value == pytest.approx(1)
    assert number.stderr == pytest.approx(0, abs=1e-9)
    assert analysis.networks.tree().linkage[0, 2] == pytest.approx(0)
