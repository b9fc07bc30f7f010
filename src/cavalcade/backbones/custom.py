"""Any network of the user's own, from a function that builds it."""

import contextlib
import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.preprocessing import Preprocessing, input_size
from cavalcade.backbones.weights import load_weights, seeded, variant
from cavalcade.errors import InputError, closest

OWN = "own"


def custom_backbone(
    target: str,
    *,
    image_size: int | Sequence[int],
    arguments: Mapping[str, Any] | None = None,
    weights: str = OWN,
    layers: str | Sequence[str] = "stages",
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    crop_mode: str = "squash",
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    head: Sequence[str] = (),
    branches: Sequence[str] = (),
    label: str | None = None,
    seed: int = 0,
) -> FrozenBackbone:
    """A user's own network, frozen.

    Args:
        target: dotted name of a function or class that returns a `torch.nn.Module` which takes
            images (images, 3, height, width).
        image_size: side, or height and width, of the network's input.
        arguments: what `target` is called with.
        weights: `own`, those that `target` returns; a file; or `random`, which says that
            `target` draws them, as it then does from `seed`.
        layers: `stages`, `blocks`, or module names. Outputs are maps with channels first or
            last, or tokens; of a tuple, list or mapping the first counts.
        mean: of each channel, for values from 0 to 1.
        std: of each channel.
        crop_mode: see `Preprocessing`.
        crop_pct: share of the resized image that is seen.
        interpolation: `bicubic`, `bilinear` or `nearest`.
        head: modules outside of the trunk, over which relative depth is measured.
        branches: shell patterns of those among them that the rules for layers take too.
        label: how the network is called; the last part of `target` that is not `build` if None.
        seed: of random weights, together with the target and its arguments.

    Raises:
        InputError: if there is no such target, it returns no module, or the network cannot be
            looked at.
    """
    build, given = _find(target), dict(arguments or {})
    with seeded(seed, f"{target} {given}"):
        try:
            model = build(**given)
        except Exception as error:  # anybody's function may raise anything
            raise InputError(
                f"backbone.target {target} cannot be called ({type(error).__name__}: {error}); "
                "mend it, or set backbone.arguments"
            ) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"backbone.target {target} returns {type(model).__name__}, not a torch.nn.Module"
        )
    model.eval()
    if weights not in (OWN, "random"):
        load_weights(model, weights)
    _check_modules(model, head, target)
    network = Network(
        label=(label or _label(target)) + ("" if weights == OWN else variant(weights)),
        model=model,
        preprocessing=Preprocessing(
            size=input_size(image_size),
            mean=_channels("mean", mean),
            std=_channels("std", std),
            crop_mode=crop_mode,
            crop_pct=crop_pct,
            interpolation=interpolation,
        ),
        head=tuple(head),
        branches=tuple(branches),
        random=weights == "random",
        settings={"target": target, "arguments": given, "code": _code(build, model)},
    )
    return FrozenBackbone(network, layers)


def _find(target: str) -> Callable[..., object]:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing a user's module may raise anything
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"backbone.target {target} cannot be imported ({reason}); give package.module.function "
            "of a module in the present folder or on the PYTHONPATH"
        ) from error
    if not callable(found):
        raise InputError(f"backbone.target {target} is {type(found).__name__}, no function")
    return found


def _code(build: Callable[..., object], model: nn.Module) -> str:
    """A digest of the files that define a network: what a forward does, its modules do not show.

    Those of torch are left out; so is what has no file, and what those files import.
    """
    files = set[str]()
    makers: list[Callable[..., object]] = [build, *{type(module) for module in model.modules()}]
    for maker in makers:
        if getattr(maker, "__module__", "").partition(".")[0] != "torch":
            with contextlib.suppress(TypeError):  # not written in Python, or not in a file
                files.add(inspect.getsourcefile(maker) or "")
    digests = sorted(hashlib.sha256(Path(file).read_bytes()).digest() for file in files - {""})
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _label(target: str) -> str:
    parts = [part for part in target.split(".") if part != "build"]
    return parts[-1] if parts else target


def _channels(what: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise InputError(f"backbone.{what} is {list(values)}; give three numbers, of R, G and B")
    red, green, blue = map(float, values)
    return red, green, blue


def _check_modules(model: nn.Module, head: Sequence[str], target: str) -> None:
    names = dict(model.named_modules())
    for name in head:
        if name not in names:
            raise InputError(
                f"backbone.head names {name!r}, which {target} has not; {closest(name, names)}"
            )
