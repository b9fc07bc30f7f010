"""Networks of which it is known what they mean: they share so many concepts, at known layers.

A concept is a small pattern that is laid over patches of an image, so that concepts overlap as
they please. Patches of a concept lie where concepts of its kind lie, in the scenes that show it:
concepts that have nothing to do with each other agree by area and position. A layer of a planted
network looks for the patterns of its own concepts, and for no other, and spreads what it finds
over its channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from cavalcade.backbones import FrozenBackbone, Network, Preprocessing
from cavalcade.data import ConceptData, ConceptDataset, Labels

CELL, SIDE = 4, 12  # pixels of a pattern, and patterns across an image
CHANNELS = 8  # of a layer
CONTRAST = 18.0  # of a pattern at its strongest, in grey levels
SHIFT = np.array([0.6, 0.6])  # of a patch from image to image of a scene, in cells


def patterns(seed: int) -> np.ndarray:
    """Orthogonal patterns without a mean, each in one colour, in a random order."""
    places = (np.arange(CELL) + 0.5) * np.pi / CELL
    waves = np.cos(places * np.arange(CELL)[:, None])
    flat = np.einsum("iy,jx->ijyx", waves, waves).reshape(-1, CELL, CELL)[1:]
    flat /= np.abs(flat).max(axis=(1, 2), keepdims=True)
    colours = np.einsum("cd,pyx->cpdyx", np.eye(3), flat).reshape(-1, 3, CELL, CELL)
    return np.random.default_rng(seed).permutation(colours)


@dataclass(frozen=True)
class Plan:
    """What two networks share.

    Attributes:
        shared: concepts of each layer that the other network has, too.
        own: concepts of each layer.
        depth: layers of either network.
        turned: the other network has them at the layers from the last to the first.
        seed: of patterns, weights and images.
    """

    shared: int
    own: int = 3
    depth: int = 4
    turned: bool = False
    seed: int = 0

    def partner(self, layer: int) -> int:
        """The layer of the other network that shares concepts with one."""
        return self.depth - 1 - layer if self.turned else layer

    @property
    def count(self) -> int:
        """Concepts of a network."""
        return self.own * self.depth

    def concepts(self, network: int) -> list[list[int]]:
        """The concepts of each layer; those of the second network that it has alone come last.

        Concept k and concept k + `count` lie in the same places of an image.
        """
        layers = np.arange(self.count).reshape(self.depth, self.own)
        if network == 1:
            layers = layers[[self.partner(layer) for layer in range(self.depth)]]
            layers = layers + self.count * (np.arange(self.own) >= self.shared)
        return [list(map(int, layer)) for layer in layers]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all concepts."""
        return tuple(f"pattern{k:02}" for k in range(2 * self.count))

    def shared_names(self, layer: int) -> set[str]:
        """The concepts that a layer of the first network shares with its partner."""
        one, other = self.concepts(0)[layer], self.concepts(1)[self.partner(layer)]
        return {self.names[k] for k in set(one) & set(other)}

    def layers(self, network: int) -> list[str]:
        """The names of the taps."""
        return [f"stages.{k}.{(3, 4)[network]}" for k in range(self.depth)]


def matcher(concepts: Sequence[int], plan: Plan, bias: Tensor) -> nn.Conv2d:
    """Looks for patterns: 1 where one is at its strongest, less what is asked at least."""
    own = torch.tensor(patterns(plan.seed)[list(concepts)], dtype=torch.float32)
    conv = nn.Conv2d(3, len(own), CELL, CELL)
    sizes = (own**2).sum(dim=(1, 2, 3), keepdim=True)
    with torch.no_grad():
        conv.weight.copy_(own * (127.5 / CONTRAST) / sizes)  # of inputs from -1 to 1
        conv.bias.copy_(-bias)
    return conv


def stem() -> nn.Conv2d:
    """Hands colours on."""
    conv = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
    return conv


def blur(channels: int) -> nn.Conv2d:
    """Lets a cell hear its neighbours."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[0, 1, 0], [1, 4, 1], [0, 1, 0]]).float() / 8)
    return conv


def mixer(concepts: int, draws: torch.Generator) -> nn.Conv2d:
    """Spreads concepts over all channels, each of which hears one of them best."""
    conv = nn.Conv2d(concepts, CHANNELS, 1, bias=False)
    best = torch.randperm(CHANNELS, generator=draws) % concepts
    amounts = 0.4 * torch.rand(CHANNELS, concepts, generator=draws)
    with torch.no_grad():
        conv.weight.copy_((amounts + nn.functional.one_hot(best, concepts))[:, :, None, None])
    return conv


class PlantedNetwork(nn.Module):
    """Stages that look at the image, each for concepts of its own, then a head.

    The second network begins with a layer that finds nothing and blurs what its stages find, so
    that its layers lie at other depths, and its masks differ from those of the first. Either
    asks each concept for a strength of its own.
    """

    def __init__(self, plan: Plan, network: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(2 * plan.seed + network)
        stages = []
        for concepts in plan.concepts(network):
            bias = 0.15 + 0.2 * torch.rand(len(concepts), generator=draws)
            parts = [matcher(concepts, plan, bias), nn.ReLU()]
            parts += [blur(len(concepts))] if network == 1 else []
            stages.append(nn.Sequential(*parts, mixer(len(concepts), draws), nn.ReLU()))
        self.stem = stem() if network == 1 else nn.Identity()
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(CHANNELS * plan.depth, 2)

    def forward(self, images: Tensor) -> Tensor:
        images = self.stem(images)
        found = [stage(images).mean(dim=(2, 3)) for stage in self.stages]
        return self.head(torch.cat(found, dim=1))


def planted_backbone(plan: Plan, network: int) -> FrozenBackbone:
    """The first or the second network, frozen, with all its layers."""
    size = (CELL * SIDE, CELL * SIDE)
    seen = Preprocessing(size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlantedNetwork(plan, network)
    label = ("first", "second")[network]
    return FrozenBackbone(Network(label, model, seen, head=("head",)), plan.layers(network))


def strengths(plan: Plan, draws: np.random.Generator, scenes: int, images: int) -> np.ndarray:
    """How strong each concept is at each cell (images, concepts, cells, cells), 0 to 1.

    A scene shows about half of the concepts, in patches whose size and place it draws, and
    which move a little from image to image.
    """
    kinds = np.random.default_rng([plan.seed, 7])
    home = np.tile(kinds.uniform(2, SIDE - 2, size=(plan.count, 2)), (2, 1))
    size = np.tile(kinds.uniform(2.0, 3.5, size=plan.count), 2)
    count = 2 * plan.count
    there = draws.random((scenes, count)) < 0.55
    centre = home + draws.normal(scale=1.8, size=(scenes, count, 2))
    radius = size * draws.uniform(0.7, 1.3, size=(scenes, count))
    centre = centre[:, None] + SHIFT * draws.normal(size=(scenes, images, count, 2))
    cells = np.arange(SIDE) + 0.5
    away = (cells - centre[..., :1])[..., :, None] ** 2 + (cells - centre[..., 1:])[
        ..., None, :
    ] ** 2
    rises = 1.4 - np.sqrt(away) / radius[:, None, :, None, None]
    found = np.clip(rises, 0, 1) * there[:, None, :, None, None]
    return found.reshape(-1, count, SIDE, SIDE)


def drawn(plan: Plan, draws: np.random.Generator, strength: np.ndarray) -> Tensor:
    """Pictures of concepts, under a light that falls off somewhere, with noise."""
    own = CONTRAST * patterns(plan.seed)[: strength.shape[1]]
    images = np.einsum("nkyx,kcij->ncyixj", strength, own, optimize=True)
    images = images.reshape(len(strength), 3, CELL * SIDE, CELL * SIDE)
    ramp = np.linspace(-1, 1, CELL * SIDE)
    slope = draws.uniform(-15, 15, size=(2, len(strength), 1, 1, 1))
    images += 128 + slope[0] * ramp[:, None] + slope[1] * ramp
    images += draws.normal(scale=4, size=images.shape)
    return torch.from_numpy(images.round().clip(0, 255).astype(np.uint8))


@dataclass(kw_only=True)
class Scenes(ConceptData):
    """Images of the concepts of a plan, a few of each scene.

    Attributes:
        plan: of the networks.
        scenes: of each split.
        images: of each scene.
        test_seed: of the test images.
    """

    name: str = "scenes"
    grid: Sequence[int] = (SIDE, SIDE)
    test_images: int = 1_000_000
    thumbnails: int | None = 48
    plan: Plan = field(default_factory=lambda: Plan(1))
    scenes: dict[str, int] = field(default_factory=lambda: {"train": 24, "val": 8, "test": 24})
    images: int = 4
    test_seed: int = 0

    def open(self, split: str) -> "SceneImages":
        seed = {"train": [1, 0], "val": [2, 0], "test": [3, self.test_seed]}[split]
        draws = np.random.default_rng([self.plan.seed, *seed])
        return SceneImages(self.plan, draws, self.scenes[split], self.images, split)


class SceneImages(ConceptDataset):
    """One split; all is drawn at once."""

    def __init__(
        self, plan: Plan, draws: np.random.Generator, scenes: int, images: int, split: str
    ) -> None:
        self.concepts = plan.names
        self.ids = tuple(f"{split}-{s:05}-{k}" for s in range(scenes) for k in range(images))
        self.groups = tuple(f"{split}-{s:05}" for s in range(scenes) for _ in range(images))
        self.strength = strengths(plan, draws, scenes, images)
        self.plan, self.draws = plan, draws

    @cached_property
    def pictures(self) -> Tensor:
        """All images."""
        return drawn(self.plan, self.draws, self.strength)

    @cached_property
    def truth(self) -> Tensor:
        """Where each concept is, a pixel for each cell."""
        return torch.from_numpy(self.strength > 0.5)

    def image(self, index: int) -> Tensor:
        return self.pictures[index]

    def labels(self, index: int) -> Labels:
        masks = self.truth[index]
        return Labels(masks, torch.tensor(True).expand(masks.shape))
