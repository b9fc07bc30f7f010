"""Concepts of two networks that match, side by side on the test images where both are strong."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cavalcade.comparing.analysis import Analysis
from cavalcade.galleries import NO_LABEL, strongest, tiles
from cavalcade.report.gallery import GalleryRow, draw_gallery
from cavalcade.runs import MinedRun, Run
from cavalcade.similarity import Pair

LAYERS, PARTNERS, TILES = 6, 2, 4  # on a page: pairs of layers, rows of each, images in a row


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
    if not len(matches) or not len(runs[0].truth.thumbnails):
        return
    folder.mkdir()
    labels = {} if names is None else _labels(names)
    chosen = {(pair.network_a, pair.network_b) for pair in drawn}
    for (a, b), table in matches.groupby(["network_a", "network_b"], sort=False):
        if (a, b) not in chosen:
            continue
        rows = [
            _match_row(mined[str(a)], mined[str(b)], match, labels)
            for _, match in _spread(table).iterrows()
        ]
        draw_gallery(
            rows,
            folder / f"{a}__{b}.jpg",
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


def _match_row(
    a: MinedRun, b: MinedRun, match: pd.Series, labels: Mapping[tuple[str, str, str], str]
) -> GalleryRow:
    """Two partners on the images where both are strong."""
    places = [(a, match["network_a"], match["layer_a"], match["concept_a"]),
              (b, match["network_b"], match["layer_b"], match["concept_b"])]  # fmt: skip
    strengths, masks, notes = [], [], []
    for run, network, layer, concept in places:
        k = run.concept_set.layers[layer].names.index(concept)
        strengths.append(run.relative_strengths(layer)[:, k])
        masks.append(run.bits(layer)[:, k])
        label = f": {labels.get((network, layer, concept), NO_LABEL)}" if labels else ""
        notes.append(f"{layer} {concept}{label}")
    truth = a.truth
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
