"""One full forward of a network, watched: what runs when, and what comes out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

WEIGHT_BEARING = (_ConvNd, nn.Linear)


@dataclass(frozen=True)
class Call:
    """The first call of one module.

    Attributes:
        name: dotted name of the module.
        order: position among the first calls, in the order in which they end.
        calls_before: weight-bearing calls of the trunk that had ended by then.
        shape: shape of the output where it is a tensor.
        trunk: whether the module belongs to the trunk.
        input_size: height and width of the network's input.
    """

    name: str
    order: int
    calls_before: int
    shape: tuple[int, ...] | None
    trunk: bool

    input_size: tuple[int, int]

    @property
    def is_map(self) -> bool:
        """Whether the output is a map: channels, then height and width as the input has them.

        Outputs with channels last, and those of attention, have four dimensions too.
        """
        if self.shape is None or len(self.shape) != 4:
            return False
        rows, columns = self.shape[2:]
        expected = rows * self.input_size[1] / self.input_size[0]
        return abs(columns - expected) <= 1 + 0.1 * expected


@dataclass(frozen=True)
class Trace:
    """First calls by module name in execution order, and the length of the trunk."""

    calls: dict[str, Call]
    trunk_calls: int
    input_size: tuple[int, int]

    def depth(self, name: str) -> float:
        """Relative depth of a module's first output, from 0 to 1.

        Weight-bearing calls (convolution, linear) that ended before it, over those of the
        network's trunk.
        """
        return min(1.0, self.calls[name].calls_before / max(1, self.trunk_calls))

    def stride(self, name: str) -> float:
        """Input pixels per cell of the module's map, along the height."""
        shape = self.calls[name].shape
        assert shape is not None
        return self.input_size[0] / shape[2]


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


def trace(model: nn.Module, input_size: tuple[int, int], head: Sequence[str] = ()) -> Trace:
    """Watch one full forward on a black image.

    Args:
        model: in eval mode.
        input_size: height and width of the input.
        head: modules outside of the trunk, whose weight-bearing calls do not count.
    """
    calls: dict[str, Call] = {}
    trunk_calls = 0

    def in_trunk(name: str) -> bool:
        return not any(name == part or name.startswith(f"{part}.") for part in head)

    def watch(name: str, module: nn.Module, output: object) -> None:
        nonlocal trunk_calls
        trunk_calls += isinstance(module, WEIGHT_BEARING) and in_trunk(name)
        if name not in calls:
            shape = tuple(output.shape) if isinstance(output, Tensor) else None
            calls[name] = Call(name, len(calls), trunk_calls, shape, in_trunk(name), input_size)

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    names = [name for name, _ in model.named_modules() if name]
    with torch.no_grad(), hooked(model, names, watch):
        model(torch.zeros(1, 3, *input_size, device=device))
    return Trace(calls, trunk_calls, input_size)
