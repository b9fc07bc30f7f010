"""A network that is looked at and never changed."""

import contextlib
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cavalcade.backbones.compiled import CompiledForward, Forward
from cavalcade.backbones.layers import Layer, choose_layers
from cavalcade.backbones.preprocessing import Preprocessing
from cavalcade.backbones.tracing import Run, call, hooked, trace
from cavalcade.errors import InputError
from cavalcade.folders import check_name

CPU_IMAGES = 8


@dataclass(frozen=True)
class Network:
    """What an adapter of a zoo hands over.

    Attributes:
        label: how the network is called in folders and plots; names its weights too.
        model: takes (images, 3, height, width).
        preprocessing: how an image reaches it.
        head: modules outside of its trunk; with what they hold.
        branches: shell patterns of those among them that the rules for layers take too: necks.
        stage_ends: the last module of each stage, where the zoo says so.
        random: its weights are random, not trained.
        run: how the model is run on images, as far as it yields maps.
        settings: what else decides on its maps, as far as its modules and weights do not show.
    """

    label: str
    model: nn.Module
    preprocessing: Preprocessing
    head: Sequence[str] = ()
    branches: Sequence[str] = ()
    stage_ends: Sequence[str] = ()
    random: bool = False
    run: Run = call
    settings: Mapping[str, Any] = field(default_factory=dict)


class _AllTappedError(Exception):
    """Ends a forward after its deepest tap."""


class FrozenBackbone(nn.Module):
    """Maps of any layers of a network in one forward that stops after the deepest of them.

    Frozen for good: no parameter asks for a gradient, `train()` keeps evaluation mode, so
    that no BatchNorm drifts, and taps are copies that neither side can change.

    Attributes:
        label: the network's name.
        layers: the taps, in execution order.
        preprocessing: how an image reaches the network.
        random: its weights are random, not trained.
        trace: its watched forward, with every module that could be tapped.
        compiled: whether its forward is compiled.
        images_at_once: the most that go through it together; a device with too little memory
            halves it.
    """

    def __init__(self, network: Network, layers: str | Sequence[str] = "stages") -> None:
        """Freeze a network and choose its taps.

        Args:
            network: from an adapter of a zoo.
            layers: `stages`, `blocks`, or module names; see `choose_layers`.

        Raises:
            InputError: for a label that no folder can have, a layer that cannot be tapped, or
                images that the network cannot take.
        """
        super().__init__()
        check_name("the label of the network", network.label)
        self.label = network.label
        self.preprocessing = network.preprocessing
        self.random = network.random
        self.images_at_once = sys.maxsize
        self.run = network.run
        # the last is by far the fastest layout of convolutions on CPUs and on tensor cores
        self.model = network.model.requires_grad_(False).to(memory_format=torch.channels_last)
        self.train(False)
        size = network.preprocessing.size
        try:
            self.trace = trace(self.model, size, network.head, network.run)
        except Exception as error:  # anybody's network may raise anything
            reason = str(error).partition("\n")[0].rstrip(".")
            way_out = (
                "set another backbone.image_size"
                if isinstance(error, RuntimeError | AssertionError)
                else "give a network that takes (images, 3, height, width) and nothing else"
            )
            raise InputError(
                f"{network.label} cannot take images of {size[0]} x {size[1]} pixels "
                f"({reason}); {way_out}"
            ) from error
        self._network = network
        self.layers = self.choose(layers)
        self._forward: Forward = self.uncompiled
        self.compiled = False

    def choose(self, layers: str | Sequence[str]) -> tuple[Layer, ...]:
        """The layers that would be tapped: by a rule, or by names; see `choose_layers`."""
        return choose_layers(
            self.model,
            self.trace,
            layers,
            who=self.label,
            stage_ends=self._network.stage_ends,
            branches=self._network.branches,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names of the taps, in execution order."""
        return tuple(layer.name for layer in self.layers)

    def train(self, mode: bool = True) -> "FrozenBackbone":  # noqa: ARG002
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def compile_taps(self) -> None:
        """Have the forward compiled for shapes of images that it meets again and again."""
        self._forward = CompiledForward(self.uncompiled, self.label)
        self.compiled = True

    @property
    def fastest_at_once(self) -> int:
        """Images that go through a network fastest: the maps of more leave the caches of a CPU."""
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        return CPU_IMAGES if on_cpu else sys.maxsize

    def forward(
        self, inputs: Float[Tensor, "images 3 height width"]
    ) -> dict[str, Float[Tensor, "images _ _ _"]]:
        """Map (images, channels, rows, columns) of every tap, without gradients."""
        return self._forward(inputs.contiguous(memory_format=torch.channels_last))

    def uncompiled(self, inputs: Tensor) -> dict[str, Tensor]:
        """The same by the network itself, as its modules are written."""
        taps: dict[str, Tensor] = {}

        def tap(name: str, _: nn.Module, output: object) -> None:
            if name not in taps:
                # the network may go on in place (ReLU after a tapped BatchNorm): copy
                taps[name] = self.trace.layout(name).read(output).detach().clone()
            if len(taps) == len(self.layers):
                raise _AllTappedError

        with (
            contextlib.suppress(_AllTappedError),
            torch.no_grad(),
            hooked(self.model, self.names, tap),
        ):
            self.run(self.model, inputs)
        return {name: taps[name] for name in self.names}

    def weights_fingerprint(self) -> str:
        """Hexadecimal SHA-256 of names, types, shapes and values of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        """All of the network that changes results, for the digest of a run."""
        return {
            "architecture": hashlib.sha256(repr(self.model).encode()).hexdigest(),
            "weights": self.weights_fingerprint(),
            "preprocessing": self.preprocessing.identity(),
            "layers": [asdict(layer) for layer in self.layers],
            "layouts": [asdict(self.trace.layout(name)) for name in self.names],
            "settings": dict(self._network.settings),
            **({"compiled": True} if self.compiled else {}),  # it rounds otherwise
        }

    def tap_identities(self) -> dict[str, dict[str, Any]]:
        """Of each tap, all of the network that changes its maps; other taps do not."""
        network = self.identity()
        layers, layouts = network.pop("layers"), network.pop("layouts")
        if self.compiled:  # but what is computed beside decides on what is fused
            network["beside"] = layers
        return {
            layer["name"]: network | {"layer": layer, "layout": layout}
            for layer, layout in zip(layers, layouts, strict=True)
        }
