"""The small network, with activations with which nothing can be computed."""

import os
from pathlib import Path

import torch
from torch import nn

from cavalcade import processes
from tiny import tiny_model

LAYER = 3  # whose output goes into the taps 4 and 6
KINDS = {
    "a NaN": lambda maps: maps * torch.nan,
    "a division by zero": lambda maps: maps / (maps - maps),
    "an overflow of float16": lambda maps: ((maps.abs() + 2).half() * 60_000).to(maps.dtype),
    "numbers of 1e30": lambda maps: maps.abs() + 1e30,
}


def spoilt_for(image: torch.Tensor, kind: str, after: int = 0) -> nn.Sequential:
    """A network that computes something else of one image, once it has seen it so often.

    Hooks do it, of which nothing that describes the network tells.
    """
    model = tiny_model()
    seen, rows = 0, torch.zeros(0, dtype=torch.bool)

    def look(_, inputs):
        nonlocal seen, rows
        mine = torch.tensor([torch.equal(own, image) for own in inputs[0]])
        seen += int(mine.any())
        rows = mine & (seen > after)

    def spoil(_, inputs, output):  # noqa: ARG001
        output = output.clone()
        output[rows] = KINDS[kind](output[rows])
        return output

    model.register_forward_pre_hook(look)
    model[LAYER].register_forward_hook(spoil)
    return model


def build() -> nn.Sequential:
    """For the programs: a network that gives no number in the second of two processes."""
    model = tiny_model()
    Path(os.environ["PIDS"], f"pid-{processes.rank()}").write_text(str(os.getpid()))

    def spoil(_, inputs, output):  # noqa: ARG001
        return output * torch.nan if processes.rank() == 1 else output

    model[LAYER].register_forward_hook(spoil)
    return model
