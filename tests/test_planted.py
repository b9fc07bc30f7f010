"""Two networks that share so many concepts at known layers: all that is said of them says so.

Networks are visited, compared and reported on by the real programs; what is read is what a user
reads: the tables of the comparison, its summary, and the data of its page.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cavalcade import Analysis, compare, load_comparison, load_run
from cavalcade.comparing.comparison_folder import LoadedComparison, tables_of, write_comparison
from cavalcade.concepts import Factorisation, Probes
from cavalcade.names import names_of_runs
from cavalcade.runs import ProbedRun, Run
from planted import Plan, Scenes, planted_backbone
from tiny import tiny_data, tiny_visit

NETWORKS = ("first", "second")
SAME, UNLIKE = 0.6, 0.25  # of adjusted indices: above are shared concepts, below all others
CHANCE = 0.03  # less is left of what area and position give, which is more
FOUND, LOST = 0.7, 0.35  # of Jaccard indices of probes


LARGEST = Plan(3)  # of which all concepts are shared, at equal depth


@dataclass(frozen=True)
class Told:
    """What a user is told of two planted networks."""

    plan: Plan
    runs: tuple[Run, ...]
    folder: LoadedComparison

    def table(self, name: str) -> pd.DataFrame:
        return self.folder.tables[name]

    def part(self, name: str) -> dict[str, Any]:
        """What the page gets of a part."""
        text = (self.folder.path / f"report/parts/{name}.js").read_text()
        assert text.startswith(f'report.receive("{name}",')
        return unpacked(json.loads(text[text.index(",") + 1 : text.rindex(")")]))

    @cached_property
    def labels(self) -> dict[tuple[str, str, str], str]:
        """By network, layer and name of a mined concept its label; those that have one."""
        names = self.table("names")
        named = names[names["named"].astype(bool)]
        keys = zip(named["network"], named["layer"], named["concept"], strict=True)
        return dict(zip(keys, named["label"], strict=True))

    def labels_of(self, network: int, layer: str) -> list[str]:
        """Of the concepts of a layer, in their order on the page."""
        own = self.runs[network].concept_set.layers[layer].names
        return [self.labels.get((NETWORKS[network], layer, name), "") for name in own]

    @property
    def depths(self) -> list[list[float]]:
        return [[layer.depth for layer in run.layers] for run in self.runs]

    @property
    def partners(self) -> list[int]:
        """Of each layer of the first network the one that shares concepts with it."""
        return [self.plan.partner(layer) for layer in range(self.plan.depth)]


def unpacked(value: Any) -> Any:
    """Content of a part with its arrays, as scripts/parts.js reads them."""
    if isinstance(value, list):
        return [unpacked(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    if "packed" not in value:
        return {key: unpacked(each) for key, each in value.items()}
    content = zlib.decompress(base64.b64decode(value["packed"]))
    if value["type"] == "rounded":
        planes = np.frombuffer(content, np.uint8).reshape(2, -1).T
        found = np.ascontiguousarray(planes).view("<i2").ravel()
        numbers = np.where(found == -(2**15), np.nan, found / 1000)
    else:
        numbers = np.frombuffer(content, f"<{np.dtype(value['type']).str[1:]}")
    return numbers.reshape(value["shape"])


def told(plan: Plan, method: Factorisation | Probes, root: Path, **data: Any) -> Told:
    """Visit, compare and report."""
    runs = []
    for network in (0, 1):
        backbone = planted_backbone(plan, network)
        scenes = tiny_data(backbone, Scenes(plan=plan, **data), batch_size=32, splits=method.splits)
        runs.append(load_run(tiny_visit(root, backbone, data=scenes, method=method)))
    analysis = Analysis(compare(runs))
    names = names_of_runs(runs, analysis.comparison.networks)
    write_comparison(analysis, runs, root / "c", tables_of(analysis, names), pictures=0)
    return Told(plan, tuple(runs), load_comparison(root / "c"))


def mined(plan: Plan, root: Path) -> Told:
    method = Factorisation(num_concepts=plan.own, rows=6000, restarts=0)
    return told(plan, method, root)


def check_concepts(found: Told) -> None:
    """Which concepts are the same, and at which layers: exactly those that are."""
    plan, layers = found.plan, [found.plan.layers(network) for network in (0, 1)]
    planted = {
        (layers[0][layer], layers[1][found.partners[layer]], name)
        for layer in range(plan.depth)
        for name in plan.shared_names(layer)
    }
    matches, same = found.table("concept_matches"), set()
    for row in matches.itertuples():
        one = found.labels[NETWORKS[0], row.layer_a, row.concept_a]
        other = found.labels[NETWORKS[1], row.layer_b, row.concept_b]
        if (row.layer_a, row.layer_b, one) in planted and one == other:
            same.add((row.layer_a, row.layer_b, one))
            assert row.adjusted > SAME
            assert row.low > UNLIKE
        else:
            assert one != other
            assert row.adjusted < UNLIKE
    assert same == planted


def check_layers(found: Told) -> None:
    """Which layers mean the same: their matches, similarity and depths."""
    plan, layers = found.plan, [found.plan.layers(network) for network in (0, 1)]
    matrix = found.folder.matrix(*NETWORKS).to_numpy()
    partners = np.zeros(matrix.shape, dtype=bool)
    partners[np.arange(plan.depth), found.partners] = True
    share = plan.shared / plan.own
    assert (matrix[partners] > SAME * share - UNLIKE / 2).all()
    assert (matrix[partners] < share + UNLIKE).all()
    assert (np.abs(matrix[~partners]) < UNLIKE / 2).all()
    raw = found.folder.matrix(*NETWORKS, "jaccard").to_numpy()
    assert abs(matrix[~partners].mean()) < CHANCE < raw[~partners].mean()
    best = found.table("best_matches").set_index(["network", "layer"])["match"]
    for layer, partner in enumerate(found.partners):
        assert best[NETWORKS[0], layers[0][layer]] == layers[1][partner]
        assert best[NETWORKS[1], layers[1][partner]] == layers[0][layer]
    pairs = found.table("pairs").query("measure == 'adjusted'").set_index("statistic")
    first, second = (np.array(depths) for depths in found.depths)
    gap = np.abs(first - second[found.partners]).mean()
    assert gap > 0.02  # the networks are of other architecture, and that is seen
    assert pairs.loc["depth_gap", "value"] == pytest.approx(gap, abs=1e-4)
    assert pairs.loc["rank_correlation", "value"] == pytest.approx(-1 if plan.turned else 1)
    assert pairs.loc["similarity", "low"] > SAME * share / 2


def check_sentence(found: Told) -> None:
    """The findings: similar concepts if any are shared, equal depth only if they lie so."""
    summary, plan = found.folder.summary, found.plan
    told = {name: finding["supported"] for name, finding in summary["findings"].items()}
    assert told["similarity"] == (plan.shared > 0)
    said = summary["sentence"]
    if plan == LARGEST:
        assert told["depth_gap"]
        assert told["rank_correlation"]
        assert "concepts lie at more similar relative depth than by chance" in said
    assert ("concepts are more alike than by chance" in said) == (plan.shared > 0)
    assert ("does not show that they learnt similar" in said) == (plan.shared == 0)
    if plan.turned or not plan.shared:
        assert not (told["depth_gap"] and told["rank_correlation"])
        assert "does not show that similar concepts lie at similar relative depth" in said


def check_page(found: Told) -> None:
    """The four answers, and each concept's partner, as the page gets them."""
    plan, start = found.plan, found.part("start")
    assert start["sentence"] == found.folder.summary["sentence"]
    (pair,) = [each for each in start["pairs"] if "numbers" in each]
    row, column = pair["layers"]["row"], pair["layers"]["column"]
    similarity = pair["numbers"]["similarity"]
    if plan.shared:
        assert column == found.partners[row]
        assert [match[:2] for match in pair["matches"]] == [
            [layer, partner] for layer, partner in enumerate(found.partners)
        ]
        assert similarity["low"] > UNLIKE / 4
    else:
        assert similarity["low"] <= 0
        assert pair["layers"]["value"] < UNLIKE
    least = pair["concepts"]["least"]
    assert (least["value"] > SAME) == (plan.shared == plan.own)
    partners = found.part("pair-0-1")["partners"]
    for layer, name in enumerate(found.plan.layers(0)):
        own = found.labels_of(0, name)
        assert sorted(own) == sorted(plan.names[k] for k in plan.concepts(0)[layer])
        for other, other_name in enumerate(found.plan.layers(1)):
            theirs = found.labels_of(1, other_name)
            for k, label in enumerate(own):
                best = theirs[partners["partner"][layer, other, k]]
                value = partners["value"][layer, other, k]
                if label in theirs:
                    assert best == label
                    assert value > SAME
                else:
                    assert value < UNLIKE
    for network in (0, 1):
        on_page = found.part(f"network-{network}")["concepts"]
        assert [each["label"] for each in on_page] == [
            label for layer in plan.layers(network) for label in found.labels_of(network, layer)
        ]


def check(found: Told) -> None:
    check_concepts(found)
    if found.plan.shared:
        check_layers(found)
    check_sentence(found)
    check_page(found)


MINED, PROBED = (f"networks that share known concepts, {how}" for how in ("mined", "probed"))
SAID = "exactly those are reported, in tables, findings and page"


def test_one_of_two_concepts_of_each_layer_is_shared(tmp_path, tried):
    check(mined(Plan(1, own=2, depth=3), tmp_path))
    tried("numbers", MINED, SAID)


@pytest.mark.slow
@pytest.mark.parametrize("turned", [False, True], ids=["aligned", "turned"])
@pytest.mark.parametrize("shared", [0, 1, 3])
def test_k_of_three_concepts_of_each_layer_are_shared(shared, turned, tmp_path, tried):
    check(mined(Plan(shared, turned=turned, seed=2 * turned), tmp_path))
    tried("numbers", MINED, SAID)


def check_scores(found: Told) -> None:
    """A probe finds a concept where the layer has it, and nowhere else; the page shows that."""
    plan = found.plan
    for network, run in enumerate(found.runs):
        assert isinstance(run, ProbedRun)
        scores = run.score_matrix()
        has = np.zeros(scores.shape, dtype=bool)
        for layer, concepts in enumerate(plan.concepts(network)):
            has[layer, [list(scores.columns).index(plan.names[k]) for k in concepts]] = True
        assert (scores.to_numpy()[has] > FOUND).all()
        assert (scores.to_numpy()[~has] < LOST).all()
        on_page = found.part(f"network-{network}")["scores"]
        assert on_page["concepts"] == list(scores.columns)
        np.testing.assert_allclose(on_page["value"], scores, atol=1e-6)


def check_probed_concepts(found: Told) -> None:
    """A concept is alike at the two layers that have it, and where one has it, at chance."""
    plan, layers = found.plan, [found.plan.layers(network) for network in (0, 1)]
    cells = found.folder.concept_similarity.query("measure == 'adjusted'")
    cells = cells[(cells["network_a"] == NETWORKS[0]) & (cells["network_b"] == NETWORKS[1])]
    values = cells.set_index(["layer_a", "layer_b", "concept"])["value"]
    on_page = found.part("pair-0-1")["concepts"]
    having = [
        {(layers[network][layer], plan.names[k]) for layer in range(plan.depth) for k in own[layer]}
        for network, own in enumerate(map(plan.concepts, (0, 1)))
    ]
    same = 0
    for (a, b, concept), value in values.items():
        has = [(a, concept) in having[0], (b, concept) in having[1]]
        if all(has):
            same += 1
            assert value > SAME
        elif any(has):
            assert abs(value) < UNLIKE
        place = on_page["names"].index(concept), layers[0].index(a), layers[1].index(b)
        assert on_page["value"][place] == pytest.approx(value, abs=1e-3)
    assert same == plan.shared * plan.depth


def check_probed(found: Told) -> None:
    check_scores(found)
    check_probed_concepts(found)
    check_sentence(found)
    best = found.table("best_matches").set_index(["network", "layer"])["match"]
    least = found.part("start")["pairs"][0]["concepts"]["least"]
    if found.plan.shared == 0:
        return
    for layer, partner in enumerate(found.partners):
        one, other = found.plan.layers(0)[layer], found.plan.layers(1)[partner]
        assert (best[NETWORKS[0], one], best[NETWORKS[1], other]) == (other, one)
    shared = set().union(*(found.plan.shared_names(k) for k in range(found.plan.depth)))
    assert least["name"] not in shared or found.plan.shared == found.plan.own


def test_probes_find_concepts_at_the_layers_that_have_them(tmp_path, tried):
    found = told(Plan(1, own=1, depth=3), Probes(rows=4000, split_half=False), tmp_path)
    check_probed(found)
    tried("numbers", PROBED, SAID)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_k_of_two_probed_concepts_of_each_layer_are_shared(shared, tmp_path, tried):
    plan = Plan(shared, own=2, depth=3, turned=shared == 1, seed=int(shared == 1))
    check_probed(told(plan, Probes(rows=4000, split_half=False), tmp_path))
    tried("numbers", PROBED, SAID)
