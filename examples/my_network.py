"""A network of one's own, to be looked at by cavalcade as any other."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn


def build(width: int = 16) -> nn.Module:
    """A trunk of four convolutions, and a classifier on top of it."""
    channels = [3, width, 2 * width, 4 * width, 4 * width]
    trunk = nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())
            for before, after in pairwise(channels)
        )
    )
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))
    return nn.Sequential(OrderedDict(trunk=trunk, classifier=classifier))
