"""What a report says in words is true of every measure and method, and where nothing is defined."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from browsing import CHROMIUM
from cavalcade import Analysis, compare
from cavalcade.backbones import Layer
from cavalcade.comparing.comparable import latest_runs
from cavalcade.comparing.report_answers import (
    concept_agreement,
    layer_matches,
    least_alike,
    most_alike,
)
from cavalcade.comparing.report_parts import ReportParts, write_report
from cavalcade.concepts import Factorisation, Probes
from cavalcade.data import Labels
from cavalcade.similarity import Estimate, LayerMatrix, Pair
from tiny import PlantedSquares, Squares, tiny_backbone, tiny_data, tiny_visit

browsed = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class SomeSquares(Squares):
    concepts = ("red", "never")

    def labels(self, index):
        masks, labelled = super().labels(index)
        return Labels(torch.stack([masks[0], torch.zeros_like(masks[0])]), labelled)


@dataclass(kw_only=True)
class OneConcept(PlantedSquares):
    """Red squares, and a concept that no image shows."""

    def open(self, split):
        return SomeSquares(self.size, self.counts[split], ["train", "val", "test"].index(split))


class UnseenSquares(SomeSquares):
    """The test images show no red square."""

    def draw(self, index):
        image, masks = super().draw(index)
        if self.seed == 2:
            return torch.full_like(image, 128), torch.zeros_like(masks)
        return image, masks


@dataclass(kw_only=True)
class NoConcept(PlantedSquares):
    """The same, where what was learnt is in no test image."""

    def open(self, split):
        return UnseenSquares(self.size, self.counts[split], ["train", "val", "test"].index(split))


def made_runs(root, method, data, count=2):
    for seed in range(count):
        backbone = tiny_backbone(label=f"n{seed}", seed=seed)
        tiny_visit(root, backbone, data=tiny_data(backbone, data), method=method)
    return latest_runs(root)


def made_page(runs, folder, similarity="adjusted", repairings=16):
    analysis = Analysis(compare(runs, similarity, repairings=repairings))
    write_report(analysis, runs, None, folder / "report")
    return analysis


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    data = PlantedSquares(grid=(16, 16), thumbnails=None)
    return made_runs(tmp_path_factory.mktemp("probed"), Probes(), data, count=4)


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    method = Factorisation(num_concepts=3, rows=2000, restarts=0)
    data = PlantedSquares(grid=(16, 16), thumbnails=None)
    return made_runs(tmp_path_factory.mktemp("mined"), method, data)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    data = NoConcept(grid=(16, 16), thumbnails=None)
    return made_runs(tmp_path_factory.mktemp("unseen"), Probes(), data)


def text_of(page, selector):
    return page.locator(selector).first.inner_text()


def answer(page, number):
    return text_of(page, f"#answers tr:first-child td:nth-of-type({number})")


def help_of(page):
    return text_of(page, "#help")


@browsed
def test_chance_is_that_of_the_chosen_measure(probed, tmp_path, opened):
    analysis = made_page(probed[:2], tmp_path, "cka")
    (matrix,) = analysis.comparison.between("cka")
    place = np.unravel_index(matrix.values.argmax(), matrix.values.shape)
    by_chance = matrix.repaired[:, *place].mean()
    assert by_chance > 0.01
    page = opened(tmp_path)
    said = answer(page, 4)
    assert said.startswith(f"{by_chance:.3f}")
    assert f"of {matrix.values[place]:.3f} at the layers named here" in said
    assert "equal: 1" not in text_of(page, "#numbers")
    assert f"(re-paired images give {by_chance:.3f})" in text_of(page, "#pair-lead")
    assert "adjusted Jaccard index: " in answer(page, 3)


@browsed
def test_chance_is_0_where_it_is_so_by_definition(probed, tmp_path, opened):
    (matrix,) = made_page(probed[:2], tmp_path).comparison.between("adjusted")
    page = opened(tmp_path)
    assert answer(page, 4).startswith("0\n")
    assert "chance: 0; equal: 1" in text_of(page, "#numbers")
    assert "highest of 9 cells" in answer(page, 1)
    assert answer(page, 1).startswith("2\N{EN DASH}")
    places = np.unravel_index(matrix.values.argmax(), matrix.values.shape)
    found = [
        run.score_matrix().iloc[place].mean() for run, place in zip(probed, places, strict=False)
    ]
    assert f"labels found there: {found[0]:.2f} and {found[1]:.2f} (Jaccard" in answer(page, 1)
    assert "lowest of 2 concepts" in answer(page, 3)
    assert "next: " in answer(page, 3)
    assert "mean of 16 re-pairings" in answer(page, 1)
    assert "There were 16 re-pairings" in help_of(page)
    assert "Share of ceiling" in help_of(page)
    assert "neither probe was fitted on" in help_of(page)


@browsed
def test_a_large_z_is_not_told_closely_and_that_of_few_repairings_not_at_all(
    probed, tmp_path, opened
):
    made_page(probed[:2], tmp_path, repairings=6)
    page = opened(tmp_path)
    said = answer(page, 1) + text_of(page, "#pair-lead")
    assert said.count("6 re-pairings are too few") == 2
    assert "standard deviations" not in said
    page.evaluate("start.repairings = 16")
    for z, words in ((173.7, "> 20 standard deviations above"), (-3.2, "3 standard deviations be")):
        assert page.evaluate(f"chanceInWords({z})").startswith(words)
    assert page.evaluate("chanceInWords(null)") == ""


@browsed
def test_of_mined_concepts_nothing_is_said_that_only_labelled_ones_have(mined, tmp_path, opened):
    made_page(mined, tmp_path)
    page = opened(tmp_path)
    assert "chance: 0, since" in text_of(page, "#numbers")
    assert "equal: 1" not in text_of(page, "#numbers")
    found = help_of(page)
    for text in ("same concept", "replicates", "Share of ceiling", "Label-conditional"):
        assert text not in found
    assert "best match in the other layer" in found


@browsed
def test_one_concept_differs_from_no_other(tmp_path, opened):
    made_page(made_runs(tmp_path / "runs", Probes(), OneConcept(grid=(16, 16))), tmp_path)
    page = opened(tmp_path)
    assert answer(page, 3).startswith("there is only one\nred: ")
    assert "There is only one concept to tell apart, red: " in text_of(page, "#pair-lead")


@browsed
@pytest.mark.parametrize("similarity", ["adjusted", "jaccard"])
def test_where_nothing_is_defined_it_says_why(unseen, tmp_path, opened, similarity):
    made_page(unseen, tmp_path, similarity)
    page = opened(tmp_path)
    why = "no concept is defined in all pairs, see the concepts left out."
    assert text_of(page, "#unanswered") == f"Which layers mean the same cannot be said: {why}"
    lead = f"How alike they are all in all is not defined: {why}"
    assert text_of(page, "#pair-lead").strip() == lead
    assert not page.locator("#answers-part").is_visible()


@browsed
def test_mined_concepts_without_repairings_have_no_similarity(mined, tmp_path, opened):
    made_page(mined, tmp_path, repairings=0)
    page = opened(tmp_path)
    assert "chance was not sampled (repairings=0)" in text_of(page, "#unanswered")


@browsed
def test_answers_of_many_pairs_are_made_when_they_are_asked_for(probed, tmp_path, opened):
    made_page(probed, tmp_path)
    page = opened(tmp_path)
    many = "matchesInWords({ ...start.pairs[0], matches: undefined })"
    assert page.evaluate(many).startswith("6 layers and their best matches lie 0.")
    assert page.locator("#answers tr").count() == 3
    page.click("#more-answers")
    assert page.locator("#answers tr").count() == 6
    assert not page.locator("#more-answers").is_visible()


def test_a_pair_takes_little_of_what_is_there_at_once(probed):
    """A hundred networks have 4,950 pairs."""
    parts = ReportParts(Analysis(compare(probed, repairings=16)), probed, None)
    described = parts.start()["pairs"][0]
    assert set(described["numbers"]) == {"similarity", "depth_gap", "share_of_ceiling"}
    assert "random" not in described["numbers"]["similarity"]  # there are no twins
    assert len(json.dumps(described)) < 900


def matrix_of(values, trunk_a=(), trunk_b=(), repaired=None):
    """A matrix of made-up numbers; `trunk`: which layers are branches."""
    values = np.array(values, dtype=float)
    layers = [
        tuple(
            replace(LAYER, name=f"{name}{k}", depth=(k + 1) / count, trunk=k not in branches)
            for k in range(count)
        )
        for name, count, branches in zip("ab", values.shape, (trunk_a, trunk_b), strict=True)
    ]
    estimate = Estimate(values, np.stack([values] * 3))
    repaired = np.empty((0, *values.shape)) if repaired is None else repaired
    return LayerMatrix(Pair("A", layers[0], "B", layers[1]), "adjusted", estimate, repaired)


LAYER = Layer("x", 0.5, trunk=True, channels=1, stride=1.0, grid=(1, 1))
CELLS = [[0.5, 0.1, 0.9], [0.2, 0.4, 0.3]]


def test_branches_are_no_best_matches():
    matrix = matrix_of(CELLS, trunk_b=(2,))
    found = most_alike(matrix, matrix)
    assert (found["row"], found["column"], found["of"]) == (0, 0, 4)
    concept = np.array([CELLS])
    value, stderr = concept_agreement(matrix, concept, np.full_like(concept, 0.1))[0]
    assert value == pytest.approx((0.5 + 0.4 + 0.5 + 0.4) / 4)
    assert stderr == pytest.approx(0.1)
    assert [match[:2] for match in layer_matches(matrix)] == [(0, 0), (1, 1)]


def test_branches_are_most_alike_where_there_is_nothing_else():
    matrix = matrix_of(CELLS, trunk_b=(0, 1, 2))
    assert most_alike(matrix, matrix)["column"] == 2
    assert np.isnan(concept_agreement(matrix, np.array([CELLS]), np.array([CELLS]))[0]).all()


def test_a_layer_that_is_undefined_has_no_best_match():
    matrix = matrix_of([[np.nan, np.nan, np.nan], [0.2, 0.4, 0.3]])
    concept = np.array([[[9, 9, 9], [0.2, 0.4, 0.3]]])
    value, _ = concept_agreement(matrix, concept, concept)[0]
    assert value == pytest.approx((0.4 + 0.2 + 0.4 + 0.3) / 4)
    assert [match[:2] for match in layer_matches(matrix)] == [(1, 1)]


def test_where_nothing_is_defined_no_number_is_made_up():
    matrix = matrix_of(np.full((2, 3), np.nan))
    concept = np.array([CELLS, CELLS])
    assert most_alike(matrix, matrix) is None
    assert np.isnan(concept_agreement(matrix, concept, concept)).all()
    assert layer_matches(matrix) is None
    assert least_alike(["x", "y"], [(np.nan, np.nan)] * 2) is None


def test_the_concept_that_differs_most_is_told_beside_the_next():
    agreement = [(value, 0.1) for value in (0.5, 0.2, 0.4, np.nan)]
    found = least_alike(["x", "y", "z", "none"], agreement)
    assert (found["least"]["name"], found["next"]["name"], found["of"]) == ("y", "z", 3)
    alone = least_alike(["x"], [(0.5, 0.1)])
    assert (alone["least"]["name"], alone["next"], alone["of"]) == ("x", None, 1)


def test_matches_of_many_layers_are_not_named_one_by_one():
    assert layer_matches(matrix_of(np.eye(9))) is None
    assert len(layer_matches(matrix_of(np.eye(8)))) == 8
