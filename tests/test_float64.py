"""All that train and compare say of a small case, beside the same in float64 and plain NumPy."""

import itertools
from functools import partial

import numpy as np
import pytest

from cavalcade import compare, load_run
from cavalcade.concepts import Factorisation, Probes
from cavalcade.concepts.probing import STRENGTHS
from float64_reference import (
    adjusted,
    best_matches,
    codes_of,
    jaccard,
    layers_of,
    linear_cka,
    logits_of,
    on_centres,
    on_grid,
    probes_of,
    problems_of,
    repaired,
    thresholds_of,
)
from tiny import PlantedSquares, tiny_backbone, tiny_data, tiny_visit

pytestmark = pytest.mark.slow

GRID = 24
SIZES = {"train": 16, "val": 8, "test": 20}
NETWORKS = {"a": 0, "b": 5}
LAYERS = ("2", "4", "6")
CELLS = list(itertools.product(LAYERS, LAYERS))
WHOLE = "float32 against a float64 reference: "
SOLVED = 1e-3  # of the loss, up to which probes are solved; see `logistic.fit`
STEPS = (1, 7, 13, 19)  # by which images of one network are moved on, to be re-paired
NEAR = 1.01  # times the lowest loss on validation images


class Case:
    """One network with what it was trained on, its run, and its activations in float64.

    Attributes:
        masks: of labels, by split.
        maps: activations of all layers, by split.
    """

    def __init__(self, folder, label, method):
        backbone = tiny_backbone(label=label, seed=NETWORKS[label])
        data = PlantedSquares(size=64, grid=(GRID, GRID), counts=SIZES)
        loader = tiny_data(backbone, data, splits=method.splits)
        weights = {key: tensor.numpy() for key, tensor in backbone.model.state_dict().items()}
        self.masks, self.maps = {}, {}
        for split in method.splits:
            inputs = [batch.inputs.double().numpy() for batch in loader.in_order(split)]
            self.maps[split] = layers_of(np.concatenate(inputs), weights)
            images = data.open(split)
            labels = [images.labels(i).masks.numpy() for i in range(len(images))]
            self.masks[split] = np.array(labels)
        self.run = load_run(tiny_visit(folder, backbone, data=loader, method=method))

    def found(self, layer):
        """The run's vectors, biases and thresholds."""
        own = self.run.concept_set.layers[layer]
        return [part.double().numpy() for part in (own.vectors, own.bias, own.thresholds)]

    def fired(self, layer):
        """Where the run says that concepts fire."""
        return self.run.masks(layer).numpy().reshape(SIZES["test"], -1, GRID, GRID)

    def features(self, layer):
        return self.maps["test"][layer].mean(axis=(2, 3))


class Probed(Case):
    """With probes of the reference, too."""

    def __init__(self, folder, label):
        super().__init__(folder, label, Probes(split_half=False))
        truth = on_centres(self.masks["train"], GRID)
        self.problems = {
            layer: problems_of(
                *(self.maps[split][layer] for split in ("train", "val")),
                *(self.masks[split] for split in ("train", "val")),
            )
            for layer in LAYERS
        }
        self.given, self.whole, self.thresholds = {}, {}, {}
        for layer in LAYERS:
            *probes, thresholds = self.found(layer)
            self.given[layer] = self.logits(layer, probes) > thresholds[:, None, None]
            self.thresholds[layer] = thresholds_of(self.logits(layer, probes, "train"), truth)
            probes = probes_of(self.problems[layer], STRENGTHS, NEAR)
            thresholds = thresholds_of(self.logits(layer, probes, "train"), truth)
            self.whole[layer] = self.logits(layer, probes) >= thresholds[:, None, None]

    def logits(self, layer, probes, split="test"):
        return logits_of(self.maps[split][layer], *probes, GRID)


class Mined(Case):
    """With the masks of the run's dictionaries in float64."""

    def __init__(self, folder, label):
        super().__init__(folder, label, Factorisation(num_concepts=4, rows=2000, restarts=0))
        self.given = {}
        for layer in LAYERS:
            dictionary, _, thresholds = self.found(layer)
            codes = on_grid(codes_of(self.maps["test"][layer], dictionary), GRID)
            self.given[layer] = codes > thresholds[:, None, None]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    return {label: Probed(folder, label) for label in NETWORKS}


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mined")
    return {label: Mined(folder, label) for label in NETWORKS}


@pytest.fixture
def within(tried):
    """Asserts that numbers are near those of the reference, and says so."""

    def check(stage, ours, theirs, bound, what="largest difference"):
        ours, theirs = (np.asarray(part, dtype=np.float64) for part in (ours, theirs))
        assert ours.shape == theirs.shape
        assert np.isfinite(theirs).all()
        difference = np.abs(ours - theirs)
        found = difference.mean() if what.startswith("share") else difference.max()
        print(f"{stage}: {found:.2g} of {bound:g}")
        assert found <= bound, stage
        tried("numbers", WHOLE + stage, f"{what} below {bound:g}")

    return check


def test_features(probed, within):
    ours, theirs = [], []
    for case in probed.values():
        for layer in LAYERS:
            features = case.features(layer)
            ours.append(case.run.features(layer).numpy().ravel() / features.max())
            theirs.append(features.ravel() / features.max())
    within("features, to the largest of a layer", *map(np.concatenate, (ours, theirs)), 1e-6)


def test_probes_are_at_the_lowest_of_a_loss(probed, tried):
    """That of one of the strengths, which validation images allow."""
    for case in probed.values():
        for layer in LAYERS:
            vectors, biases, _ = case.found(layer)
            problems = zip(case.problems[layer], vectors, biases, strict=True)
            for (problem, judge), vector, bias in problems:
                head = problem.standardised(vector, bias)
                heads = [problem.best(l2) for l2 in STRENGTHS]
                above = [
                    problem.objective(head, l2) / problem.objective(best, l2) - 1
                    for l2, best in zip(STRENGTHS, heads, strict=True)
                ]
                assert -1e-6 < min(above) < SOLVED
                lowest = min(judge.loss(best) for best in heads)
                assert judge.loss(head) < (NEAR + SOLVED) * lowest
    said = f"loss above the lowest by less than {SOLVED:.1%}"
    tried("numbers", WHOLE + "probes, solved by SciPy", said)


def test_thresholds_are_those_of_the_highest_score(probed, within):
    ours, theirs = [], []
    for case in probed.values():
        truth = on_centres(case.masks["train"], GRID)
        for layer in LAYERS:
            *probes, thresholds = case.found(layer)
            logits = case.logits(layer, probes, "train")
            for into, edges in ((ours, thresholds), (theirs, case.thresholds[layer])):
                fired = logits >= edges[:, None, None]
                into += [jaccard(fired[:, k], truth[:, k]) for k in range(len(edges))]
    within("Jaccard index at the threshold", ours, theirs, 1e-3)


def cells(cases, masks, score):
    """Of all concepts of all layers of one network with those of the other."""
    found = []
    for x, y in CELLS:
        one, other = (getattr(cases[n], masks)[layer] for n, layer in (("a", x), ("b", y)))
        found.append([score(one[:, k], other[:, k]) for k in range(one.shape[1])])
    return np.array(found)


def table(frame, measure, names):
    """Values between the two networks, in the order of `CELLS`."""
    between = (frame["network_a"] == "a") & (frame["network_b"] == "b")
    values = frame[between & (frame["measure"] == measure)].set_index(names)["value"]
    return np.array([values.loc[cell] for cell in CELLS])


@pytest.mark.parametrize(
    ("masks", "bounds", "which"),
    [
        ("given", (1e-4, 2e-3, 2e-3, 1e-3), "of the run's probes"),
        (
            "whole",
            (0.02, 0.08, 0.08, 0.05),
            "with probes solved anew (two solvers stop at different places)",
        ),
    ],
)
def test_probed_networks(probed, within, masks, bounds, which):
    fired, by_hand = (
        np.concatenate([own(case, layer).ravel() for case in probed.values() for layer in LAYERS])
        for own in (Probed.fired, lambda case, layer: getattr(case, masks)[layer])
    )
    within(f"masks {which}", fired, by_hand, bounds[0], "share of pixels that differ")
    compared = compare([case.run for case in probed.values()], against=["cka"], repairings=4)
    layers = ["layer_a", "layer_b"]
    for measure, score, bound in zip(
        ("jaccard", "adjusted"), (jaccard, adjusted), bounds[1:], strict=False
    ):
        ours = table(compared.concept_similarity, measure, layers).reshape(len(CELLS), -1)
        theirs = cells(probed, masks, score)
        within(f"{measure} index of concepts {which}", ours, theirs, bound)
    means = theirs.mean(axis=1)
    similarity = table(compared.layer_similarity, "adjusted", layers)
    within(f"similarity of layers {which}", similarity, means, bounds[3])
    features = [[probed[n].features(layer) for layer in LAYERS] for n in NETWORKS]
    by_hand = [linear_cka(x, y) for x, y in itertools.product(*features)]
    within("linear CKA", table(compared.layer_similarity, "cka", layers), by_hand, 2e-6)


def test_mined_networks(mined, within):
    """Of the dictionaries as they are: codes, masks, matches."""
    fired, by_hand = (
        np.concatenate([own(case, layer).ravel() for case in mined.values() for layer in LAYERS])
        for own in (Mined.fired, lambda case, layer: case.given[layer])
    )
    within("masks of mined concepts", fired, by_hand, 1e-4, "share of pixels that differ")
    compared = compare([case.run for case in mined.values()], against=[], repairings=len(STEPS))
    found, best = compared.concept_cells["a", "b"], {"jaccard": [], "adjusted": []}
    for x, y in CELLS:
        one, other = (mined[n].given[layer] for n, layer in (("a", x), ("b", y)))
        defined = np.isfinite(found.adjusted[np.ix_(*found.between(x, y))])
        assert defined.mean() > 0.8  # others fire in too few images to say anything

        def every(score, one=one, other=other, defined=defined):
            pairs = itertools.product(np.moveaxis(one, 1, 0), np.moveaxis(other, 1, 0))
            cells = np.array([score(*pair) for pair in pairs]).reshape(defined.shape)
            return np.where(defined, cells, -np.inf)

        for measure, score in (("jaccard", jaccard), ("adjusted", adjusted)):
            ours, theirs = getattr(found, measure)[np.ix_(*found.between(x, y))], every(score)
            stage = f"{measure} index of mined concepts"
            within(stage, ours[defined], theirs[defined], 2e-3)
            best[measure].append(best_matches(theirs))
        chance = [best_matches(every(partial(repaired, step=step))) for step in STEPS]
        best["adjusted"][-1] -= np.mean(chance)
    for measure, theirs in best.items():
        ours = table(compared.layer_similarity, measure, ["layer_a", "layer_b"])
        within(f"similarity of layers by best matches, {measure}", ours, theirs, 1e-3)
