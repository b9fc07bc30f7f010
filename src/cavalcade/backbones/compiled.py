"""A forward that a compiler has made for images of one shape: faster, after a slow start."""

import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.fx.experimental.proxy_tensor import make_fx

from cavalcade.backbones.memory import is_out_of_memory
from cavalcade.errors import InputError

Forward = Callable[[Tensor], dict[str, Tensor]]
Compiled = Callable[[Tensor], tuple[Tensor, ...]]
Key = tuple[object, ...]  # shape, type, device and precision of images


class CompiledForward:
    """Compiles a forward for each shape that it meets again at once, or after one other.

    Others go the old way: a last batch of fewer images is not worth a compiler's time. Large
    and small parts of batches in turn are, and what a device without memory for more halves.

    The forward is recorded as it runs, hooks, early stop and all, so that what is compiled holds
    the taps' operations alone and leaves the network as it is.

    Args:
        forward: gives the maps of every tap.
        who: for messages.
    """

    def __init__(self, forward: Forward, who: str) -> None:
        self.forward, self.who = forward, who
        self.recent: deque[Key] = deque(maxlen=2)
        self.names: tuple[str, ...] = ()
        self.compiled: dict[Key, Compiled] = {}

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """The maps of every tap.

        Raises:
            InputError: if the network cannot be compiled.
        """
        device = inputs.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (inputs.shape, inputs.dtype, inputs.device, half)
        if key in self.recent and key not in self.compiled:
            self.compiled[key] = self._compile(inputs)
        self.recent.append(key)
        if key not in self.compiled:
            return self.forward(inputs)
        # the casts are recorded too
        with _compiling(), torch.autocast(device, enabled=False):
            return dict(zip(self.names, self.compiled[key](inputs), strict=True))

    def _compile(self, inputs: Tensor) -> Compiled:
        def record(images: Tensor) -> tuple[Tensor, ...]:
            taps = self.forward(images)
            self.names = tuple(taps)
            return tuple(taps.values())

        try:
            with _compiling():
                graph: nn.Module = make_fx(record)(inputs)
                compiled: Compiled = torch.compile(graph, dynamic=False)
                with torch.autocast(inputs.device.type, enabled=False):
                    compiled(inputs)
                return compiled
        except Exception as error:  # a compiler may raise anything
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise InputError(
                f"{self.who} cannot be compiled ({reason}); set compile=false"
            ) from error


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """With the weights as constants, which convolutions on CPUs are much faster with."""
    with torch.no_grad(), inductor.patch(freezing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, on what it does not do
        yield
