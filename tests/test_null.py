"""Networks that share nothing: how often are they called similar, and by which output?

Masks of three networks agree by area and position alone: each has concepts that lie where those
of the others do, in scenes of its own choice. What is said of them is read from the analysis of
their comparison, from which tables, findings and page are written.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from cavalcade import Analysis
from cavalcade.backbones import Layer
from cavalcade.comparing.comparison import Comparison
from cavalcade.comparing.findings import findings, sentence, trained_pairs
from cavalcade.comparing.report_answers import most_alike
from cavalcade.data.groups import contiguous_blocks
from cavalcade.similarity import (
    ConceptCells,
    Estimate,
    Firing,
    LayerMatrix,
    Pair,
    best_match_mean,
    layer_cells,
    layer_slices,
    less_chance,
    mean_over,
    name_concepts,
    repaired_orders,
    similarity_of_pairs,
)
from planted import SIDE, Plan, strengths
from planted_again import in_one_thread

pytestmark = pytest.mark.slow

DATA_SETS = 1000
NETWORKS = ("first", "second", "third")
PAIRS = ((0, 1), (0, 2), (1, 2))
SCENES, IMAGES = 48, 2  # two scenes a block
PLAN = Plan(0, own=2, depth=3)
DEPTHS = (0.3, 0.6, 1.0)
REPAIRINGS = 16
GROUPS = np.repeat(np.arange(SCENES), IMAGES)
BLOCKS = torch.tensor(contiguous_blocks(list(map(str, GROUPS))))
ORDERS = torch.from_numpy(repaired_orders(BLOCKS.numpy(), REPAIRINGS))
LAYERS = tuple(Layer(f"l{k}", depth, True, 8, 4.0, (SIDE, SIDE)) for k, depth in enumerate(DEPTHS))
NAMES = tuple((layer.name, f"c{k + 1}") for layer in LAYERS for k in range(PLAN.own))
REACH = stats.t.ppf(0.975, int(BLOCKS.max()))


EVERYWHERE = torch.ones(len(GROUPS), SIDE * SIDE, dtype=torch.bool)


def fields(seed: int) -> list[torch.Tensor]:
    """How strong each concept of four networks is at each pixel; the fourth names concepts."""
    draws = np.random.default_rng([seed, 11])
    two = [strengths(PLAN, draws, SCENES, IMAGES) for _ in range(2)]
    both = [torch.from_numpy(found).float().flatten(2) for found in two]
    return [part for found in both for part in found.split(PLAN.count, dim=1)]


def compared(matrices: list[LayerMatrix], cells: list[ConceptCells] | None = None) -> Analysis:
    """What is said of three networks of different architecture."""
    pairs = [(NETWORKS[i], NETWORKS[j]) for i, j in PAIRS]
    comparison = Comparison(
        similarity="adjusted",
        networks=NETWORKS,
        random=dict.fromkeys(NETWORKS, False),
        twins=dict.fromkeys(NETWORKS, ()),
        architectures={name: name for name in NETWORKS},
        num_blocks=int(BLOCKS.max()) + 1,
        matrices={"adjusted": tuple(matrices)},
        halves={},
        concept_similarity=pd.DataFrame(),
        left_out=(),
        concept_cells=dict(zip(pairs, cells, strict=True)) if cells else {},
    )
    return Analysis(comparison)


def matrix(
    pair: tuple[int, int], estimate: Estimate, repaired: np.ndarray, *, labelled: bool
) -> LayerMatrix:
    """Of two networks."""
    a, b = (NETWORKS[k] for k in pair)
    layers = Pair(a, LAYERS, b, LAYERS)
    return LayerMatrix(layers, "adjusted", estimate, repaired, without_chance=labelled)


def probed(seed: int, *, same: bool = False) -> tuple[Analysis, dict[str, float]]:
    """Two labelled concepts, which a deeper layer finds where it should not, too."""
    found = fields(seed)[:3] if not same else fields(seed)[:1] * 3
    parts = []
    for k in range(2):
        firings = []
        for own in found:
            layers = [own[:, k : k + 1 + 2 * layer : 2].amax(dim=1) for layer in range(len(LAYERS))]
            firings.append(Firing(torch.stack(layers, dim=1) > 0.4, EVERYWHERE))
        parts.append(list(similarity_of_pairs(firings, PAIRS, None, BLOCKS, ORDERS)))
    matrices = []
    for place, pair in enumerate(PAIRS):
        cells = [part[place].measures["adjusted"] for part in parts]
        repaired = np.mean([part[place].repaired["adjusted"] for part in parts], axis=0)
        matrices.append(matrix(pair, mean_over(cells, (0, 1)), repaired, labelled=True))
    cells = parts[0][0].measures["adjusted"]
    return compared(matrices), {"concepts": (cells.value > REACH * cells.stderr).mean()}


def mined(seed: int, *, same: bool = False) -> tuple[Analysis, dict[str, float]]:
    """Two concepts of each layer."""
    *found, labels = fields(seed)
    found = found if not same else found[:1] * 3
    firings = [Firing(own > 0.4, EVERYWHERE) for own in found]
    layers = (layer_slices(NAMES), layer_slices(NAMES))
    matrices, cells = [], []
    for pair, part in zip(
        PAIRS, similarity_of_pairs(firings, PAIRS, None, BLOCKS, ORDERS), strict=True
    ):
        less = less_chance(*layer_cells(part, "adjusted", best_match_mean, layers))
        matrices.append(matrix(pair, *less, labelled=False))
        cells.append(ConceptCells.of(NAMES, NAMES, part))
    analysis = compared(matrices, cells)
    shown = {f"label{k}": Firing(labels[:, [k]] > 0.5, EVERYWHERE) for k in range(PLAN.count)}
    names = name_concepts(firings[0], shown, BLOCKS)
    return analysis, {
        "concepts": (cells[0].adjusted > REACH * cells[0].stderr).mean(),
        "partners": (analysis.concept_matches["low"] > 0).mean(),
        "named": float(names["named"].any()),
    }


KINDS = {"probed": probed, "mined": mined}


def said(analysis: Analysis) -> dict[str, float]:
    """What is called similar: 1 if so, or the share of numbers of one kind."""
    names = [NETWORKS[:2]]
    assert names[0] in trained_pairs(analysis)
    found = findings(analysis, names)
    text = sentence(analysis, names, found)
    numbers = analysis.numbers["adjusted"][names[0]]
    cells = analysis.comparison.between("adjusted")[0]
    above = cells.values > REACH * cells.estimate.stderr
    best, own = most_alike(cells, cells), analysis.best_matches
    own = own[(own["network_a"] == NETWORKS[0]) & (own["network_b"] == NETWORKS[1])]
    return {
        "sentence": float("more alike than by chance" in text),
        "depth": float("more similar relative depth than by chance" in text),
        "similarity": float(numbers["similarity"].interval[0] > 0),
        "layers": above.mean(),
        "nearer": float((analysis.nearer["q"] < 0.05).any()),
        "most alike": float(best["value"] > REACH * best["stderr"]),
        "mean best match": float(numbers["mean_best_match"].interval[0] > 0),
        "best matches": (own["low"] > 0).mean(),
        "z of similarity": float(abs(numbers["similarity"].z) > 2),
        "z of the most alike": float(best["z"] > 2),
    }


@cache
def calls(kind: str) -> pd.DataFrame:
    """A row for each data set."""
    rows = []
    with in_one_thread():
        for seed in range(DATA_SETS):
            analysis, more = KINDS[kind](seed)
            rows.append(said(analysis) | more)
    return pd.DataFrame(rows)


def at_most(rate: float, called: pd.Series) -> bool:
    """Whether so many calls can come of a rate; calls of one data set depend on each other."""
    if set(called.unique()) <= {0.0, 1.0}:
        return called.sum() <= stats.binom.ppf(0.99, len(called), rate)
    return called.mean() <= rate + stats.norm.ppf(0.99) * called.std() / len(called) ** 0.5


CLAIMS = {  # what docs/method.md states of each, at most
    "sentence": ("the sentence of a comparison", 0.025),
    "depth": ("the sentence of a comparison, of depths", 0.025),
    "similarity": ("intervals of networks", 0.025),
    "layers": ("intervals of layers", 0.025),
    "concepts": ("intervals of concepts", 0.025),
    "partners": ("intervals of mined partners", 0.025),
    "nearer": ("networks that are nearer, q < 0.05", 0.05),
    "named": ("mined concepts with a name", 0.05),
}


NO_CLAIMS = (  # in the order of that page
    *("most alike", "mean best match", "best matches", "z of similarity", "z of the most alike"),
)
METHOD = Path(__file__).parents[1] / "docs/method.md"
MINED_ONLY = ("partners", "named")  # probed concepts have names, by which they are compared


@pytest.mark.parametrize(
    ("kind", "claim"),
    [(k, c) for k in KINDS for c in CLAIMS if k == "mined" or c not in MINED_ONLY],
)
def test_networks_that_share_nothing_are_called_similar_at_most_as_often_as_stated(
    kind, claim, tried
):
    what, rate = CLAIMS[claim]
    assert at_most(rate, calls(kind)[claim])
    happened = f"false alarms: not significantly above {100 * rate:g} %"
    tried("numbers", f"unrelated networks, {what}", happened, times=DATA_SETS)


def page() -> tuple[list[list[str]], list[tuple[str, ...]]]:
    """What docs/method.md says was counted: rows of its table, and pairs of what is no claim."""
    _, after = METHOD.read_text().split("## False alarms")
    text, *_ = after.split("\n## ")
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return lines[2:], re.findall(r"([\d.]+) % \((?:mined: )?([\d.]+) %\)", text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_what_was_counted(kind):
    called, place = calls(kind).mean(), list(KINDS).index(kind)
    table, pairs = page()
    claims = [claim for claim in CLAIMS if claim != "depth"]
    said = {claim: row[2 + place] for claim, row in zip(claims, table, strict=True)}
    said |= {name: pair[place] for name, pair in zip(NO_CLAIMS, pairs, strict=True)}
    shares = {n: share.replace("%", "").strip() for n, share in said.items() if share.strip()}
    assert len(shares) == len(said) - len(MINED_ONLY) * (kind == "probed")
    wrong = {n: called[n] for n, share in shares.items() if not is_rounded(share, called[n])}
    assert not wrong


def is_rounded(percentage: str, share: float) -> bool:
    """Whether a page says a share as closely as its decimals claim."""
    half = 0.5 * 10.0 ** -len(percentage.partition(".")[2])
    return abs(float(percentage) - 100 * share) <= half + 1e-9


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("probed", 0.03, 0.15), ("mined", 0.5, 0.75)], ids=KINDS
)
def test_what_was_chosen_is_no_claim(kind, least, most):
    """The largest of many numbers is large by chance."""
    called = calls(kind).mean()
    assert least < called["mean best match"] < most
    assert called["best matches"] > 0.025
    assert called["most alike"] > 0.025
    assert called["z of similarity"] > 0.05
    assert called["z of the most alike"] > 0.05


def test_what_is_shared_is_found():
    """The other side: networks of the same masks are called similar, however they are compared."""
    with in_one_thread():
        for kind in KINDS.values():
            analysis, _ = kind(0, same=True)
            found = said(analysis)
            assert found["sentence"] == found["similarity"] == 1
