"""Frozen networks: taps, depth, geometry, and where weights come from."""

from cavalcade.backbones.custom import custom_backbone
from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.layers import Layer
from cavalcade.backbones.preprocessing import Preprocessing
from cavalcade.backbones.timm_zoo import timm_backbone
from cavalcade.backbones.torchvision_zoo import torchvision_backbone
from cavalcade.backbones.yolo_zoo import yolo_backbone

__all__ = [
    "FrozenBackbone",
    "Layer",
    "Network",
    "Preprocessing",
    "custom_backbone",
    "timm_backbone",
    "torchvision_backbone",
    "yolo_backbone",
]
