"""Run folders: what training leaves behind, and all that comparing reads.

    runs/<data>/truth/                           once per data set
    runs/<data>/<method>/<network>-<digest>/     once per network

A folder is written beside its place and renamed when it is whole. Reading runs no code.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.encoding import Encoded, score_matrix, unpack
from cavalcade.concepts.replicates import Found
from cavalcade.errors import InputError, check_choice
from cavalcade.folders import NAMES, read_meta, read_table, read_tensors, write_meta
from cavalcade.truth import Truth

HALF_MASKS = "halves/masks.safetensors"
PACKAGES = ("cavalcade", "torch", "torchvision", "timm", "lightning", "numpy")


class Run:
    """One finished run folder, read only as far as it is asked for.

    Attributes:
        path: the folder.
        meta: the contents of `meta.json`.
        label: the network's name, with its variant.
        method: how concepts were found.
        concepts: their names.
        layers: the taps, in execution order.
        random: the network's weights are random, not trained.
        has_halves: masks of probes of halves of the training images are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path, "run")
        self.label: str = self.meta["label"]
        self.method: str = self.meta["method"]
        self.concepts: tuple[str, ...] = tuple(self.meta["concepts"])
        if "random" not in self.meta:
            raise InputError(f"{path} was made by an older version; run train.py again")
        self.random: bool = self.meta["random"]
        self.has_halves = HALF_MASKS in self.meta["files"]
        self.layers = tuple(
            Layer(**(layer | {"grid": tuple(layer["grid"])})) for layer in self.meta["layers"]
        )

    @property
    def architecture(self) -> str:
        """Digest of the network without its weights."""
        return str(self.meta["identity"]["backbone"]["architecture"])

    @property
    def weights(self) -> str:
        """Digest of its weights."""
        return str(self.meta["identity"]["backbone"]["weights"])

    def __repr__(self) -> str:
        return f"Run({self.path.name!r}, {len(self.layers)} layers, {len(self.concepts)} concepts)"

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each layer, concept and split; see `score_table`."""
        return read_table(self.path / "scores.csv")

    def score_matrix(self, score: str = "jaccard", split: str = "test") -> pd.DataFrame:
        """One score as a matrix, layers in execution order by concepts.

        Raises:
            InputError: for a score or a split that the run does not hold.
        """
        check_choice("score", score, [c for c in self.scores.columns if c not in NAMES])
        check_choice("split", split, self.scores["split"].unique())
        layers = [layer.name for layer in self.layers]
        return score_matrix(self.scores, layers, self.concepts, score, split)

    @cached_property
    def truth(self) -> Truth:
        """What is true on the test images."""
        return Truth.load(self.path.parents[1] / "truth")

    @cached_property
    def concept_set(self) -> ConceptSet:
        """The concepts themselves."""
        return ConceptSet.load(self.path / "concepts.safetensors")

    @cached_property
    def seen(self) -> Bool[Tensor, "images pixels"]:
        """Which pixels of each test image the network saw."""
        return unpack(
            read_tensors(self.path / "masks.safetensors", "seen")["seen"], self.truth.grid
        )

    def masks(self, layer: str) -> Bool[Tensor, "images concepts pixels"]:
        """Where the concepts of a layer fire on the test images."""
        bits = read_tensors(self.path / "masks.safetensors", f"layers/{layer}")
        return unpack(bits[f"layers/{layer}"], self.truth.grid)

    def concept_masks(self, concept: int) -> Bool[Tensor, "images layers pixels"]:
        """Where one concept fires at all layers on the test images."""
        return unpack(self._bits[:, concept], self.truth.grid)

    def found(self, concept: int, half: int | None = None) -> Bool[Tensor, " layers"]:
        """Which layers have a concept: one without a training pixel has no threshold.

        Args:
            concept: its position.
            half: 1 or 2 for the probes of that half of the training images.
        """
        concepts = self.concept_set if half is None else self._half_sets[half]
        thresholds = [concepts.layers[layer.name].thresholds[concept] for layer in self.layers]
        return ~torch.stack(thresholds).isnan()

    @cached_property
    def _half_sets(self) -> dict[int, ConceptSet]:
        return {
            half: ConceptSet.load((self.path / HALF_MASKS).with_name(f"{half}.safetensors"))
            for half in (1, 2)
        }

    def half_masks(self, half: int, concept: int) -> Bool[Tensor, "images layers pixels"]:
        """The same, by the probes of one half of the training images, 1 or 2.

        Raises:
            InputError: if the run has none; see `has_halves`.
        """
        if not self.has_halves:
            raise InputError(
                f"{self.path} holds no probes of halves of the training images; run train.py with "
                "concepts.split_half=true"
            )
        check_choice("half", str(half), tuple(self._half_bits))
        return unpack(self._half_bits[str(half)][:, concept], self.truth.grid)

    @cached_property
    def _bits(self) -> UInt8[Tensor, "images concepts layers bytes"]:
        return self._read_bits("masks.safetensors", "layers")

    @cached_property
    def _half_bits(self) -> dict[str, UInt8[Tensor, "images concepts layers bytes"]]:
        return {half: self._read_bits(HALF_MASKS, half) for half in ("1", "2")}

    def _read_bits(self, file: str, prefix: str) -> UInt8[Tensor, "images concepts layers bytes"]:
        names = [f"{prefix}/{layer.name}" for layer in self.layers]
        tensors = read_tensors(self.path / file, *names)
        return torch.stack([tensors[name] for name in names], dim=2)

    def features(self, layer: str) -> Float[Tensor, "images channels"]:
        """Activations of a layer on the test images, averaged over its map."""
        return read_tensors(self.path / "features.safetensors", layer)[layer]


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder; scores and matrices come as pandas frames.

    Raises:
        InputError: if it is no run folder, is damaged, or has a newer format.
    """
    return Run(Path(path))


def write_run(
    folder: Path,
    *,
    meta: Mapping[str, Any],
    layers: Sequence[Layer],
    found: Found,
    encoded: Encoded,
    scores: pd.DataFrame,
) -> None:
    """Write all of a run except what its caller has already put into the folder."""
    found.concepts.save(folder / "concepts.safetensors")
    masks = {f"layers/{name}": part.masks for name, part in encoded.layers.items()}
    save_file({"seen": encoded.seen, **masks}, folder / "masks.safetensors")
    features = {name: part.features.contiguous() for name, part in encoded.layers.items()}
    save_file(features, folder / "features.safetensors")
    if found.halves:
        _write_halves(folder, found.halves, encoded.halves)
    scores.to_csv(folder / "scores.csv", index=False, float_format="%.6g")
    versions = {package: version(package) for package in PACKAGES}
    described = [asdict(layer) for layer in layers]
    write_meta(folder, "run", {**meta, "layers": described, "versions": versions})


def _write_halves(
    folder: Path, halves: Sequence[ConceptSet], encoded: Sequence[Mapping[str, Tensor]]
) -> None:
    masks: dict[str, Tensor] = {}
    (folder / HALF_MASKS).parent.mkdir()
    for number, (concepts, layers) in enumerate(zip(halves, encoded, strict=True), start=1):
        concepts.save((folder / HALF_MASKS).with_name(f"{number}.safetensors"))
        masks |= {f"{number}/{name}": bits for name, bits in layers.items()}
    save_file(masks, folder / HALF_MASKS)
