"""The concepts found in one network: at each layer, vectors that turn activations into maps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.concepts.nnls import encode
from cavalcade.errors import InputError, check_choice, one_line
from cavalcade.meta_fields import WAY_OUT, Fields, parsed
from cavalcade.tensor_files import check_tensor, read_tensors

KINDS = ("probe", "nmf", "pca", "kmeans")
TRANSFORMS = ("none", "quantile", "relu", "shift", "split")
TAKES = {"quantile": ("quantiles",), "shift": ("lowest",)}  # tensors of transforms
THRESHOLDS_OF = ("data", "image")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROWS = 4096  # that are encoded at a time


@dataclass(frozen=True)
class LayerConcepts:
    """The concepts of one layer.

    Attributes:
        names: of the K concepts.
        kind: how they were found, one of `KINDS`.
        vectors: concept activation vectors, in the space of the transformed activations; of
            `kmeans` the centres less their common mean.
        bias: added to the maps of all kinds but `nmf`.
        thresholds: a concept fires where its map exceeds its threshold; NaN fires nowhere.
        transform: what happens to activations first, see `apply_transform`.
        transform_tensors: what the transform needs.
        thresholds_of: `data`, or `image`: thresholds are shares of the map's own largest value.
    """

    names: tuple[str, ...]
    vectors: Float[Tensor, "concepts channels"]
    bias: Float[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    kind: str = "probe"
    transform: str = "none"
    transform_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds_of: str = "data"

    def __post_init__(self) -> None:
        check_choice("kind of concepts", self.kind, KINDS)
        check_choice("input transform of concepts", self.transform, TRANSFORMS)
        check_choice("thresholds of concepts", self.thresholds_of, THRESHOLDS_OF)

    @property
    def channels(self) -> int:
        """Of the activations that it takes."""
        width = self.vectors.shape[1]
        return width // 2 if self.transform == "split" else width

    def encode(
        self, activations: Float[Tensor, "images channels rows columns"]
    ) -> Float[Tensor, "images concepts rows columns"]:
        """Concept maps on the layer's own grid.

        probe, pca: w·A + b, a logit or a coordinate. nmf: the code, non-negative least squares
        with the vectors fixed. kmeans: how much nearer the centre is than the nearest other one,
        as a difference of squared distances, halved.
        """
        # small differences of large numbers: in full precision, also under autocast
        with torch.autocast(activations.device.type, enabled=False):
            inputs = apply_transform(
                activations.to(self.vectors.dtype), self.transform, self.transform_tensors
            )
            if self.kind == "nmf":
                return code_maps(inputs, self.vectors)
            maps = linear_maps(inputs, self.vectors, self.bias)
            return margins(maps) if self.kind == "kmeans" else maps

    def of_rows(self, rows: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows concepts"]:
        """What `encode` gives at some pixels, if any, a part of them at a time."""
        if not len(rows):  # a convolution refuses a map without pixels
            return self.bias.new_empty(0, len(self.names))
        parts = [
            self.encode(part.T[None, :, :, None])[0, :, :, 0].T for part in torch.split(rows, ROWS)
        ]
        return torch.cat(parts)

    def fires(
        self, maps: Float[Tensor, "images concepts rows columns"]
    ) -> Bool[Tensor, "images concepts rows columns"]:
        """Where maps on the common grid exceed their thresholds."""
        return maps > self.limits(maps)

    def limits(
        self, maps: Float[Tensor, "images concepts rows columns"]
    ) -> Float[Tensor, "#images concepts 1 1"]:
        """What a map has to exceed, the same for all images or a share of its largest value."""
        thresholds = self.thresholds[None, :, None, None]
        if self.thresholds_of == "image":
            return thresholds * maps.amax(dim=(2, 3), keepdim=True)
        return thresholds

    def with_thresholds(self, thresholds: Float[Tensor, " concepts"]) -> "LayerConcepts":
        """The same concepts with other thresholds."""
        return replace(self, thresholds=thresholds.clone())

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
) -> Float[Tensor, "images _ rows columns"]:
    """Activations as the concept vectors take them.

    none: as they are. quantile: 1 where a channel exceeds its entry in `quantiles`, else 0.
    relu: negative values become 0. shift: less each channel's entry in `lowest`, then at least
    0. split: twice as many channels, positive parts, then the sizes of negative ones.
    """
    if transform == "quantile":
        return (activations > tensors["quantiles"][:, None, None]).to(activations.dtype)
    if transform == "relu":
        return activations.clamp(min=0)
    if transform == "shift":
        return (activations - tensors["lowest"][:, None, None]).clamp(min=0)
    if transform == "split":
        return torch.cat([activations.clamp(min=0), (-activations).clamp(min=0)], dim=1)
    return activations


def linear_maps(
    inputs: Float[Tensor, "images channels rows columns"],
    vectors: Float[Tensor, "concepts channels"],
    bias: Float[Tensor, " concepts"],
) -> Float[Tensor, "images concepts rows columns"]:
    """One stacked 1x1 convolution: the maps of all concepts at once."""
    return torch.nn.functional.conv2d(inputs, vectors[:, :, None, None], bias)


def code_maps(
    inputs: Float[Tensor, "images channels rows columns"],
    dictionary: Float[Tensor, "concepts channels"],
) -> Float[Tensor, "images concepts rows columns"]:
    """Codes of all pixels; see `encode`."""
    images, channels, rows, columns = inputs.shape
    codes = encode(inputs.permute(0, 2, 3, 1).reshape(-1, channels), dictionary)
    return codes.view(images, rows, columns, -1).permute(0, 3, 1, 2)


def margins(
    scores: Float[Tensor, "images concepts rows columns"],
) -> Float[Tensor, "images concepts rows columns"]:
    """Each score less the largest other one; positive for the largest."""
    if scores.shape[1] == 1:
        return torch.ones_like(scores)
    two = scores.topk(2, dim=1).values
    return scores - torch.where(scores == two[:, :1], two[:, 1:], two[:, :1])


@dataclass(frozen=True)
class ConceptSet:
    """The concepts of all layers of one network, in execution order of the layers."""

    layers: Mapping[str, LayerConcepts]

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Layer and name of every concept, layer after layer."""
        return tuple((layer, name) for layer, own in self.layers.items() for name in own.names)

    @property
    def found(self) -> Bool[Tensor, " concepts"]:
        """Which of them have a threshold: one that is nowhere strong in training has none."""
        return ~torch.cat([own.thresholds for own in self.layers.values()]).isnan()

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
            {name: layer.with_thresholds(thresholds[name]) for name, layer in self.layers.items()}
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
                "thresholds_of": layer.thresholds_of,
                "names": layer.names,
            }
        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(ready, path, metadata={"layers": json.dumps(described)})

    @classmethod
    def load(cls, path: Path) -> "ConceptSet":
        """Read what `save` wrote; runs no code.

        Raises:
            InputError: if the file is missing or damaged, or what it holds does not fit together.
        """
        try:
            with safe_open(path, framework="pt") as file:
                described = parsed((file.metadata() or {}).get("layers", "null"))
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read ({one_line(error)}); {WAY_OUT}") from error
        fields, tensors = Fields(described, path, "layers"), read_tensors(path)
        return cls({name: _read_layer(fields.fields(name), name, tensors) for name in described})


def _read_layer(fields: Fields, name: str, tensors: Mapping[str, Tensor]) -> LayerConcepts:
    """The concepts of a layer as they lie in a file."""
    names, vectors = fields.texts("names", distinct=True), tensors.get(f"{name}/vectors")
    own = vectors.dtype if vectors is not None and vectors.dtype in FLOATS else torch.float32

    def tensor(what: str, *shape: int) -> Tensor:
        """All are of the type of the vectors, but what is compared with maps alone."""
        found = tensors.get(f"{name}/{what}")
        if found is None:
            raise InputError(f"{fields.path} has no tensor {name}/{what}; {WAY_OUT}")
        limits = what == "thresholds" and found.dtype in FLOATS
        checked = found.nan_to_num(0, torch.inf, 0) if limits else found  # NaN: fires nowhere
        dtype = found.dtype if limits else own
        check_tensor(fields.path, f"{name}/{what}", checked, dtype, shape)
        return found

    count, width = len(names), vectors.shape[-1] if vectors is not None and vectors.ndim else 0
    transform = fields.text("transform")
    limits = "thresholds_of" in fields.content
    try:
        return LayerConcepts(
            names=names,
            vectors=tensor("vectors", count, width),
            bias=tensor("bias", count),
            thresholds=tensor("thresholds", count),
            kind=fields.text("kind"),
            transform=transform,
            thresholds_of=fields.text("thresholds_of") if limits else "data",
            transform_tensors={
                key: tensor(f"transform/{key}", width) for key in TAKES.get(transform, ())
            },
        )
    except InputError as error:
        told = str(error).startswith(str(fields.path))
        raise error if told else InputError(f"{fields.path}: {name}: {error}") from error
