"""Activations with which nothing can be computed are refused where they come in, and nowhere else.

A NaN that gets further hides: sorting puts it last, a comparison with it is false, and a mask
that it makes looks like any other.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from cavalcade.errors import InputError, listed

LARGEST = 1e15  # whose squares float32 can add up over more pixels than a data set has


def are_usable(maps: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite and none is above `LARGEST` in size.

    Their norms say so at the cost of one look at each number, about a thousandth of a forward.
    """
    norms = [
        torch.linalg.vector_norm(own, dtype=torch.promote_types(own.dtype, torch.float32)).float()
        for own in maps
    ]
    # a NaN compares as false; only of very many numbers that are nearly as large a norm is above
    return bool((torch.stack(norms) <= LARGEST).all()) if norms else True


def unusable(maps: Tensor) -> Bool[Tensor, " images"]:
    """Which images have a number that is not finite, or too large."""
    return ~(maps.flatten(1).float().abs() <= LARGEST).all(dim=1)  # of float16 no number is large


def check_each(
    who: str, model: nn.Module, maps: Mapping[str, Tensor], images: Sequence[str]
) -> None:
    """Raise for activations that are not finite, or so large that sums of squares are not.

    Args:
        who: the network.
        model: the same, whose weights may be why.
        maps: of each layer (images, channels, rows, columns).
        images: what each is called.

    Raises:
        InputError: naming the layers, the first of the images, and the way out.
    """
    bad = {name: unusable(own) for name, own in maps.items()}
    layers = [name for name, which in bad.items() if which.any()]
    if not layers:
        return
    first = int(bad[layers[0]].nonzero()[0])
    own = maps[layers[0]][first]
    has, where = f"{who}: {_layers(layers)}", f"for image {images[first]}"
    leave_out = f"leave {'it' if len(layers) == 1 else 'them'} out of backbone.layers"
    if own.isfinite().all():
        size = f"{float(own.abs().max()):.0e}, too large to compute with"
        raise InputError(f"{has} activations of up to {size}, {where}; {leave_out}")
    sentence = f"{has} activations that are not finite {where}"
    weights = _weights_that_are_not(model)
    if weights:
        reason = f"since weights of the network are not ({listed(weights, 3)})"
        raise InputError(f"{sentence}, {reason}; give others with backbone.weights")
    if torch.is_autocast_enabled(own.device.type):
        raise InputError(f"{sentence}; set trainer.precision=32-true, or {leave_out}")
    raise InputError(f"{sentence}; {leave_out}, or the image out of the data")


def _layers(names: Sequence[str]) -> str:
    return f"layer {names[0]} has" if len(names) == 1 else f"layers {listed(names)} have"


def _weights_that_are_not(model: nn.Module) -> list[str]:
    """Parameters with numbers that are not finite, and running means of BatchNorm.

    Other buffers may hold infinities for good reason: masks of attention.
    """
    running = {name: own for name, own in model.named_buffers() if name.endswith(("_mean", "_var"))}
    everything = dict(model.named_parameters()) | running
    return [name for name, own in everything.items() if not bool(own.isfinite().all())]
