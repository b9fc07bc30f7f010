"""The concepts found in one network: at each layer, vectors that turn activations into maps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.errors import check_choice

KINDS = ("probe",)
TRANSFORMS = ("none", "quantile")


@dataclass(frozen=True)
class LayerConcepts:
    """The concepts of one layer.

    Attributes:
        names: of the K concepts.
        kind: how they were found, one of `KINDS`.
        vectors: concept activation vectors, in the space of the transformed activations.
        bias: added to the maps.
        thresholds: a concept fires where its map exceeds its threshold; NaN fires nowhere.
        transform: what happens to activations first: `none`, or `quantile` (1 where a channel
            exceeds its own entry in `transform_tensors["quantiles"]`, else 0).
        transform_tensors: what the transform needs.
    """

    names: tuple[str, ...]
    vectors: Float[Tensor, "concepts channels"]
    bias: Float[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    kind: str = "probe"
    transform: str = "none"
    transform_tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("kind of concepts", self.kind, KINDS)
        check_choice("input transform of concepts", self.transform, TRANSFORMS)

    def encode(
        self, activations: Float[Tensor, "images channels rows columns"]
    ) -> Float[Tensor, "images concepts rows columns"]:
        """Concept maps on the layer's own grid: for probes, logits w·A + b."""
        inputs = apply_transform(activations, self.transform, self.transform_tensors)
        return linear_maps(inputs, self.vectors, self.bias)

    def to(self, device: torch.device) -> "LayerConcepts":
        """The same concepts on a device."""
        return replace(
            self,
            vectors=self.vectors.to(device),
            bias=self.bias.to(device),
            thresholds=self.thresholds.to(device),
            transform_tensors={k: v.to(device) for k, v in self.transform_tensors.items()},
        )


def apply_transform(
    activations: Float[Tensor, "images channels rows columns"],
    transform: str,
    tensors: Mapping[str, Tensor],
) -> Float[Tensor, "images channels rows columns"]:
    """Activations as the concept vectors take them."""
    if transform == "quantile":
        return (activations > tensors["quantiles"][:, None, None]).to(activations.dtype)
    return activations


def linear_maps(
    inputs: Float[Tensor, "images channels rows columns"],
    vectors: Float[Tensor, "concepts channels"],
    bias: Float[Tensor, " concepts"],
) -> Float[Tensor, "images concepts rows columns"]:
    """One stacked 1x1 convolution: the maps of all concepts at once."""
    return torch.nn.functional.conv2d(inputs, vectors[:, :, None, None], bias)


@dataclass(frozen=True)
class ConceptSet:
    """The concepts of all layers of one network, in execution order of the layers."""

    layers: Mapping[str, LayerConcepts]

    def encode(
        self, activations: Mapping[str, Float[Tensor, "images _ _ _"]]
    ) -> dict[str, Float[Tensor, "images _ _ _"]]:
        """Concept maps of every layer, each on its own grid."""
        return {name: concepts.encode(activations[name]) for name, concepts in self.layers.items()}

    def to(self, device: torch.device) -> "ConceptSet":
        """The same concepts on a device."""
        return ConceptSet({name: layer.to(device) for name, layer in self.layers.items()})

    def with_thresholds(self, thresholds: Mapping[str, Float[Tensor, " concepts"]]) -> "ConceptSet":
        """The same concepts with other thresholds for each layer."""
        return ConceptSet(
            {
                name: replace(layer, thresholds=thresholds[name].clone())
                for name, layer in self.layers.items()
            }
        )

    def save(self, path: Path) -> None:
        """Write as safetensors; kinds and names go into the metadata as JSON."""
        tensors: dict[str, Tensor] = {}
        described = {}
        for name, layer in self.layers.items():
            tensors[f"{name}/vectors"] = layer.vectors
            tensors[f"{name}/bias"] = layer.bias
            tensors[f"{name}/thresholds"] = layer.thresholds
            tensors |= {f"{name}/transform/{k}": v for k, v in layer.transform_tensors.items()}
            described[name] = {
                "kind": layer.kind,
                "transform": layer.transform,
                "names": layer.names,
            }
        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(ready, path, metadata={"layers": json.dumps(described)})

    @classmethod
    def load(cls, path: Path) -> "ConceptSet":
        """Read what `save` wrote; runs no code."""
        with safe_open(path, framework="pt") as file:
            described = json.loads(file.metadata()["layers"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        layers = {}
        for name, what in described.items():
            prefix = f"{name}/transform/"
            layers[name] = LayerConcepts(
                names=tuple(what["names"]),
                vectors=tensors[f"{name}/vectors"],
                bias=tensors[f"{name}/bias"],
                thresholds=tensors[f"{name}/thresholds"],
                kind=what["kind"],
                transform=what["transform"],
                transform_tensors={
                    key.removeprefix(prefix): tensor
                    for key, tensor in tensors.items()
                    if key.startswith(prefix)
                },
            )
        return cls(layers)
