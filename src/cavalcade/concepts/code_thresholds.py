"""Where a mined concept counts as firing, without labels: thresholds that leave areas free.

One common quantile would give every mask the same area, and cap its Jaccard index with any label.
"""

import torch
from jaxtyping import Float
from torch import Tensor

THRESHOLDS = ("robust_max", "otsu", "image_max")
ROBUST = 0.995
BINS = 256


def code_thresholds(
    codes: Float[Tensor, "rows concepts"], threshold: str, share: float
) -> Float[Tensor, " concepts"]:
    """Thresholds of concept maps, from the codes of sampled pixels.

    robust_max: a share of the 99.5 % quantile of the positive codes, the same for all images.
    otsu: see `otsu`. image_max: the share itself, to be taken of each image's own maximum, as
    in ICE (Zhang et al. 2021); its drawback is that a concept then fires in every image, also
    in those that do not contain it, wherever its code is largest.

    NaN for a concept without a positive code.
    """
    positive = codes > 0
    if threshold == "image_max":
        found = torch.full((codes.shape[1],), share, dtype=codes.dtype)
    elif threshold == "otsu":
        found = torch.stack([otsu(column) for column in codes.unbind(dim=1)])
    else:
        found = share * torch.stack([_robust_maximum(column) for column in codes.unbind(dim=1)])
    return torch.where(positive.any(dim=0), found, torch.nan)


def _robust_maximum(codes: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """The 99.5 % quantile of what is positive: of all codes it could be 0 for a rare concept."""
    positive = codes[codes > 0]
    return torch.quantile(positive, ROBUST) if len(positive) else codes.new_zeros(())


def otsu(codes: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """The threshold that parts codes into two classes of the largest variance between them.

    Between 256 bins up to the largest code (Otsu 1979); negative codes count as 0.
    """
    top = float(codes.max().clamp(min=0))
    if top == 0:
        return codes.new_zeros(())
    counts = torch.histc(codes.clamp(min=0).double(), BINS, 0.0, top)
    centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (top / BINS)
    below, moment = counts.cumsum(0)[:-1], (counts * centres).cumsum(0)
    above = counts.sum() - below
    apart = moment[:-1] / below.clamp(min=1) - (moment[-1] - moment[:-1]) / above.clamp(min=1)
    best = int((below * above * apart**2).argmax())
    return codes.new_tensor((best + 1) * (top / BINS))
