"""What the tests do twice: python everything_once.py FOLDER.

Probes of both fits, concepts of all three ways to mine them, and comparisons of either kind,
with all their tables, pictures and pages.
"""

import sys
from pathlib import Path

import torch

from cavalcade import Analysis, compare, load_run
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import Factorisation, Probes
from cavalcade.names import names_of_runs
from cavalcade.runs import MinedRun
from tiny import PlantedSquares, streamed, tiny_backbone, tiny_data, tiny_visit

NETWORKS = {"one": 0, "other": 5}
METHODS = {
    "one pass": Probes(),
    "some rows": Probes(rows=300),
    "stream": streamed(),
    **{
        name: Factorisation(method=name, num_concepts=3, rows=500, restarts=2)
        for name in ("nmf", "pca", "kmeans")
    },
}
COMPARED = ("one pass", "nmf")


def everything(folder: Path) -> None:
    """Train and mine, then compare."""
    for name, method in METHODS.items():
        runs = []
        for label, seed in NETWORKS.items() if name in COMPARED else [("one", 0)]:
            backbone = tiny_backbone(label=label, seed=seed)
            data = tiny_data(backbone, PlantedSquares(grid=(16, 16)), splits=method.splits)
            runs.append(load_run(tiny_visit(folder / name, backbone, data=data, method=method)))
        if name in COMPARED:
            analysis = Analysis(compare(runs, against=["cka", "knn"], repairings=4))
            labels = tuple(run.label for run in runs)
            named = names_of_runs(runs, labels, None) if isinstance(runs[0], MinedRun) else None
            tables = tables_of(analysis, named)
            write_comparison(analysis, runs, folder / f"compared {name}", tables)


if __name__ == "__main__":
    torch.set_num_threads(1)
    everything(Path(sys.argv[1]))
