"""Mining a network end to end: the run folder, its tables, what is refused, what repeats."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import nn

from cavalcade import load_run
from cavalcade.concepts import Factorisation
from cavalcade.concepts.factorisation import check_activations
from cavalcade.data import ConceptDataModule, ConceptDataset
from cavalcade.data.geometry import to_common_grid
from cavalcade.errors import InputError
from cavalcade.runs import MinedRun
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import identify
from tiny import PlantedSquares, quiet_trainer, tiny_backbone, tiny_data, tiny_model, tiny_visit

FEW = {"num_concepts": 4, "rows": 2000, "restarts": 2}


def signed_model():
    """Its taps `1` and `3` have negative values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1),
            nn.ReLU(), nn.Identity(), nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6, 2),
        )  # fmt: skip


def squares_visit(runs, backbone=None, **options):
    backbone = backbone or tiny_backbone()
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    return tiny_visit(runs, backbone, data=data, method=Factorisation(**FEW | options))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(squares_visit(tmp_path_factory.mktemp("runs")))


def test_folder_has_the_files_of_the_format(run):
    assert isinstance(run, MinedRun)
    assert run.path.parent.name == "nmf"
    names = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert names == {
        *("config.yaml", "meta.json", "concepts.csv", "names.csv", "concepts.safetensors"),
        *("masks.safetensors", "strengths.safetensors", "features.safetensors"),
        *(f"galleries/{k:02d}-{layer.name}.jpg" for k, layer in enumerate(run.layers)),
    }
    assert {layer.kind for layer in run.concept_set.layers.values()} == {"nmf"}


def test_table_has_a_row_for_each_concept_the_strongest_first(run):
    table = run.table
    assert tuple(zip(table["layer"], table["concept"], strict=True)) == run.concepts
    for _, rows in table.groupby("layer"):
        assert rows["strength"].is_monotonic_decreasing
        assert rows["strength"].sum() == pytest.approx(1, abs=1e-4)
        assert rows["relative_error"].nunique() == 1
    assert table["relative_error"].between(0, 1).all()
    assert table["reproducibility"].between(0, 1 + 1e-6).all()
    assert (table["reproducibility_low"] <= table["reproducibility"] + 1e-6).all()
    assert (table["reproducibility"] <= table["reproducibility_high"] + 1e-6).all()


def test_masks_are_those_of_the_stored_concepts(run):
    backbone = tiny_backbone()
    data = tiny_data(backbone, PlantedSquares(grid=(16, 16)))
    batch = next(iter(data.in_order("test")))
    maps = run.concept_set.encode(backbone(batch.inputs))
    for name, layer in run.concept_set.layers.items():
        expected = layer.fires(to_common_grid(maps[name], batch.frames, (16, 16))).flatten(2)
        assert torch.equal(run.masks(name)[: len(expected)], expected)


def test_strengths_are_zero_exactly_where_nothing_fires(run):
    for layer in run.layers:
        fires = run.masks(layer.name).any(dim=2)
        assert torch.equal(run.strengths(layer.name) > 0, fires)


def test_area_is_the_share_of_pixels_that_fire(run):
    areas = torch.cat([run.masks(layer.name).double().mean(dim=(0, 2)) for layer in run.layers])
    np.testing.assert_allclose(run.table["area"], areas, atol=1e-5)


def test_planted_squares_are_found_and_named_right(run):
    """Labels are unused for mining; the numbers are scikit-learn's on the stored masks."""
    found = run.names[run.names["named"]].sort_values("adjusted", ascending=False)
    best = found.drop_duplicates("label").set_index("label")
    assert set(best.index) == {"red", "green"}
    assert best["adjusted"].min() > 0.5
    for label, row in best.iterrows():
        k = run.concept_set.layers[row["layer"]].names.index(row["concept"])
        truth = run.truth.strata(run.labels.index(label))[:, 0]
        reference = jaccard_score(
            truth.flatten().numpy(), run.masks(row["layer"])[:, k].flatten().numpy()
        )
        assert row["jaccard"] == pytest.approx(reference, abs=1e-5)


def test_same_seed_gives_the_same_files(run, tmp_path):
    again = squares_visit(tmp_path)
    for path in sorted(p for p in run.path.rglob("*") if p.is_file()):
        other = again / path.relative_to(run.path)
        digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, other)]
        assert digests[0] == digests[1], path


@pytest.mark.parametrize("method", ["pca", "kmeans"])
def test_other_methods(method, tmp_path):
    mined = load_run(squares_visit(tmp_path, method=method))
    assert mined.path.parent.name == method
    assert mined.table["relative_error"].between(0, 1).all()
    if method == "kmeans":  # every seen pixel belongs to one centre, but for ties
        covered = [mined.masks(layer.name).double().sum(dim=1) for layer in mined.layers]
        assert all(part.max() <= 1 for part in covered)
        assert covered[0].mean() > 0.99  # of the finest layer; elsewhere borders are in between


@pytest.mark.parametrize("negative", ["split", "relu", "shift"])
def test_the_policy_for_negative_activations_is_recorded(negative, tmp_path):
    backbone = tiny_backbone(("1", "2"), model=signed_model())
    mined = load_run(squares_visit(tmp_path, backbone, negative=negative, restarts=0))
    layers = mined.concept_set.layers
    assert layers["1"].transform == negative
    assert layers["2"].transform == "none"  # after a rectifier there is nothing negative
    assert layers["1"].vectors.shape[1] == (16 if negative == "split" else 8)
    assert mined.table["reproducibility"].isna().all()


def test_image_max_fires_in_every_image(tmp_path):
    mined = load_run(squares_visit(tmp_path, threshold="image_max", share=0.5, restarts=0))
    layer = mined.concept_set.layers["2"]
    assert layer.thresholds_of == "image"
    assert mined.masks("2").any(dim=2).double().mean() > 0.99


def test_area_is_that_of_what_the_network_saw(tmp_path):
    backbone = tiny_backbone(crop_mode="center")
    mined = load_run(squares_visit(tmp_path, backbone, method="kmeans", restarts=0))
    assert mined.seen.double().mean() < 0.7
    of_layer = mined.table[mined.table["layer"] == "2"]["area"].sum()
    assert 0.9 < of_layer <= 1  # borders between centres belong to none


def test_one_training_image_is_no_ground_for_reproducibility(tmp_path):
    backbone = tiny_backbone()
    one = PlantedSquares(grid=(16, 16), counts={"train": 1, "val": 1, "test": 8})
    data = tiny_data(backbone, one)
    mined = load_run(tiny_visit(tmp_path, backbone, data=data, method=Factorisation(**FEW)))
    assert mined.table["reproducibility"].isna().all()


@pytest.mark.parametrize("method", ["nmf", "pca", "kmeans"])
def test_settings_that_a_method_does_not_use_change_no_digest(method):
    unused = {"nmf": {}, "pca": {"negative": "relu"}, "kmeans": {"share": 0.5, "negative": "relu"}}
    one, other = Factorisation(method=method), Factorisation(method=method, **unused[method])
    assert one.identity() == other.identity()


def test_galleries_follow_the_thumbnails_also_of_finished_runs(tmp_path):
    def visited(thumbnails):
        backbone = tiny_backbone()
        data = tiny_data(backbone, PlantedSquares(grid=(16, 16), thumbnails=thumbnails))
        return tiny_visit(tmp_path, backbone, data=data, method=Factorisation(**FEW))

    path = visited(64)
    masks = (path / "masks.safetensors").read_bytes()
    drawn = {p.name: p.read_bytes() for p in (path / "galleries").iterdir()}
    assert visited(None) == path
    assert not (path / "galleries").exists()
    load_run(path)  # whole, with its checksums
    assert not list((path.parents[1] / "truth").glob("thumb*"))
    assert visited(64) == path
    assert {p.name: p.read_bytes() for p in (path / "galleries").iterdir()} == drawn
    assert (path / "masks.safetensors").read_bytes() == masks
    load_run(path)


@pytest.mark.parametrize(
    ("activations", "positive", "message"),
    [
        (-torch.rand(5, 3), True, "layer x has no positive activation.*leave it out of backbone"),
        (torch.zeros(5, 3), True, "layer x has no positive activation.*concepts.method=pca"),
        (torch.ones(1, 3), False, "of layer x only 1 pixel was sampled.*concepts.rows"),
        (torch.ones(5, 3), False, "layer x is the same at all sampled pixels"),
    ],
)
def test_layers_that_cannot_be_mined_are_named(activations, positive, message):
    with pytest.raises(InputError, match=message):
        check_activations("x", activations, positive=positive)


def test_a_dead_layer_leaves_no_run(tmp_path):
    dead = tiny_model()
    with torch.no_grad():
        dead[5].weight.zero_()
        dead[5].bias.fill_(-1)
    with pytest.raises(InputError, match="layer 6 has no positive activation"):
        squares_visit(tmp_path, tiny_backbone(model=dead))
    assert not list(tmp_path.glob("*/nmf/*"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"method": "ica"}, "concepts.method is 'ica'; give one of nmf, pca, kmeans"),
        ({"negative": "abs"}, "concepts.negative is 'abs'; give one of split"),
        ({"threshold": "mean"}, "concepts.threshold is 'mean'; give one of robust_max"),
        ({"num_concepts": 0}, "concepts.num_concepts is 0; give a whole number from 1 up"),
        ({"rows": 0}, "concepts.rows is 0"),
        ({"restarts": -1}, "concepts.restarts is -1; give a whole number from 0 up"),
        ({"share": 1.5}, "concepts.share is 1.5; give a number between 0 and 1"),
    ],
)
def test_settings_are_checked(option, message):
    with pytest.raises(InputError, match=message):
        Factorisation(**option)


@pytest.mark.parametrize(
    "option",
    [
        {"num_concepts": 5}, {"rows": 3000}, {"restarts": 1}, {"threshold": "otsu"},
        {"share": 0.5}, {"negative": "relu"}, {"method": "pca"},
    ],
)  # fmt: skip
def test_every_setting_changes_the_digest(option):
    backbone = tiny_backbone()
    data, trainers = tiny_data(backbone), Trainers(quiet_trainer)
    one, other = (
        json.dumps(identify(backbone, data, Factorisation(**FEW | extra), trainers), default=str)
        for extra in ({}, option)
    )
    assert one != other


def test_splits_that_are_not_needed_are_never_opened():
    class NoValidation(PlantedSquares):
        def open(self, split):
            assert split != "val"
            return super().open(split)

    backbone = tiny_backbone()
    data = ConceptDataModule(
        NoValidation(grid=(16, 16)), backbone.preprocessing, [], splits=Factorisation.splits
    )
    assert set(data.fingerprints) == {"train", "test"}


def test_a_run_without_labels_has_no_names(run, tmp_path):
    class Unlabelled(PlantedSquares):
        def open(self, split):
            return NoLabels(super().open(split))

    backbone = tiny_backbone()
    data = tiny_data(backbone, Unlabelled(grid=(16, 16), name="images"))
    path = tiny_visit(tmp_path, backbone, data=data, method=Factorisation(**FEW))
    mined = load_run(path)
    assert mined.names.empty
    assert not (path / "names.csv").exists()
    pd.testing.assert_frame_equal(mined.table, run.table)  # labels play no part in it
    for layer in run.layers:
        assert torch.equal(mined.masks(layer.name), run.masks(layer.name))


class NoLabels(ConceptDataset):
    """A split without its labels."""

    def __init__(self, split):
        self.split, self.concepts, self.ids, self.groups = split, (), split.ids, split.groups

    def image(self, index):
        return self.split.image(index)

    def labels(self, index):
        return self.split.labels(index).chosen([])
