"""One full forward of a network, watched: what runs when, and what comes out."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cavalcade.backbones.maps import MapLayout, possible_layouts

# attention calls its projections as functions, so that it counts as one call itself
WEIGHT_BEARING = (_ConvNd, nn.Linear, nn.MultiheadAttention)

Run = Callable[[nn.Module, Tensor], object]


@dataclass(frozen=True)
class Call:
    """The first call of one module.

    Attributes:
        name: dotted name of the module.
        order: position among the first calls, in the order in which they end.
        calls_before: weight-bearing calls of the trunk that had ended by then.
        shape: shape of the output where it is a tensor.
        layout: how the output is read as a map; None where it is none.
        trunk: whether the module belongs to the trunk.
    """

    name: str
    order: int
    calls_before: int
    shape: tuple[int, ...] | None
    layout: MapLayout | None
    trunk: bool


@dataclass(frozen=True)
class Trace:
    """First calls by module name in execution order, and the length of the trunk."""

    calls: dict[str, Call]
    trunk_calls: int
    input_size: tuple[int, int]

    def depth(self, name: str) -> float:
        """Relative depth of a module's first output, from 0 to 1.

        Weight-bearing calls (convolution, linear, attention) that ended before it, over those
        of the network's trunk.
        """
        return min(1.0, self.calls[name].calls_before / max(1, self.trunk_calls))

    def layout(self, name: str) -> MapLayout:
        """How the output of a module that yields a map is read."""
        layout = self.calls[name].layout
        assert layout is not None
        return layout

    def stride(self, name: str) -> float:
        """Input pixels per cell of the module's map, along the height."""
        return self.input_size[0] / self.layout(name).grid[0]


Hook = Callable[[str, nn.Module, object], None]


@contextmanager
def hooked(model: nn.Module, names: Sequence[str], hook: Hook) -> Iterator[None]:
    """Call `hook(name, module, output)` after the named modules; gone afterwards, come what may."""
    modules = {name: model.get_submodule(name) for name in names}
    handles = []
    try:
        for name, module in modules.items():
            handles.append(
                module.register_forward_hook(
                    lambda module, _, output, name=name: hook(name, module, output)
                )
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


def call(model: nn.Module, images: Tensor) -> object:
    """Run a network as most are run."""
    return model(images)


def trace(
    model: nn.Module, input_size: tuple[int, int], head: Sequence[str] = (), run: Run = call
) -> Trace:
    """Watch one full forward on a black image.

    Args:
        model: in eval mode.
        input_size: height and width of the input.
        head: modules outside of the trunk, whose weight-bearing calls do not count. What ends
            after the first of these calls is outside of the trunk too.
        run: how the network is run on images.
    """
    calls: dict[str, Call] = {}
    possible: dict[str, list[MapLayout]] = {}
    trunk_calls, trunk_ended = 0, False

    def in_trunk(name: str) -> bool:
        return not any(name == part or name.startswith(f"{part}.") for part in head)

    def watch(name: str, module: nn.Module, output: object) -> None:
        nonlocal trunk_calls, trunk_ended
        if isinstance(module, WEIGHT_BEARING):
            trunk_calls += in_trunk(name)
            trunk_ended |= not in_trunk(name)
        if name not in calls:
            shape = tuple(output.shape) if isinstance(output, Tensor) else None
            trunk = in_trunk(name) and not trunk_ended
            calls[name] = Call(name, len(calls), trunk_calls, shape, None, trunk)
            possible[name] = possible_layouts(output, input_size)

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    names = [name for name, _ in model.named_modules() if name]
    with torch.no_grad(), hooked(model, names, watch):
        run(model, torch.zeros(1, 3, *input_size, device=device))
    layouts = _resolve(model, possible)
    read = {name: replace(each, layout=layouts[name]) for name, each in calls.items()}
    return Trace(read, trunk_calls, input_size)


def _resolve(model: nn.Module, possible: dict[str, list[MapLayout]]) -> dict[str, MapLayout | None]:
    """One layout for each output: where two are possible, that of modules of the same class."""
    kinds = {name: type(model.get_submodule(name)) for name in possible}
    sure: dict[type[nn.Module], set[str]] = defaultdict(set)
    for name, layouts in possible.items():
        if len(layouts) == 1:
            sure[kinds[name]].add(layouts[0].order)
    return {
        name: next((each for each in layouts if each.order in sure[kinds[name]]), None)
        or next(iter(layouts), None)
        for name, layouts in possible.items()
    }
