"""Linear probes that segment concepts (Net2Vec, Fong & Vedaldi 2018), all of a layer stacked."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cavalcade.concepts.concept_set import LayerConcepts, apply_transform, linear_maps
from cavalcade.data.batches import Targets

LOSSES = ("balanced", "net2vec")


def softplus(z: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """log(1 + exp(z)), to 1e-7 for float32; its gradient is right everywhere but at exactly 0.

    By functions that are vectorised: on a CPU PyTorch's own takes twenty times as long.
    """
    return z.clamp(min=0) - z.abs().sigmoid().log()


def probe_loss(
    logits: Float[Tensor, "images replicates concepts rows columns"],
    targets: Targets,
    alpha: Float[Tensor, "replicates concepts"],
    kind: str,
) -> Float[Tensor, "images replicates concepts"]:
    """Loss of each probe on each image, averaged over the cells of the layer's grid.

    With the soft target t, the share of the concept in the labelled part of a cell, and p the
    sigmoid of the logit, each cell weighs as much as its labelled share and costs

    - `balanced`: -[alpha t log p + (1 - alpha) (1 - t) log(1 - p)],
    - `net2vec`: -[alpha t p + (1 - alpha) (1 - t) (1 - p)], the form without logarithms in
      Fong & Vedaldi 2018 (arXiv 1801.03454), eq. 2, negated.
    """
    positive = alpha[..., None, None] * targets.present[:, None]
    negative = (1 - alpha)[..., None, None] * (targets.labelled - targets.present)[:, None]
    return weighted_cost(logits, positive, negative, kind).mean(dim=(3, 4))


def weighted_cost(
    logits: Float[Tensor, "*cells"],
    positive: Float[Tensor, "*#cells"],
    negative: Float[Tensor, "*#cells"],
    kind: str,
) -> Float[Tensor, "*cells"]:
    """What cells cost that weigh so much for a concept and against it; see `probe_loss`."""
    if kind == "net2vec":
        p = torch.sigmoid(logits)
        return -(positive * p + negative * (1 - p))
    # softplus(z) = -log(1 - p), and softplus(-z) = softplus(z) - z
    return (positive + negative) * softplus(logits) - positive * logits


def weighted_classes(
    targets: Targets,
    alpha: Float[Tensor, "replicates concepts"],
    weights: Float[Tensor, "replicates concepts images"],
) -> tuple[Float[Tensor, "replicates concepts cells"], Float[Tensor, "replicates concepts cells"]]:
    """By how much each cell of a batch shows each concept, and does not, as losses weigh it.

    Args:
        targets: on the layer's grid.
        alpha: of each probe, see `probe_loss`.
        weights: of each image in the loss of each probe, which is a mean over cells.
    """
    present, labelled = (part.transpose(0, 1).flatten(2) for part in targets)
    weights = weights[..., None] / present.shape[2]
    positive = (alpha[..., None, None] * weights) * present
    negative = ((1 - alpha)[..., None, None] * weights) * (labelled - present)
    return positive.flatten(2), negative.flatten(2)


def logit_gradient(
    logits: Float[Tensor, "replicates concepts cells"],
    positive: Float[Tensor, "replicates concepts cells"],
    negative: Float[Tensor, "replicates concepts cells"],
    kind: str,
) -> Float[Tensor, "replicates concepts cells"]:
    """The derivative of `weighted_cost`, for each logit."""
    p = torch.sigmoid(logits)
    if kind == "net2vec":
        return (negative - positive) * (p - p * p)
    return torch.addcmul(p * negative, p - 1, positive)


def channel_scales(
    mean: Float[Tensor, " channels"], deviation: Float[Tensor, " channels"]
) -> Float[Tensor, " channels"]:
    """What channels are divided by: their standard deviations, or 1 where they are constant.

    One is constant too whose deviation is no more than rounding leaves of its mean.
    """
    constant = deviation <= 1e-6 * deviation.max() + 1e-5 * mean.abs()
    return torch.where(constant, 1.0, deviation)


class StackedProbes(nn.Module):
    """The probes of all concepts at one layer: one 1x1 convolution, z = w·A + b.

    Each concept has a probe in every replicate. The parameters live in standardised input
    space, where every channel has mean 0 and deviation 1, so that one learning rate fits all
    layers; `fold` brings the probes of the network's own space back. Each probe keeps the
    parameters of its own best epoch.

    Replicates share the standardisation, from all training images: it conditions the problem,
    and is folded back into what is found. So do they the quantiles of a `quantile` transform.

    Attributes:
        concepts: their names.
        mean: of each transformed channel over the training images; set by `standardise`.
        scale: what each is divided by; see `channel_scales`.
    """

    mean: Tensor
    scale: Tensor
    best_weight: Tensor
    best_bias: Tensor
    best_loss: Tensor
    quantiles: Tensor

    def __init__(
        self,
        layer: str,
        concepts: Sequence[str],
        num_channels: int,
        *,
        replicates: int = 1,
        transform: str = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layer, self.concepts, self.transform = layer, tuple(concepts), transform
        start = _initial_vectors(seed, layer, concepts, replicates, num_channels)
        heads = start.shape[:2]
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(heads))
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("scale", torch.ones(num_channels))
        self.register_buffer("best_weight", start.clone())
        self.register_buffer("best_bias", torch.zeros(heads))
        self.register_buffer("best_loss", torch.full(heads, torch.inf))
        if transform == "quantile":
            self.register_buffer("quantiles", torch.zeros(num_channels))

    @property
    def transform_tensors(self) -> dict[str, Tensor]:
        """What the input transform needs."""
        return {"quantiles": self.quantiles} if self.transform == "quantile" else {}

    def standardise(
        self, mean: Float[Tensor, " channels"], deviation: Float[Tensor, " channels"]
    ) -> None:
        """Set mean and standard deviation of the inputs; see `channel_scales`."""
        self.mean.copy_(mean)
        self.scale.copy_(channel_scales(mean, deviation))

    def forward(
        self, activations: Float[Tensor, "images channels rows columns"]
    ) -> Float[Tensor, "images replicates concepts rows columns"]:
        """Logits of all probes on the layer's own grid."""
        inputs = apply_transform(activations, self.transform, self.transform_tensors)
        vectors, bias = self._fold(self.weight, self.bias)
        maps = linear_maps(inputs, vectors.flatten(0, 1), bias.flatten())
        return maps.view(len(maps), *bias.shape, *maps.shape[2:])

    @torch.no_grad()
    def logits_of_rows(
        self, activations: Float[Tensor, "images channels rows columns"]
    ) -> tuple[Float[Tensor, "replicates concepts cells"], Float[Tensor, "cells channels"]]:
        """Logits of all cells, with nothing kept for a gradient, and the inputs `pull` takes."""
        inputs = apply_transform(activations, self.transform, self.transform_tensors)
        rows = inputs.movedim(1, -1).flatten(0, 2).float()
        vectors, bias = self._fold(self.weight, self.bias)
        flat = torch.addmm(bias.flatten()[:, None], vectors.flatten(0, 1), rows.T)
        return flat.view(*bias.shape, -1), rows

    @torch.no_grad()
    def pull(
        self,
        residuals: Float[Tensor, "replicates concepts cells"],
        rows: Float[Tensor, "cells channels"],
    ) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias, given those of all logits: two matrix products in all."""
        bias = residuals.sum(dim=2)
        raw = (residuals.flatten(0, 1) @ rows).view_as(self.weight)
        return (raw - bias[..., None] * self.mean) / self.scale, bias

    @torch.no_grad()
    def keep_best(self, loss: Float[Tensor, "replicates concepts"]) -> None:
        """Keep the present parameters of the probes whose validation loss is their lowest."""
        better = loss <= self.best_loss
        self.best_weight[better] = self.weight[better]
        self.best_bias[better] = self.bias[better]
        self.best_loss[better] = loss[better]

    @torch.no_grad()
    def fold(self, replicate: int = 0) -> LayerConcepts:
        """The best probes of a replicate in the network's own space; they fire above 0."""
        vectors, bias = self._fold(self.best_weight, self.best_bias)
        tensors = {key: tensor.clone() for key, tensor in self.transform_tensors.items()}
        return LayerConcepts(
            names=self.concepts,
            vectors=vectors[replicate],
            bias=bias[replicate],
            thresholds=torch.zeros_like(bias[replicate]),
            transform=self.transform,
            transform_tensors=tensors,
        )

    def _fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        vectors = weight / self.scale
        return vectors, bias - vectors @ self.mean


def _initial_vectors(
    seed: int, layer: str, concepts: Sequence[str], replicates: int, num_channels: int
) -> Float[Tensor, "replicates concepts channels"]:
    """Small random numbers, each vector by itself, whatever else is probed."""
    prefixes = ["", *(f"half {half}: " for half in range(1, replicates))]
    vectors = [
        _initial_vector(f"{prefix}{seed}/{layer}/{concept}", num_channels)
        for prefix in prefixes
        for concept in concepts
    ]
    return torch.stack(vectors).view(replicates, len(concepts), num_channels)


def _initial_vector(name: str, num_channels: int) -> Float[Tensor, " channels"]:
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(num_channels, generator=generator) * 0.01
