"""Frozen networks: taps, depth, geometry, and where weights come from."""

from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.layers import Layer
from cavalcade.backbones.preprocessing import Preprocessing
from cavalcade.backbones.timm_zoo import timm_backbone

__all__ = ["FrozenBackbone", "Layer", "Network", "Preprocessing", "timm_backbone"]
