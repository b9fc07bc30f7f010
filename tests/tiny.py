"""A small real network and small real data, for tests of what is built on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing
from cavalcade.concepts import Probes
from cavalcade.data import ConceptData, ConceptDataModule, ConceptDataset, Faces, Labels
from cavalcade.data.sample import SPLITS
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import visit


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


def shuffled_model(seed: int = 0) -> nn.Sequential:
    """The same network with its channels in another order: another file, the same meaning."""
    model = tiny_model(seed)
    order = torch.tensor([3, 1, 7, 0, 2, 5, 4, 6])
    with torch.no_grad():
        for module in (model[0], model[1]):
            for tensor in (module.weight, module.bias):
                tensor.copy_(tensor[order].clone())
        model[3].weight.copy_(model[3].weight[:, order].clone())
    return model


def tiny_backbone(
    layers: tuple[str, ...] = ("2", "4", "6"),
    *,
    seed: int = 0,
    label: str = "tiny",
    crop_mode: str = "squash",
    model: nn.Module | None = None,
    random: bool = False,
) -> FrozenBackbone:
    preprocessing = Preprocessing(
        size=(32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop_mode=crop_mode,
        crop_pct=0.75 if crop_mode == "center" else 1.0,
    )
    model = model or tiny_model(seed)
    network = Network(label, model, preprocessing, head=("9",), random=random)
    return FrozenBackbone(network, layers)


def tiny_faces(train: int = 12, val: int = 4, test: int = 8) -> Faces:
    return Faces(num_images={"train": train, "val": val, "test": test}, size=48, grid=(24, 24))


def tiny_data(
    backbone: FrozenBackbone,
    data: ConceptData | None = None,
    *,
    batch_size: int = 4,
    splits: Sequence[str] = SPLITS,
    num_workers: int = 0,
    seed: int = 0,
) -> ConceptDataModule:
    return ConceptDataModule(
        data or tiny_faces(),
        backbone.preprocessing,
        [layer.grid for layer in backbone.layers],
        batch_size=batch_size,
        splits=splits,
        num_workers=num_workers,
        seed=seed,
    )


@dataclass(kw_only=True)
class PlantedSquares(ConceptData):
    """A red and a green square on grey: what a probe must find."""

    name: str = "squares"
    size: int = 32
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 24, "val": 8, "test": 40})

    def open(self, split):
        return Squares(self.size, self.counts[split], ["train", "val", "test"].index(split))


class Squares(ConceptDataset):
    concepts = ("red", "green")

    def __init__(self, size, count, seed):
        self.size, self.seed = size, seed
        self.ids = tuple(f"{seed}-{i}" for i in range(count))
        self.groups = self.ids

    def draw(self, index):
        rng = np.random.default_rng([self.seed, index])
        image = torch.full((3, self.size, self.size), 128, dtype=torch.uint8)
        masks = torch.zeros(2, self.size, self.size, dtype=torch.bool)
        for k, half in enumerate((0, self.size // 2)):
            top = int(rng.integers(0, self.size - 12))
            left = half + int(rng.integers(0, self.size // 2 - 12))
            masks[k, top : top + 12, left : left + 12] = True
            image[:, masks[k]] = torch.tensor([[220 * (c == k)] for c in range(3)]).byte()
        return image, masks

    def image(self, index):
        return self.draw(index)[0]

    def labels(self, index):
        masks = self.draw(index)[1]
        return Labels(masks, torch.ones_like(masks))


@dataclass(kw_only=True)
class VoidSquares(PlantedSquares):
    """The same, with wrong truth in the upper half, which is void for the red ones."""

    def open(self, split):
        return SquaresWithVoid(self.size, self.counts[split], 7)


class SquaresWithVoid(Squares):
    def labels(self, index):
        masks, labelled = super().labels(index)
        masks[0, : self.size // 2] = True
        labelled[0, : self.size // 2] = False
        return Labels(masks, labelled)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


def streamed(**options) -> Probes:
    """Probes that are fitted by gradient, in a few short epochs."""
    return Probes(**{"fit": "stream", "optimizer": adam, "epochs": 2, **options})


def quiet_trainer(**settings) -> Trainer:
    settings["callbacks"] = [
        c for c in settings.get("callbacks", []) if type(c).__name__ != "PassProgress"
    ]
    return Trainer(accelerator="cpu", enable_progress_bar=False, **settings)


def tiny_visit(runs: Path, backbone: FrozenBackbone | None = None, **options) -> Path:
    """One run folder of the small network on small faces."""
    backbone = backbone or tiny_backbone()
    method = options.pop("method", None) or Probes()
    data = options.pop("data", None) or tiny_data(backbone)
    trainers = options.pop("trainers", None) or Trainers(quiet_trainer)
    return visit(backbone, data, method, trainers, runs=runs, config={"seed": 0}, **options).path


def out_of_memory() -> torch.cuda.OutOfMemoryError:
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def small_device(most: int, *, timed: bool = False):
    """A real network on a device that takes so many images at once.

    Args:
        most: images.
        timed: also where zeros only take the time, before the passes.
    """
    model = tiny_model()

    def check(_, inputs):
        measuring = not inputs[0].any()
        if armed and len(inputs[0]) > most and (timed or not measuring):
            raise out_of_memory()

    armed: list[bool] = []
    model.register_forward_pre_hook(check)
    backbone = tiny_backbone(model=model)
    armed.append(True)
    return backbone
