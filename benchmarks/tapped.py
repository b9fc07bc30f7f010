"""Frozen networks as other packages hook them, and their pooled maps by our taps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.encoding import pooled

WHOLE = (0.0, 0.0, 1.0, 1.0)  # frame of an image that is seen as it is


class TappedModule(nn.Module):
    """A module with layers to hook, by their names."""

    names: Sequence[str]


class WholeMaps(TappedModule):
    """The network itself, to its end; what hooks its layers sees whole maps."""

    def __init__(self, backbone: FrozenBackbone) -> None:
        super().__init__()
        self.model = backbone.model
        self.names = [f"model.{name}" for name in backbone.names]

    def forward(self, inputs: Tensor) -> Tensor:
        """What the network says."""
        return self.model(inputs)


class PooledMaps(TappedModule):
    """The network to its deepest tap, each layer's channels averaged over the map as ours are."""

    def __init__(self, backbone: FrozenBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps = nn.ModuleList(nn.Identity() for _ in backbone.names)
        self.names = [f"taps.{index}" for index in range(len(self.taps))]

    def forward(self, inputs: Tensor) -> None:
        """Show each layer to its tap."""
        for tap, layer in zip(self.taps, pooled_layers(self.backbone, inputs), strict=True):
            tap(layer)


class KeptFeatures(TappedModule):
    """Features that are known; the inputs are positions of images."""

    def __init__(self, features: Sequence[Tensor]) -> None:
        super().__init__()
        self.features = features
        self.taps = nn.ModuleList(nn.Identity() for _ in features)
        self.names = [f"taps.{index}" for index in range(len(self.taps))]

    def forward(self, positions: Tensor) -> None:
        """Show each layer to its tap."""
        for tap, layer in zip(self.taps, self.features, strict=True):
            tap(layer[positions])


def pooled_layers(backbone: FrozenBackbone, inputs: Tensor) -> list[Tensor]:
    """Mean of each channel of each layer, (images, channels), of images seen as they are."""
    frames = torch.tensor([WHOLE] * len(inputs))
    return [pooled(maps, frames) for maps in backbone(inputs).values()]
