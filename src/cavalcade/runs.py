"""Run folders: what training leaves behind, and all that comparing reads.

    runs/<data>/truth/                           once per data set
    runs/<data>/<method>/<network>-<digest>/     once per network

A folder is written beside its place and renamed when it is whole. Reading runs no code.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cavalcade.backbones import Layer
from cavalcade.concepts.concept_set import ConceptSet
from cavalcade.concepts.encoding import LayerEncoding, pack, score_matrix, unpack
from cavalcade.data.geometry import at_cell_centres
from cavalcade.data.groups import contiguous_blocks
from cavalcade.data.sample import ConceptData, ConceptDataset
from cavalcade.errors import InputError, check_choice

FORMAT = 1
NAMES = (  # columns of text in our tables
    *("layer", "concept", "split", "measure"),
    *("network_a", "layer_a", "network_b", "layer_b"),
)
PACKAGES = ("cavalcade", "torch", "torchvision", "timm", "lightning", "numpy")


def digest_of(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that differ where any entry does."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def written_whole(place: Path, *, kind: str, resume: str | None = None) -> Iterator[Path]:
    """A folder beside `place` to write into, renamed to `place` if the block succeeds.

    After an error it is removed, unless it holds `resume`, from which a later try goes on.

    Args:
        place: replaced only if it is a finished folder of the same kind.
        kind: `run`, `truth` or `comparison`.
        resume: a file within the folder.

    Raises:
        InputError: if the folder cannot be written, or would replace something else.
    """
    if place.exists() and kind_of(place) != kind:
        raise InputError(f"{place} exists and is no {kind} of cavalcade; give another place")
    # what can be resumed is found again by its name; anything else belongs to its process
    partial = place.with_name(f".{place.name}.partial{'' if resume else f'-{os.getpid()}'}")
    if partial.exists() and not (resume and (partial / resume).exists()):
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {place.parent} ({error}); give another place") from error
    try:
        yield partial
    except BaseException:
        if not (resume and (partial / resume).exists()):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if place.exists():
        old = place.with_name(f".{place.name}.old-{os.getpid()}")
        place.rename(old)
        partial.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(place)


def kind_of(folder: Path) -> str | None:
    """What a folder of ours holds; None for anything else."""
    try:
        return str(json.loads((folder / "meta.json").read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_name(what: str, name: str) -> None:
    """Raise unless a name can be that of a folder.

    Raises:
        InputError: naming the setting.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise InputError(f"{what} is {name!r}; give a plain name without slashes")


def write_meta(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `meta.json`: kind, format, content, and a checksum of every file beside it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "meta.json")
    for path in files:
        path.chmod(0o644)  # safetensors keeps its files to their owner
    checksums = {p.relative_to(folder).as_posix(): _checksum(p) for p in files}
    meta = {"kind": kind, "format": FORMAT, **content, "files": checksums}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def read_meta(folder: Path, kind: str) -> dict[str, Any]:
    """Read `meta.json` and check every file that it lists.

    Raises:
        InputError: if it is missing, of another kind or a newer format, or if a file differs
            from its checksum.
    """
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        found, files, is_kind = meta["format"], dict(meta["files"]), meta["kind"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no {kind} folder: it holds no meta.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete the folder and make it again"
        ) from error
    if is_kind != kind:
        raise InputError(f"{folder} is a {is_kind} folder, not a {kind} folder; mend the path")
    if found != FORMAT:
        raise InputError(
            f"{folder} has format {found}, this version reads {FORMAT}; update cavalcade"
        )
    for name, checksum in files.items():
        if not (folder / name).is_file() or _checksum(folder / name) != checksum:
            raise InputError(
                f"{folder / name} is missing or damaged; delete the folder and make it again"
            )
    return meta


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Truth:
    """What is true on the test images, shared by all runs of a data set.

    Attributes:
        data: name of the data set.
        fingerprint: of the test split.
        grid: height and width of the common grid.
        concepts: their names.
        ids: of the test images, in order.
        groups: one per image.
        blocks: number of the block of each image; see `contiguous_blocks`.
        masks: bits, where each concept is.
        labelled: bits, where its truth is known.
    """

    data: str
    fingerprint: str
    grid: tuple[int, int]
    concepts: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    blocks: tuple[int, ...]
    masks: UInt8[Tensor, "images concepts bytes"]
    labelled: UInt8[Tensor, "images concepts bytes"]

    @classmethod
    def of(cls, data: ConceptData, test: ConceptDataset) -> "Truth":
        """The truth of a test split, in the order of its images."""
        masks, labelled = [], []
        for index in range(len(test)):
            sample = test[index]
            masks.append(pack(at_cell_centres(sample.masks, data.grid)))
            labelled.append(pack(at_cell_centres(sample.labelled, data.grid)))
        return cls(
            data=data.name,
            fingerprint=test.fingerprint(),
            grid=(data.grid[0], data.grid[1]),
            concepts=test.concepts,
            ids=test.ids,
            groups=test.groups,
            blocks=tuple(contiguous_blocks(test.groups)),
            masks=torch.stack(masks),
            labelled=torch.stack(labelled),
        )

    def save(self, place: Path) -> None:
        """Write the truth folder."""
        with written_whole(place, kind="truth") as folder:
            tensors = {"masks": self.masks, "labelled": self.labelled}
            save_file(tensors, folder / "masks.safetensors")
            named = {k: v for k, v in vars(self).items() if k not in tensors}
            write_meta(folder, "truth", named)

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read a truth folder.

        Raises:
            InputError: if it is missing or damaged.
        """
        meta = read_meta(folder, "truth")
        tensors = _read_tensors(folder / "masks.safetensors")
        rows, columns = meta["grid"]
        return cls(
            data=meta["data"],
            fingerprint=meta["fingerprint"],
            grid=(rows, columns),
            concepts=tuple(meta["concepts"]),
            ids=tuple(meta["ids"]),
            groups=tuple(meta["groups"]),
            blocks=tuple(meta["blocks"]),
            masks=tensors["masks"],
            labelled=tensors["labelled"],
        )


def data_folder(runs: Path, data: ConceptData, test: ConceptDataset) -> Path:
    """Where runs on these test images, concepts and grid lie."""
    identity = {"test": test.fingerprint(), "grid": list(data.grid), "concepts": test.concepts}
    return runs / f"{data.name}-{digest_of(identity)[:8]}"


class Run:
    """One finished run folder, read only as far as it is asked for.

    Attributes:
        path: the folder.
        meta: the contents of `meta.json`.
        label: the network's name, with its variant.
        method: how concepts were found.
        concepts: their names.
        layers: the taps, in execution order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path, "run")
        self.label: str = self.meta["label"]
        self.method: str = self.meta["method"]
        self.concepts: tuple[str, ...] = tuple(self.meta["concepts"])
        self.layers = tuple(
            Layer(**(layer | {"grid": tuple(layer["grid"])})) for layer in self.meta["layers"]
        )

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
            _read_tensors(self.path / "masks.safetensors", "seen")["seen"], self.truth.grid
        )

    def masks(self, layer: str) -> Bool[Tensor, "images concepts pixels"]:
        """Where the concepts of a layer fire on the test images."""
        bits = _read_tensors(self.path / "masks.safetensors", f"layers/{layer}")
        return unpack(bits[f"layers/{layer}"], self.truth.grid)

    def read_masks(
        self, images: Int[Tensor, " chosen"]
    ) -> tuple[Bool[Tensor, "chosen concepts layers pixels"], Bool[Tensor, "chosen pixels"]]:
        """Where all concepts fire at all layers on some test images, and what was seen there."""
        return unpack(self._bits[images], self.truth.grid), self.seen[images]

    @cached_property
    def _bits(self) -> UInt8[Tensor, "images concepts layers bytes"]:
        names = [f"layers/{layer.name}" for layer in self.layers]
        tensors = _read_tensors(self.path / "masks.safetensors", *names)
        return torch.stack([tensors[name] for name in names], dim=2)

    def features(self, layer: str) -> Float[Tensor, "images channels"]:
        """Activations of a layer on the test images, averaged over its map."""
        return _read_tensors(self.path / "features.safetensors", layer)[layer]


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder; scores and matrices come as pandas frames.

    Raises:
        InputError: if it is no run folder, is damaged, or has a newer format.
    """
    return Run(Path(path))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that cavalcade wrote: a layer called `2` and a concept called `NA` are names."""
    header = list(pd.read_csv(path, nrows=0).columns)
    texts = {column: "str" for column in header if column in NAMES}
    numbers = {column: [""] for column in header if column not in NAMES}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers)


def write_run(
    folder: Path,
    *,
    meta: Mapping[str, Any],
    layers: Sequence[Layer],
    concepts: ConceptSet,
    seen: UInt8[Tensor, "images bytes"],
    encodings: Mapping[str, LayerEncoding],
    scores: pd.DataFrame,
) -> None:
    """Write all of a run except what its caller has already put into the folder."""
    concepts.save(folder / "concepts.safetensors")
    masks = {f"layers/{name}": part.masks for name, part in encodings.items()}
    save_file({"seen": seen, **masks}, folder / "masks.safetensors")
    features = {name: part.features.contiguous() for name, part in encodings.items()}
    save_file(features, folder / "features.safetensors")
    scores.to_csv(folder / "scores.csv", index=False, float_format="%.6g")
    versions = {package: version(package) for package in PACKAGES}
    described = [asdict(layer) for layer in layers]
    write_meta(folder, "run", {**meta, "layers": described, "versions": versions})


def _read_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete the folder and make it again"
        ) from error
