"""A small real network and small real data, for tests of what is built on them."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing
from cavalcade.concepts import Probes
from cavalcade.data import ConceptDataModule, Faces
from cavalcade.visit import Trainers, visit


def tiny_model(seed: int = 0) -> nn.Sequential:
    """Three convolutions with BatchNorm and in-place ReLU, then a head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(12, 16, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )


def tiny_backbone(
    layers: tuple[str, ...] = ("2", "4", "6"),
    *,
    seed: int = 0,
    label: str = "tiny",
    crop_mode: str = "squash",
) -> FrozenBackbone:
    preprocessing = Preprocessing(
        size=(32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop_mode=crop_mode,
        crop_pct=0.75 if crop_mode == "center" else 1.0,
    )
    return FrozenBackbone(Network(label, tiny_model(seed), preprocessing, head=("9",)), layers)


def tiny_faces(train: int = 12, val: int = 4, test: int = 8) -> Faces:
    return Faces(num_images={"train": train, "val": val, "test": test}, size=48, grid=(24, 24))


def tiny_data(
    backbone: FrozenBackbone, data: Faces | None = None, *, batch_size: int = 4
) -> ConceptDataModule:
    return ConceptDataModule(
        data or tiny_faces(),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=batch_size,
    )


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


def quiet_trainer(**settings) -> Trainer:
    settings["callbacks"] = [
        c for c in settings.get("callbacks", []) if type(c).__name__ != "PassProgress"
    ]
    return Trainer(accelerator="cpu", enable_progress_bar=False, **settings)


def tiny_visit(runs: Path, backbone: FrozenBackbone | None = None, **options) -> Path:
    """One run folder of the small network on small faces."""
    backbone = backbone or tiny_backbone()
    method = options.pop("method", None) or Probes(optimizer=adam, epochs=2)
    data = options.pop("data", None) or tiny_data(backbone)
    return visit(
        backbone, data, method, Trainers(quiet_trainer), runs=runs, config={"seed": 0}, **options
    )
