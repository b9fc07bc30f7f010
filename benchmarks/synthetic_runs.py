"""Run folders that no network was visited for: noisy concepts, for benchmarks of comparing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.concept_set import ConceptSet, LayerConcepts
from cavalcade.concepts.encoding import Encoded, LayerEncoding, pack, unpack
from cavalcade.data.groups import contiguous_blocks
from cavalcade.runs import write_halves, write_run
from cavalcade.thumbnails import Thumbnails, thumbnail
from cavalcade.truth import Truth
from cavalcade.version import __version__

CHANNELS = 64
FLIPPED = (1, 1, 0, 0, 0)  # 3/32 of all bits: binary digits, the last first


def write_synthetic_runs(
    root: Path,
    count: int,
    *,
    images: int,
    layers: int,
    concepts: int,
    grid: int = 32,
    halves: bool = True,
    thumbnails: int | None = None,
) -> list[Path]:
    """The folders of some runs of one data set, with its truth.

    Args:
        root: where they are made.
        count: of networks.
        images: of the test split.
        layers: of each network.
        concepts: at each layer.
        grid: rows and columns of a mask.
        halves: write the probes of halves too.
        thumbnails: side of the pictures of the images in pixels; None for none.
    """
    truth = _write_truth(root, images=images, concepts=concepts, grid=grid, thumbnails=thumbnails)
    return [
        _write_run(root, truth, number, layers=layers, halves=halves) for number in range(count)
    ]


def _write_truth(
    root: Path, *, images: int, concepts: int, grid: int, thumbnails: int | None
) -> Truth:
    """Blobs of random places, and their truth folder."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(images, concepts, 4, 4, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, size=grid, mode="bilinear") > 0.6
    groups = tuple(str(image) for image in range(images))
    truth = Truth(
        data="synthetic",
        fingerprint="0" * 64,
        grid=(grid, grid),
        concepts=tuple(f"concept{k}" for k in range(concepts)),
        ids=groups,
        groups=groups,
        blocks=tuple(contiguous_blocks(groups)),
        masks=pack(masks),
        labelled=pack(torch.ones_like(masks)),
        thumbnail_size=thumbnails,
        thumbnails=Thumbnails(() if thumbnails is None else _drawn(masks, thumbnails)),
    )
    truth.save(root / "synthetic" / "truth")
    return truth


def _drawn(masks: Tensor, side: int) -> tuple[Tensor, ...]:
    """Pictures of masks, each concept in a colour of its own, with the grain of a photograph."""
    generator = torch.Generator().manual_seed(0)
    colours = 255 * torch.rand(masks.shape[1], 3, generator=generator)
    shown = masks.float()
    mixed = torch.einsum("nkhw,kc->nchw", shown, colours) / shown.sum(1, keepdim=True).clamp(min=1)
    large = torch.nn.functional.interpolate(mixed, size=side, mode="bilinear")
    grain = 12 * torch.randn(large.shape, generator=generator)
    return tuple(thumbnail(image, side) for image in (large + grain).clamp(0, 255).byte())


def _write_run(root: Path, truth: Truth, number: int, *, layers: int, halves: bool) -> Path:
    """A run whose masks are the truth with pixels flipped, other ones at each layer."""
    generator = torch.Generator().manual_seed(number + 1)
    bits = np.random.Generator(np.random.SFC64(number + 1))
    folder = root / "synthetic" / "probes" / f"network{number:03}-{number:012}"
    folder.mkdir(parents=True)
    taps = [
        Layer(f"layer{k}", (k + 1) / layers, True, CHANNELS, 8.0, (4, 4)) for k in range(layers)
    ]
    images, concepts = truth.masks.shape[:2]
    common = torch.randn(images, CHANNELS, generator=generator)
    concept_set = ConceptSet({tap.name: _fitted_nowhere(truth) for tap in taps})
    encodings = {
        tap.name: LayerEncoding(
            masks=_flipped(truth.masks, bits),
            strengths=torch.rand(images, concepts, generator=generator),
            features=common + torch.randn(images, CHANNELS, generator=generator),
        )
        for tap in taps
    }
    _scores(truth, taps, encodings).to_csv(folder / "scores.csv", index=False)
    seen = pack(torch.ones(images, *truth.grid, dtype=torch.bool))
    if halves:
        both = [{tap.name: _flipped(truth.masks, bits) for tap in taps} for _ in range(2)]
        write_halves(folder, [concept_set] * 2, both)
    meta = {
        "label": f"network{number:03}",
        "method": "probes",
        "concepts": truth.concepts,
        "random": False,
        "data": {"name": truth.data, "grid": truth.grid, "test": truth.fingerprint},
        "identity": {
            "backbone": {"architecture": f"{number:012}", "weights": f"{number:012}"},
            "cavalcade": __version__,
            "data": {},
            "method": {},
            "seed": 0,
            "trainer": {"precision": "32-true"},
        },
    }
    encoded = Encoded(seen=seen, layers=encodings, halves=[])
    write_run(folder, meta=meta, layers=taps, concepts=concept_set, encoded=encoded)
    return folder


def _scores(
    truth: Truth, taps: Sequence[Layer], encodings: Mapping[str, LayerEncoding]
) -> pd.DataFrame:
    """How well masks agree with the truth."""
    true, rows = unpack(truth.masks, truth.grid), list[tuple[str, float, str, str, float]]()
    for tap in taps:
        fires = unpack(encodings[tap.name].masks, truth.grid)
        both, either = ((fires & true).sum((0, 2)), (fires | true).sum((0, 2)))
        for concept, value in zip(truth.concepts, (both / either).tolist(), strict=True):
            rows.append((tap.name, tap.depth, concept, "test", value))
    return pd.DataFrame(rows, columns=["layer", "depth", "concept", "split", "jaccard"])


def _fitted_nowhere(truth: Truth) -> LayerConcepts:
    """Concepts that have a threshold, and nothing else."""
    count = len(truth.concepts)
    vectors, bias = torch.zeros(count, CHANNELS), torch.zeros(count)
    return LayerConcepts(truth.concepts, vectors, bias, thresholds=torch.zeros(count))


def _flipped(bits: Tensor, generator: np.random.Generator) -> Tensor:
    """Bits with a share of them flipped: that of random numbers below `FLIPPED`."""
    below = np.zeros(bits.numel(), dtype=np.uint8)
    for digit in FLIPPED:
        random = np.frombuffer(generator.bytes(below.size), dtype=np.uint8)
        below = below | random if digit else below & random
    return bits ^ torch.from_numpy(below).view(bits.shape)
