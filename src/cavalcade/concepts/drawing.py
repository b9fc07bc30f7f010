"""Drawing some of many with known probabilities: what is drawn weighs for what is not."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDS = 4  # after which next to nothing is left to spread


def inclusion(
    importance: Float[Tensor, "*sets candidates"], wanted: Float[Tensor, "*sets 1"]
) -> Float[Tensor, "*sets candidates"]:
    """Probabilities in proportion to importance, that add up to how many are wanted.

    None is above 1: what that would leave over is spread over the others. One of no importance
    is never drawn.
    """
    total = importance.sum(dim=-1, keepdim=True)
    chances = importance / total.clamp(min=torch.finfo(total.dtype).tiny) * wanted
    for _ in range(ROUNDS):
        over = (chances > 1).any(dim=-1, keepdim=True)
        if not bool(over.any()):
            break
        chances = chances.clamp(max=1)
        free = torch.where(chances < 1, chances, 0)
        left = wanted - (chances - free).sum(dim=-1, keepdim=True)
        room = free.sum(dim=-1, keepdim=True)
        more = torch.where(room > 0, left / room, 1).clamp(min=1)
        chances = torch.where(over & (chances < 1), chances * more, chances)  # no other set
    return chances.clamp(max=1)


def systematic(
    chances: Float[Tensor, "*sets candidates"], starts: Float[Tensor, "*sets 1"]
) -> Bool[Tensor, "*sets candidates"]:
    """Which are drawn: those where the sum of chances passes a whole number.

    From a start that is uniform in [0, 1), each is drawn with its chance, and as many as the
    chances add up to, up to one: neighbours are never all drawn or all left out (Madow 1949).
    """
    passed = (chances.double().cumsum(dim=-1) + starts.double()).floor()
    before = torch.cat([starts.double().floor(), passed[..., :-1]], dim=-1)
    return passed > before
