"""Run folders: what training leaves behind, and all that comparing reads.

    runs/<data>/truth/                           once per data set
    runs/<data>/<method>/<network>-<digest>/     once per network

A folder is written beside its place and renamed when it is whole. Reading runs no code.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.encoding import Encoded, unpack
from cavalcade.concepts.scoring import score_matrix
from cavalcade.errors import InputError, check_choice
from cavalcade.file_versions import FileVersions, file_version, unchanged
from cavalcade.folders import META, read_meta, write_meta
from cavalcade.meta_fields import WAY_OUT
from cavalcade.run_fields import PROBES, RunFields
from cavalcade.run_tables import MINED, NAMED, SCORED, Expected, read_expected
from cavalcade.similarity import Firing
from cavalcade.stored_masks import StoredBits, StoredFiring, all_pixels, check_bits
from cavalcade.table_files import NAMES
from cavalcade.tensor_files import check_tensor, read_tensors
from cavalcade.truth import Truth

VECTORS = "concepts.safetensors"
MASKS = "masks.safetensors"
HALF_MASKS = "halves/masks.safetensors"
SMALLEST = 1e-12  # strength that counts
PACKAGES = ("cavalcade", "torch", "torchvision", "timm", "lightning", "numpy", "scikit-learn")
Content = TypeVar("Content")


class Run:
    """One finished run folder, read only as far as it is asked for.

    Attributes:
        path: the folder.
        meta: the contents of `meta.json`.
        versions: of its files, from before their checksums were checked.
        label: the network's name, with its variant.
        method: how concepts were found.
        labels: the concepts that the data set names; none for images alone.
        layers: the taps, in execution order.
        random: the network's weights are random, not trained.
        left_out: how many images of each split of the data could not be read.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any], versions: FileVersions) -> None:
        self.path, self.meta, self.versions = path, meta, versions
        said = RunFields.of(dict(meta), path / META)
        self.label, self.method, self.random = said.label, said.method, said.random
        self.labels, self.layers, self.left_out = said.labels, said.layers, said.left_out
        self._said = said

    @property
    def architecture(self) -> str:
        """Digest of the network without its weights."""
        return str(self.meta["identity"]["backbone"]["architecture"])

    @property
    def weights(self) -> str:
        """Digest of its weights."""
        return str(self.meta["identity"]["backbone"]["weights"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path.name!r}, {len(self.layers)} layers)"

    @cached_property
    def truth(self) -> Truth:
        """What is true on the test images.

        Raises:
            InputError: if it is damaged, or that of other images than the run's.
        """
        folder = self.path.absolute().parent.parent / "truth"
        truth, said = Truth.load(folder), self._said
        found = (truth.data, truth.fingerprint, truth.grid, truth.concepts)
        if found != (said.data, said.test, said.grid, said.labels):
            raise InputError(
                f"{folder} is of other test images, concepts or another grid than {self.path}; "
                "delete both and make them again"
            )
        return truth

    @cached_property
    def concept_set(self) -> ConceptSet:
        """The concepts themselves."""
        return self._concept_set(VECTORS)

    @cached_property
    def seen(self) -> Bool[Tensor, "images pixels"]:
        """Which pixels of each test image the network saw."""
        return unpack(self._seen_bits, self.truth.grid)

    @cached_property
    def _seen_bits(self) -> UInt8[Tensor, "images bytes"]:
        bits = self._tensor(MASKS, "seen", torch.uint8, len(self.truth.ids), self._bytes)
        check_bits(self.path / MASKS, "seen", bits.numpy(), all_pixels(self._num_pixels))
        return bits

    def masks(self, layer: str) -> Bool[Tensor, "images concepts pixels"]:
        """Where the concepts of a layer fire on the test images."""
        return unpack(self.bits(layer), self.truth.grid)

    def bits(self, layer: str) -> UInt8[Tensor, "images concepts bytes"]:
        """The same, packed."""
        return self._mask_bits(MASKS, "layers", layer)

    def strengths(self, layer: str) -> Float[Tensor, "images concepts"]:
        """How strongly the concepts of a layer fire on each test image; see `LayerEncoding`."""
        size = len(self.truth.ids), self._num_concepts(layer)
        # versions before 0.9 wrote infinity where a concept fires everywhere
        return self._tensor("strengths.safetensors", layer, torch.float32, *size, infinite=True)

    def relative_strengths(self, layer: str) -> Float[Tensor, "images concepts"]:
        """The same as shares of what each concept reaches on any image."""
        strengths = self.strengths(layer)
        strengths = strengths.clamp(max=torch.finfo(strengths.dtype).max)
        return strengths / strengths.amax(dim=0).clamp(min=SMALLEST)

    def features(self, layer: str) -> Float[Tensor, "images channels"]:
        """Activations of a layer on the test images, averaged over its map."""
        size = len(self.truth.ids), self._layer(layer).channels
        return self._tensor("features.safetensors", layer, torch.float32, *size)

    def file(self, name: str) -> Path | None:
        """Where a file of the folder lies; None for one that `meta.json` does not list."""
        return self.path / name if name in self.meta["files"] else None

    def _layer(self, name: str) -> Layer:
        check_choice("the layer", name, [layer.name for layer in self.layers])
        return next(layer for layer in self.layers if layer.name == name)

    def _num_concepts(self, layer: str) -> int:
        return len(self.concept_set.layers[self._layer(layer).name].names)

    @property
    def _bytes(self) -> int:
        """Of the mask of an image."""
        return -(-self._num_pixels // 8)

    @property
    def _num_pixels(self) -> int:
        return self.truth.grid[0] * self.truth.grid[1]

    def _mask_bits(
        self, file: str, prefix: str, layer: str
    ) -> UInt8[Tensor, "images concepts bytes"]:
        """Masks of a layer, which lie within what the network saw."""
        name, size = f"{prefix}/{layer}", (len(self.truth.ids), self._num_concepts(layer))
        bits = self._tensor(file, name, torch.uint8, *size, self._bytes)
        check_bits(self.path / file, name, bits.numpy(), self._seen_bits[:, None].numpy())
        return bits

    def _concept_set(self, file: str) -> ConceptSet:
        """Concepts of all layers and no others; of a probed run those that are named."""
        concepts, path = self._read(file, ConceptSet.load), self.path / file
        if list(concepts.layers) != [layer.name for layer in self.layers]:
            raise InputError(f"{path} has other layers than meta.json; {WAY_OUT}")
        for layer in self.layers:
            own = concepts.layers[layer.name]
            if own.channels != layer.channels:
                raise InputError(
                    f"{path}: {layer.name} has vectors of {own.channels} channels, in meta.json it "
                    f"has {layer.channels}; {WAY_OUT}"
                )
            if self.method == PROBES and own.names != self.labels:
                raise InputError(f"{path}: {layer.name} has other concepts than meta.json; "
                                 f"{WAY_OUT}")  # fmt: skip
        return concepts

    def _read(self, file: str, read: Callable[[Path], Content]) -> Content:
        """What is made of the path of a file.

        Raises:
            InputError: if it cannot be read, is none that `meta.json` lists, or is not the file
                that was there at first.
        """
        path = self.file(file)
        if path is None:
            raise InputError(f"{self.path / META} does not list {file}; {WAY_OUT}")
        with unchanged(path, self.versions.get(path)):
            return read(path)

    def _tensor(
        self, file: str, name: str, dtype: torch.dtype, *shape: int, infinite: bool = False
    ) -> Tensor:
        tensor = self._read(file, lambda path: read_tensors(path, name))[name]
        return check_tensor(self.path / file, name, tensor, dtype, shape, infinite=infinite)

    def _table(self, file: str, expected: Expected) -> pd.DataFrame:
        return self._read(file, lambda path: read_expected(path, expected))

    def _stored(
        self, file: str, rows: Sequence[tuple[str, slice]], found: Bool[Tensor, " rows"]
    ) -> StoredFiring:
        masks, seen = self._read(file, StoredBits), self._read(MASKS, StoredBits)
        images = len(self.truth.ids)
        seen.check("seen", images, self._bytes)
        for (name, _), layer in zip(rows, self.layers, strict=True):
            masks.check(name, images, self._num_concepts(layer.name), self._bytes)
        return StoredFiring(masks, rows, seen, found.numpy(), self._num_pixels)


class MinedRun(Run):
    """A run whose concepts were mined from activations; each layer has its own."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each layer and concept; see `Mined`."""
        return self._table("concepts.csv", MINED.rows(self._places))

    @cached_property
    def names(self) -> pd.DataFrame:
        """The label that each concept overlaps best; see `name_concepts`. Empty without labels."""
        if self.file("names.csv") is None:
            return pd.DataFrame()
        return self._table("names.csv", NAMED.rows(self._places))

    @property
    def _places(self) -> list[tuple[str, float, str]]:
        """Layer, its depth, and name of every concept."""
        depths = {layer.name: layer.depth for layer in self.layers}
        return [(layer, depths[layer], name) for layer, name in self.concepts]

    @property
    def concepts(self) -> tuple[tuple[str, str], ...]:
        """Layer and name of every concept, layer after layer."""
        return self.concept_set.places

    def firing(self) -> Firing:
        """Where the concepts of all layers fire on the test images, layer after layer."""
        masks = torch.cat([self.masks(layer.name) for layer in self.layers], dim=1)
        return Firing(masks, self.seen, self.concept_set.found)

    def stored_firing(self) -> StoredFiring:
        """The same, read when it is asked for."""
        rows = [(f"layers/{layer.name}", slice(None)) for layer in self.layers]
        return self._stored(MASKS, rows, self.concept_set.found)


class ProbedRun(Run):
    """A run whose concepts were probed for by their labels; all layers have the same.

    Attributes:
        concepts: their names.
        has_halves: masks of probes of halves of the training images are there.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any], versions: FileVersions) -> None:
        super().__init__(path, meta, versions)
        self.concepts = self.labels
        self.has_halves = HALF_MASKS in self.meta["files"]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each layer, concept and split; see `score_table`."""
        places = [
            (layer.name, layer.depth, concept, split)
            for split in ("val", "test")
            for layer in self.layers
            for concept in self.concepts
        ]
        return self._table("scores.csv", SCORED.rows(places))

    def score_matrix(self, score: str = "jaccard", split: str = "test") -> pd.DataFrame:
        """One score as a matrix, layers in execution order by concepts.

        Raises:
            InputError: for a score or a split that the run does not hold.
        """
        check_choice("score", score, [c for c in self.scores.columns if c not in NAMES])
        check_choice("split", split, self.scores["split"].unique())
        layers = [layer.name for layer in self.layers]
        return score_matrix(self.scores, layers, self.concepts, score, split)

    def concept_masks(self, concept: int) -> Bool[Tensor, "images layers pixels"]:
        """Where one concept fires at all layers on the test images."""
        return unpack(self._bits[:, concept], self.truth.grid)

    def stored_firing(self, concept: int, half: int | None = None) -> StoredFiring:
        """Where one concept fires at all layers on the test images, read when it is asked for.

        Args:
            concept: its position.
            half: 1 or 2 for the probes of that half of the training images.
        """
        file, prefix = (MASKS, "layers") if half is None else (HALF_MASKS, str(half))
        one = slice(concept, concept + 1)
        rows = [(f"{prefix}/{layer.name}", one) for layer in self.layers]
        return self._stored(file, rows, self.found(concept, half))

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
        return {half: self._concept_set(f"halves/{half}.safetensors") for half in (1, 2)}

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
        return self._read_bits(MASKS, "layers")

    @cached_property
    def _half_bits(self) -> dict[str, UInt8[Tensor, "images concepts layers bytes"]]:
        return {half: self._read_bits(HALF_MASKS, half) for half in ("1", "2")}

    def _read_bits(self, file: str, prefix: str) -> UInt8[Tensor, "images concepts layers bytes"]:
        masks = [self._mask_bits(file, prefix, layer.name) for layer in self.layers]
        return torch.stack(masks, dim=2)


def load_run(path: str | os.PathLike[str]) -> ProbedRun | MinedRun:
    """Read a run folder; scores and matrices come as pandas frames.

    Raises:
        InputError: if it is no run folder, is damaged, has a newer format, or its `meta.json`
            says what cannot be.
    """
    folder = Path(path)
    with unchanged(folder / META, file_version(folder / META)):
        meta = read_meta(folder, "run")
        versions = {folder / name: file_version(folder / name) for name in meta["files"]}
    kind = ProbedRun if meta.get("method") == PROBES else MinedRun
    return kind(folder, meta, versions)


def write_run(
    folder: Path,
    *,
    meta: Mapping[str, Any],
    layers: Sequence[Layer],
    concepts: ConceptSet,
    encoded: Encoded,
) -> None:
    """Write what runs of all methods have in common, and list the files of the folder.

    Args:
        folder: holds all else.
        meta: what `meta.json` says besides.
        layers: the taps.
        concepts: those found.
        encoded: where they fire on the test images.
    """
    concepts.save(folder / VECTORS)
    masks = {f"layers/{name}": part.masks for name, part in encoded.layers.items()}
    save_file({"seen": encoded.seen, **masks}, folder / MASKS)
    for what in ("strengths", "features"):
        tensors = {name: getattr(part, what) for name, part in encoded.layers.items()}
        ready = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(ready, folder / f"{what}.safetensors")
    versions = {package: version(package) for package in PACKAGES}
    described = [asdict(layer) for layer in layers]
    write_meta(folder, "run", {**meta, "layers": described, "versions": versions})


def write_halves(
    folder: Path, halves: Sequence[ConceptSet], encoded: Sequence[Mapping[str, Tensor]]
) -> None:
    """Write the probes of both halves of the training images, and where they fire."""
    masks: dict[str, Tensor] = {}
    (folder / HALF_MASKS).parent.mkdir(exist_ok=True)  # an interrupted visit may have made it
    for number, (concepts, layers) in enumerate(zip(halves, encoded, strict=True), start=1):
        concepts.save((folder / HALF_MASKS).with_name(f"{number}.safetensors"))
        masks |= {f"{number}/{name}": bits for name, bits in layers.items()}
    save_file(masks, folder / HALF_MASKS)
