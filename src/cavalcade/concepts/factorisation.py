"""The unsupervised method: concepts mined from activations alone (ICE, Zhang et al. 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone, Layer
from cavalcade.concepts.code_thresholds import THRESHOLDS, code_thresholds
from cavalcade.concepts.concept_set import ConceptSet, LayerConcepts, apply_transform
from cavalcade.concepts.passes import TrainerFactory
from cavalcade.concepts.reducers import REDUCERS, Reduced, Reducer
from cavalcade.concepts.row_sample import Origins, RowSample
from cavalcade.concepts.stability import Reproducibility, bootstrap_weights
from cavalcade.data import ConceptDataModule
from cavalcade.errors import InputError, check_choice, check_whole

NEGATIVE = ("split", "relu", "shift")


@dataclass(frozen=True)
class Mined:
    """What was mined from a network.

    Attributes:
        concepts: of each layer, the strongest first, named c1, c2, and so on.
        table: a row for each layer and concept: layer, depth, concept; strength, its share of
            the sum of all positive codes of the sampled pixels; threshold, in units of the map;
            reproducibility, with its _low and _high, and next_best, see `Reproducibility`;
            relative_error of the whole layer.
    """

    concepts: ConceptSet
    table: pd.DataFrame


@dataclass(kw_only=True)
class Factorisation:
    """Mines the concepts of every layer from a sample of its activations.

    Attributes:
        method: `nmf`, `pca` or `kmeans`.
        num_concepts: of each layer; fewer where a layer has fewer channels.
        rows: pixels of each layer that are kept of all training images together.
        negative: what NMF does with activations below 0: `split` makes channels of their own of
            them, `relu` cuts them off, `shift` subtracts each channel's smallest value. A layer
            without any is left as it is.
        threshold: `robust_max`, `otsu` or `image_max`, see `code_thresholds`; k-means needs none,
            since a pixel belongs to the nearest centre.
        share: of the maximum, for `robust_max` and `image_max`.
        restarts: refits on bootstraps of blocks of images, for each concept's reproducibility.
    """

    splits = ("train", "test")
    checkpoints = None  # one pass, from which nothing is kept

    method: str = "nmf"
    num_concepts: int = 10
    rows: int = 16_000
    negative: str = "split"
    threshold: str = "robust_max"
    share: float = 0.25
    restarts: int = 10

    def __post_init__(self) -> None:
        check_choice("concepts.method", self.method, REDUCERS)
        check_choice("concepts.negative", self.negative, NEGATIVE)
        check_choice("concepts.threshold", self.threshold, THRESHOLDS)
        check_whole("concepts.num_concepts", self.num_concepts, 1)
        check_whole("concepts.rows", self.rows, 1)
        check_whole("concepts.restarts", self.restarts, 0)
        if not isinstance(self.share, float) or not 0 < self.share < 1:
            raise InputError(
                f"concepts.share is {self.share!r}; give a number between 0 and 1, as 0.25"
            )

    @property
    def name(self) -> str:
        """The method, as folders are called."""
        return self.method

    def images_seen(self, sizes: Mapping[str, int]) -> int:
        """How many images go through the network."""
        return sizes["train"] + sizes["test"]

    def masks_of_layer(self, labels: Sequence[str]) -> int:  # noqa: ARG002
        """How many masks each test image gets at a layer."""
        return self.num_concepts

    def identity(self) -> dict[str, Any]:
        """All of the method that changes results, for the digest of a run."""
        unused = {
            "negative": not REDUCERS[self.method].non_negative,
            "threshold": self.method == "kmeans",
            "share": self.method == "kmeans" or self.threshold == "otsu",
        }
        return {name: value for name, value in vars(self).items() if not unused.get(name)}

    def find(
        self, backbone: FrozenBackbone, data: ConceptDataModule, new_trainer: TrainerFactory
    ) -> Mined:
        """Mine the concepts of all layers, after one pass over the training images.

        Raises:
            InputError: naming a layer whose activations cannot be factorised.
        """
        train = data.splits["train"]
        sample = RowSample(backbone, len(train), self.rows, data.seed)
        trainer = new_trainer()
        trainer.test(sample, data.in_order("train"), verbose=False)
        weights = bootstrap_weights(train.groups, self.restarts, data.seed)
        sample.rows.gather()

        def mine(layer: Layer) -> tuple[LayerConcepts, pd.DataFrame]:
            own = sample.rows.of(layer.name)
            assert own is not None
            return self._mine(layer, *own, weights, data.seed, trainer.strategy.root_device)

        mined = processes.shared_out(mine, backbone.layers, f"{backbone.label}: mining layers")
        layers = {name: concepts for name, (concepts, _) in zip(backbone.names, mined, strict=True)}
        return Mined(ConceptSet(layers), pd.concat([t for _, t in mined], ignore_index=True))

    def _mine(
        self,
        layer: Layer,
        origins: Origins,
        activations: Float[Tensor, "rows channels"],
        weights: Int[Tensor, "restarts images"],
        seed: int,
        device: torch.device,
    ) -> tuple[LayerConcepts, pd.DataFrame]:
        """The concepts of one layer, the strongest first, and their rows of the table."""
        reducer = REDUCERS[self.method]
        check_activations(layer.name, activations, positive=reducer.non_negative)
        transform, tensors = self._transform(activations, reducer)
        pixels = activations.T[None, :, :, None].to(device)  # an image of one column
        on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
        inputs = apply_transform(pixels, transform, on_device)[0, :, :, 0].T.contiguous()
        found = reducer.fit(inputs, self.num_concepts, seed)
        drawn = weights[:, origins.images].to(device)
        again = reducer.refit(inputs, self.num_concepts, seed, drawn) if len(drawn) else []
        concepts = self._concepts(found, transform, on_device).to(device)
        codes = concepts.encode(pixels)[0, :, :, 0].T.cpu()
        order = codes.clamp(min=0).sum(dim=0).argsort(descending=True, stable=True)
        codes = codes[:, order]
        concepts = concepts.to(torch.device("cpu"))
        concepts = replace(
            concepts,
            vectors=concepts.vectors[order],
            bias=concepts.bias[order],
            thresholds=self._thresholds(codes),
        )
        stable = Reproducibility.of(concepts.vectors, again)
        return concepts, _table(layer, concepts, codes, stable, found.error)

    def _transform(
        self, activations: Float[Tensor, "rows channels"], reducer: Reducer
    ) -> tuple[str, dict[str, Tensor]]:
        """What is done about negative activations, and what that needs."""
        if not reducer.non_negative or bool((activations >= 0).all()):
            return "none", {}
        if self.negative == "shift":
            return "shift", {"lowest": activations.amin(dim=0)}
        return self.negative, {}

    def _concepts(
        self, found: Reduced, transform: str, tensors: dict[str, Tensor]
    ) -> LayerConcepts:
        by_image = self.threshold == "image_max" and self.method != "kmeans"
        return LayerConcepts(
            names=tuple(f"c{k + 1}" for k in range(len(found.vectors))),
            vectors=found.vectors,
            bias=found.bias,
            thresholds=torch.zeros_like(found.bias),
            kind=self.method,
            transform=transform,
            transform_tensors=tensors,
            thresholds_of="image" if by_image else "data",
        )

    def _thresholds(self, codes: Float[Tensor, "rows concepts"]) -> Float[Tensor, " concepts"]:
        if self.method == "kmeans":
            return codes.new_zeros(codes.shape[1])
        return code_thresholds(codes, self.threshold, self.share)


def _table(
    layer: Layer,
    concepts: LayerConcepts,
    codes: Float[Tensor, "rows concepts"],
    stable: Reproducibility,
    error: float,
) -> pd.DataFrame:
    """The rows of one layer; see `Mined`."""
    strengths = codes.clamp(min=0).sum(dim=0)
    return pd.DataFrame(
        {
            "layer": layer.name,
            "depth": layer.depth,
            "concept": concepts.names,
            "strength": strengths / strengths.sum(),
            "threshold": concepts.thresholds,
            "reproducibility": stable.mean,
            "reproducibility_low": stable.low,
            "reproducibility_high": stable.high,
            "next_best": stable.next_best,
            "relative_error": error,
        }
    )


def check_activations(
    layer: str, activations: Float[Tensor, "rows channels"], *, positive: bool
) -> None:
    """Raise unless concepts can be mined from the sampled activations of a layer.

    Raises:
        InputError: naming the layer.
    """
    way_out = "leave it out of backbone.layers"
    if positive and not (activations > 0).any():
        raise InputError(
            f"layer {layer} has no positive activation, so that it has no non-negative concepts; "
            f"{way_out}, or use concepts.method=pca"
        )
    if len(activations) < 2:
        raise InputError(
            f"of layer {layer} only {len(activations)} pixel was sampled; give more images, or a "
            "larger concepts.rows"
        )
    if (activations == activations[:1]).all():
        raise InputError(
            f"layer {layer} is the same at all sampled pixels, so it has no concepts; {way_out}"
        )
