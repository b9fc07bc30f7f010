"""What folders of a format say when they are read: kept beside them when they were made."""

import json
from pathlib import Path
from typing import Any

from cavalcade import compare
from cavalcade.comparing.comparable import find_runs
from cavalcade.comparing.comparison import Comparison
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.runs import MinedRun, ProbedRun, Run

FORMATS = Path(__file__).with_name("fixtures")
FACTS = "facts.json"
NETWORKS = ("original", "stranger")  # that are compared
AGAINST = ("cka", "procrustes")
REPAIRINGS = 3


def compared(place: Path, method: str, cache: Path | None = None) -> tuple[list[Run], Comparison]:
    """The runs of both networks by a method, and how they compare."""
    runs = find_runs([place / "runs/*" / method / f"{name}-*" for name in NETWORKS])
    return runs, compare(runs, against=AGAINST, repairings=REPAIRINGS, cache=cache)


def facts_of(run: ProbedRun | MinedRun) -> dict[str, Any]:
    """Known numbers of a run and of its truth, each read from a file of its own."""
    own: dict[str, Any] = {}
    if isinstance(run, ProbedRun):
        scores = run.scores.groupby(["layer", "split"], sort=False)["jaccard"].mean()
        own = {"scores": [[*key, value] for key, value in scores.items()]}
        if run.has_halves:
            halves = [[run.half_masks(half, k) for k in range(2)] for half in (1, 2)]
            own |= {"halves": [[int(masks.sum()) for masks in half] for half in halves]}
    else:
        own = {"table": run.table.to_dict("list"), "names": run.names.to_dict("list")}
    described = {
        "label": run.label,
        "method": run.method,
        "random": run.random,
        "labels": run.labels,
        "concepts": run.concepts,
        "weights": run.weights,
        "architecture": run.architecture,
        "layers": [[x.name, x.depth, x.trunk, *x.grid] for x in run.layers],
        "seen": int(run.seen.sum()),
        "truth": _truth_of(run),
        "concept_set": _concepts_of(run.concept_set),
    }
    for layer in (x.name for x in run.layers):
        described[f"fires at {layer}"] = run.masks(layer).sum(dim=(0, 2)).tolist()
        described[f"strengths at {layer}"] = run.strengths(layer).double().mean(dim=0).tolist()
        described[f"features at {layer}"] = run.features(layer).double().mean(dim=0).tolist()
    return json.loads(json.dumps(described | own))


def _truth_of(run: Run) -> dict[str, Any]:
    truth = run.truth
    masks = [truth.strata(k)[:, 0].sum().item() for k in range(len(truth.concepts))]
    pictures = [tuple(truth.thumbnails[k].shape) for k in range(len(truth.thumbnails))]
    named = ("data", "fingerprint", "grid", "concepts", "ids", "groups", "blocks", "thumbnail_size")
    return {name: getattr(truth, name) for name in named} | {"masks": masks, "pictures": pictures}


def _concepts_of(concepts: ConceptSet) -> dict[str, Any]:
    return {
        name: {
            "names": own.names,
            "kind": own.kind,
            "transform": own.transform,
            "transform_tensors": sorted(own.transform_tensors),
            "thresholds_of": own.thresholds_of,
            "thresholds": own.thresholds.tolist(),
            "bias": own.bias.tolist(),
            "vectors": own.vectors.double().sum(dim=1).tolist(),
        }
        for name, own in concepts.layers.items()
    }
