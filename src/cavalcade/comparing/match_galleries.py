"""Concepts of two networks that match, side by side on the test images where both are strong."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.pictures import picture_of
from cavalcade.galleries import NO_LABEL, strongest, tiles
from cavalcade.report.gallery import GalleryRow, draw_gallery
from cavalcade.runs import MinedRun, Run
from cavalcade.similarity import Pair
from cavalcade.truth import Truth

LAYERS, PARTNERS, TILES = 6, 2, 4  # on a page: pairs of layers, rows of each, images in a row


class ShownLayer(NamedTuple):
    """Names of the concepts of a layer, and how strongly and where they fire."""

    names: Sequence[str]
    strengths: Float[Tensor, "images concepts"]
    bits: UInt8[Tensor, "images concepts bytes"]


def draw_match_galleries(
    analysis: Analysis,
    runs: Sequence[Run],
    names: pd.DataFrame | None,
    folder: Path,
    drawn: Collection[Pair],
) -> None:
    """A page for each pair that is drawn, concepts that match side by side on the same images.

    From up to six pairs of layers spread over depth the two best partners each. Nothing without
    thumbnails.
    """
    mined = {
        network: run
        for network, run in zip(analysis.comparison.networks, runs, strict=True)
        if isinstance(run, MinedRun)
    }
    matches = analysis.concept_matches
    truth = runs[0].truth
    if not len(matches) or not len(truth.thumbnails):
        return
    folder.mkdir()
    labels = {} if names is None else _labels(names)
    chosen = {(pair.network_a, pair.network_b): picture_of(pair) for pair in drawn}
    for (a, b), table in matches.groupby(["network_a", "network_b"], sort=False):
        if (a, b) not in chosen:
            continue
        spread = _spread(table)
        shown = _layers(mined, spread)
        rows = [_match_row(shown, match, labels, truth) for _, match in spread.iterrows()]
        draw_gallery(
            rows,
            folder / f"{chosen[str(a), str(b)]}.jpg",
            title=f"Concepts of {a} and {b} that match: adjusted Jaccard index ± error",
            groups=(str(a), str(b)),
        )


def _spread(matches: pd.DataFrame) -> pd.DataFrame:
    """The best partners of some pairs of layers, evenly over depth, in its order."""
    table = matches[matches["mutual"]] if matches["mutual"].any() else matches
    layers = table[["layer_a", "layer_b"]].drop_duplicates()
    chosen = np.unique(np.linspace(0, len(layers) - 1, LAYERS).round().astype(int))
    kept = layers.iloc[chosen].merge(table, on=["layer_a", "layer_b"], how="left")
    best = kept.sort_values("adjusted", ascending=False, kind="stable")
    best = best.groupby(["layer_a", "layer_b"]).head(PARTNERS)
    return best.sort_values(["depth_a", "depth_b", "adjusted"], ascending=[True, True, False])


def _layers(
    mined: Mapping[str, MinedRun], matches: pd.DataFrame
) -> dict[tuple[str, str], ShownLayer]:
    """All layers that some matches name, each read once."""
    sides = [matches[[f"network_{side}", f"layer_{side}"]].to_numpy() for side in ("a", "b")]
    return {
        (network, layer): ShownLayer(
            mined[network].concept_set.layers[layer].names,
            mined[network].relative_strengths(layer),
            mined[network].bits(layer),
        )
        for network, layer in dict.fromkeys(map(tuple, np.concatenate(sides)))
    }


def _match_row(
    layers: Mapping[tuple[str, str], ShownLayer],
    match: pd.Series,
    labels: Mapping[tuple[str, str, str], str],
    truth: Truth,
) -> GalleryRow:
    """Two partners on the images where both are strong."""
    strengths, masks, notes = [], [], []
    for side in ("a", "b"):
        network, layer, concept = (
            match[f"{what}_{side}"] for what in ("network", "layer", "concept")
        )
        shown = layers[network, layer]
        k = shown.names.index(concept)
        strengths.append(shown.strengths[:, k])
        masks.append(shown.bits[:, k])
        label = f": {labels.get((network, layer, concept), NO_LABEL)}" if labels else ""
        notes.append(f"{layer} {concept}{label}")
    images = strongest(torch.minimum(*strengths), truth, TILES)
    return GalleryRow(
        f"{match['adjusted']:.2f} ±{match['stderr']:.2f}",
        tuple(notes),
        tuple(tiles(bits, images, truth) for bits in masks),
    )


def _labels(names: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The label of each concept that has one."""
    named = names[names["named"]]
    keys = zip(named["network"], named["layer"], named["concept"], strict=True)
    return dict(zip(keys, named["label"], strict=True))
