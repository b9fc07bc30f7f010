"""The two findings: numbers, and a sentence that claims nothing they do not support."""

import gc
import json
import weakref

import numpy as np
import pandas as pd
import pytest

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparison import Comparison
from cavalcade.comparing.findings import Finding, findings, sentence, summarise, trained_pairs
from cavalcade.similarity.derived import Number

NAMES = ("a", "b", "c")
PAIRS = (("a", "b"), ("a", "c"), ("b", "c"))


def number(value, spread=0.01, repaired=(), seed=0):
    replicates = value + spread * np.random.default_rng(seed).normal(size=1000)
    return Number(value, replicates, 21, np.asarray(repaired, dtype=float))


def compared(**given):
    told = {
        "similarity": "adjusted",
        "networks": NAMES,
        "random": dict.fromkeys(NAMES, False),
        "twins": dict.fromkeys(NAMES, ()),
        "architectures": {name: name for name in NAMES},
        "num_blocks": 21,
        "matrices": {"adjusted": ()},
        "halves": {},
        "concept_similarity": pd.DataFrame(),
        "left_out": (),
    }
    return Comparison(**(told | given))


class Analysed(Analysis):
    """An analysis with the same given numbers for all pairs."""

    def __init__(self, comparison=None, similarity=0.5, gap=0.02, ranks=0.9, twins=None):
        super().__init__(comparison or compared())
        self.given = {
            "similarity": number(similarity, repaired=[-0.01, 0.01]),
            "depth_gap": number(gap, repaired=[0.3, 0.3], seed=1),
            "rank_correlation": number(ranks, repaired=[0.0, 0.0], seed=2),
        }
        self.twins = twins and {
            name: number(value, seed=seed)
            for seed, (name, value) in enumerate(zip(self.given, twins, strict=True), start=3)
        }

    @property
    def numbers(self):
        return {self.similarity: dict.fromkeys(PAIRS, self.given)}

    def twin_numbers(self, measure, names):
        assert measure == self.similarity
        assert names in PAIRS
        return self.twins


TWINS = (0.2, 0.1, 0.5)


def said(analysed):
    names = trained_pairs(analysed)
    return sentence(analysed, names, findings(analysed, names))


def test_both_findings_are_claimed_where_numbers_support_them():
    text = said(Analysed(twins=TWINS))
    assert text.startswith(
        "Over 3 pairs of trained networks of different architecture, the mean adjusted Jaccard "
        "index of layers and their best matches is 0.50 [0.48, 0.52] above chance (random twins: "
        "0.20): they learnt similar concepts."
    )
    assert "Best matches lie 0.020 [" in text
    assert "against 0.300 for re-paired images (random twins: 0.100)" in text
    assert text.endswith(": similar concepts lie at similar relative depth.")


@pytest.mark.parametrize(
    ("statistic", "value", "repaired", "beyond"),
    [
        ("rank_correlation", 0.9, [-0.9, 0.1, 0.8], True),
        ("rank_correlation", 0.9, [-0.9, 0.1, 0.9], False),  # one re-pairing gives as much
        ("depth_gap", 0.02, [0.1, 0.5, 0.6], True),
        ("depth_gap", 0.02, [0.01, 0.5, 0.6], False),
    ],
)
def test_a_finding_lies_beyond_every_re_pairing(statistic, value, repaired, beyond):
    """However narrow its interval: of few layers, chance gives anything."""
    found = number(value, spread=0.0, repaired=4 * repaired)
    finding = Finding(found, found.less_repaired, None, statistic != "depth_gap")
    assert finding.beyond_repaired == beyond


@pytest.mark.parametrize(
    ("numbers", "twins"),
    [
        ({"similarity": 0.01}, TWINS),  # not beyond chance
        ({"similarity": 0.2}, TWINS),  # not beyond random twins
        ({"similarity": 0.21}, TWINS),  # nor clearly so
        ({"similarity": -0.3}, TWINS),
    ],
)
def test_no_similar_concepts_are_claimed_without_support(numbers, twins):
    text = said(Analysed(twins=twins, **numbers))
    assert "this does not show that they learnt similar concepts" in text
    assert ": they learnt" not in text


@pytest.mark.parametrize(
    "numbers",
    [
        {"gap": 0.3},  # not beyond chance
        {"gap": 0.1},  # not beyond random twins
        {"gap": 0.5},
        {"ranks": 0.0},
        {"ranks": 0.4},  # beyond chance, but below random twins
        {"ranks": -0.9},
        {"similarity": 0.2},  # the concepts that lie there are not similar
    ],
)
def test_no_equal_depth_is_claimed_without_support(numbers):
    text = said(Analysed(twins=TWINS, **numbers))
    assert "this does not show that similar concepts lie at similar relative depth" in text
    assert ": similar concepts lie" not in text


def test_without_random_twins_nothing_is_called_learnt():
    text = said(Analysed())
    assert text.count("without a pair of random twins (backbone.weights=random for each") == 2
    assert ": they learnt" not in text
    assert ": similar concepts lie at similar" not in text


def test_networks_of_one_architecture_are_not_called_different():
    text = said(Analysed(compared(architectures=dict.fromkeys(NAMES, "same")), twins=TWINS))
    assert "Over 3 pairs of trained networks, the mean" in text


def test_pairs_of_different_architecture_come_first():
    one = compared(architectures={"a": "x", "b": "x", "c": "y"})
    assert trained_pairs(Analysed(one)) == [("a", "c"), ("b", "c")]


def test_random_networks_are_no_finding():
    one = compared(random={"a": False, "b": True, "c": True})
    assert said(Analysed(one)) == (
        "Fewer than two trained networks were compared, so neither finding can be tested."
    )
    summary = summarise(Analysed(one))
    assert summary["findings"] == {}
    assert summary["pairs_of_trained_networks"] == 0


def test_undefined_numbers_are_no_finding():
    assert said(Analysed(similarity=np.nan)).startswith("No concept is defined in all networks")


def test_two_layers_have_similarity_but_no_ranks():
    text = said(Analysed(ranks=np.nan, twins=TWINS))
    assert text.endswith("similar concepts. Too few layers are defined to compare their depths.")


def test_geometry_knows_no_concepts():
    text = said(Analysed(compared(similarity="cka"), twins=TWINS))
    assert "mean linear CKA of layers" in text
    assert "similar representations" in text
    assert "concepts" not in text


def test_summary_holds_each_finding_with_interval_and_nulls():
    summary = json.loads(json.dumps(summarise(Analysed(twins=TWINS)), allow_nan=False))
    found = summary["findings"]
    assert list(found) == ["similarity", "depth_gap", "rank_correlation"]
    gap = found["depth_gap"]
    assert gap["low"] < gap["value"] == 0.02 < gap["high"]
    assert gap["repaired"] == pytest.approx(0.3)
    assert gap["random"] == pytest.approx(0.1)
    assert gap["less_random"]["high"] < 0
    assert gap["supported"] is True
    assert summary["sentence"] == said(Analysed(twins=TWINS))
    assert summary["similarity_of_pairs"]["a|b"]["value"] == 0.5
    assert summary["networks"] == [{"name": name, "random": False} for name in NAMES]


def test_means_over_pairs_are_paired_over_blocks():
    """Pairs share their images: a mean over them is no surer for that."""
    found = findings(Analysed(), trained_pairs(Analysed()))["similarity"]
    assert found.number.stderr == pytest.approx(number(0.5).stderr)


@pytest.mark.parametrize(("larger", "supported"), [(True, True), (False, False)])
def test_the_side_of_the_null_is_that_of_the_finding(larger, supported):
    own = number(0.5, repaired=[0.1, 0.1])
    finding = Finding(own, own.less_repaired, number(0.3, seed=1), larger)
    assert finding.supported is supported
    assert finding.beyond_random is supported
    alone = Finding(own, own.less_repaired, None, larger)
    assert alone.beyond_random is None
    assert alone.supported is supported


def test_one_re_pairing_supports_nothing():
    own = number(0.5, repaired=[0.1])
    assert not Finding(own, own.less_repaired, None, True).supported


def test_a_summary_is_made_once_and_keeps_no_analysis():
    analysis = Analysed()
    assert summarise(analysis) is summarise(analysis)
    gone = weakref.ref(analysis)
    del analysis
    gc.collect()
    assert gone() is None
