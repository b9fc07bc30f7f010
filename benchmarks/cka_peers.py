"""The CKA of other packages, asked in one way."""

import copy
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from torch.utils.data import DataLoader

from benchmarks.peers import peer
from benchmarks.quiet import quiet
from benchmarks.tapped import TappedModule

Matrix = Float[np.ndarray, "layers others"]
Loader = DataLoader[Any]


class Peer(Protocol):
    """HSIC_1 of all layers of one module with those of another, added up over batches."""

    def __call__(self, one: TappedModule, other: TappedModule, loader: Loader) -> Matrix:
        """CKA of their layers, by `names`."""


def peers() -> dict[str, Peer]:
    """Those that are measured.

    Raises:
        InputError: if one is not installed.
    """
    torch_cka, pytorch_cka = peer("torch_cka"), peer("cka")

    def by_torch_cka(one: TappedModule, other: TappedModule, loader: Loader) -> Matrix:
        one, other = copy.deepcopy((one, other))  # it leaves its hooks behind
        with quiet():
            cka = torch_cka.CKA(
                one,
                other,
                model1_layers=list(one.names),
                model2_layers=list(other.names),
            )
            cka.compare(loader, loader)
        return cka.export()["CKA"].numpy()

    def by_pytorch_cka(one: TappedModule, other: TappedModule, loader: Loader) -> Matrix:
        layers = {"layers": list(one.names), "model2_layers": list(other.names)}
        with quiet():
            (matrix,) = pytorch_cka.compute_cka(
                one, other, loader, **layers, device="cpu", progress=False
            )
        return matrix.numpy()

    return {"torch-cka": by_torch_cka, "pytorch-cka": by_pytorch_cka}
