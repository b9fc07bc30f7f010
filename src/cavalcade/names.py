"""Labels for mined concepts: from the truth of the test images, or from a probed run."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from cavalcade.backbones import Layer
from cavalcade.concepts.encoding import unpack
from cavalcade.errors import InputError
from cavalcade.runs import MinedRun, ProbedRun, Run
from cavalcade.similarity import Firing, name_concepts
from cavalcade.truth import Truth


def name_table(
    layers: Sequence[Layer],
    concepts: Sequence[tuple[str, str]],
    firing: Firing,
    labels: Mapping[str, Firing],
    truth: Truth,
) -> pd.DataFrame:
    """A row for each concept of each layer: layer, depth, concept; see `name_concepts`.

    Args:
        layers: the taps.
        concepts: layer and name of each mask.
        firing: where they fire.
        labels: by their names.
        truth: of the test images.
    """
    depths = {layer.name: layer.depth for layer in layers}
    found = name_concepts(firing, labels, torch.tensor(truth.blocks))
    found.insert(0, "layer", [layer for layer, _ in concepts])
    found.insert(1, "depth", [depths[layer] for layer, _ in concepts])
    found.insert(2, "concept", [name for _, name in concepts])
    return found


def names_of(run: MinedRun, by: ProbedRun | None = None) -> pd.DataFrame:
    """The labels of a run's concepts, by the truth or by where the probes of another run fire.

    Empty where the data set has no labels.

    Raises:
        InputError: if the other run is of other test images.
    """
    if by is None:
        return run.names
    if by.path.resolve().parents[1] != run.path.resolve().parents[1]:
        raise InputError(
            f"{by.path} is of other test images than {run.path}, so it cannot name its concepts; "
            "give names= a probed run of the same data set"
        )
    labels = labels_of_probes(by)
    return name_table(run.layers, run.concepts, run.firing(), labels, run.truth)


def names_of_runs(
    runs: Sequence[Run], networks: Sequence[str], by: ProbedRun | None = None
) -> pd.DataFrame:
    """The labels of the concepts of all mined runs, with the column network before all others.

    Empty where there are no labels.

    Args:
        runs: of one data set.
        networks: what they are called.
        by: the probed run that names them; None for the truth.
    """
    tables = []
    for run, network in zip(runs, networks, strict=True):
        if isinstance(run, MinedRun):
            found = names_of(run, by)
            tables += [found.assign(network=network)] if len(found) else []
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    return table[["network", *table.columns.drop("network")]]


def labels_of_truth(truth: Truth) -> dict[str, Firing]:
    """Where each label is, on the pixels whose truth is known."""
    labels = {}
    for k, name in enumerate(truth.concepts):
        known = unpack(truth.labelled[:, k], truth.grid)
        present = unpack(truth.masks[:, k], truth.grid) & known
        labels[name] = Firing(present[:, None], known, present.any()[None])
    return labels


def labels_of_probes(run: ProbedRun) -> dict[str, Firing]:
    """Where the probe of each label fires, at its best layer on the validation images.

    Raises:
        InputError: if no label was seen on them.
    """
    scores = run.score_matrix("jaccard", "val").dropna(axis=1, how="all")
    if scores.empty:
        raise InputError(
            f"{run.path} has no score on validation images, so its probes cannot name concepts; "
            "give names= another probed run"
        )
    layers = [layer.name for layer in run.layers]
    labels = {}
    for name in map(str, scores.columns):
        best = layers.index(str(scores[name].idxmax()))
        masks = run.concept_masks(run.concepts.index(name))[:, [best]]
        labels[name] = Firing(masks, run.seen, masks.any()[None])
    return labels
