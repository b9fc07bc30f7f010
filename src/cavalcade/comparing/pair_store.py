"""What was counted of pairs of runs, kept on disk: a network that joins costs its own pairs alone.

    <cache>/<kind>/<first two digits>/<digest>.safetensors

A file for each pair of runs and kind of number: masks, halves, or a measure of features. Its
digest is of what was counted, never of names, so that all comparisons share one folder; it may
be deleted at any time. Files are written into `<cache>` and renamed when they are whole. Of a
folder that may only be read, what it lacks is kept as long as the comparison is.
"""

import hashlib
import json
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cavalcade.disks import READ_ONLY
from cavalcade.errors import InputError, one_line
from cavalcade.file_bytes import read_bytes
from cavalcade.version import __version__

log = logging.getLogger(__name__)

STORE = 3  # to be raised whenever a number that is stored is defined anew
CHECKSUM = "checksum"
PARTIAL = ".cavalcade-*.partial"  # what is not whole yet
A_DAY = 86400.0  # seconds, after which a file that is not whole is nobody's

FLOAT_BYTES = 8  # at most
HEADER_BYTES = 10_000  # of a file with some arrays, and its checksum

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, Sequence[int]]


def content_digest(identity: Mapping[str, Any]) -> str:
    """Thirty-two hexadecimal digits that differ where any entry does."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def bytes_digest(*arrays: np.ndarray) -> str:
    """The same of the contents of arrays, with their shapes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:32]


class PairStore(ABC):
    """Arrays by kind and digest.

    Attributes:
        computed: positions of the pairs of which anything was missing.
    """

    def __init__(self) -> None:
        self.computed: set[tuple[int, int]] = set()

    @abstractmethod
    def read(self, kind: str, digest: str, shapes: Shapes) -> Arrays | None:
        """What is stored; None for nothing, or for other arrays than of these shapes."""

    @abstractmethod
    def write(self, kind: str, digest: str, arrays: Arrays) -> None:
        """Store some arrays, whole or not at all."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise if nothing can be stored: better before what takes long than after."""


class PairsInMemory(PairStore):
    """Kept as long as the comparison is."""

    def __init__(self) -> None:
        super().__init__()
        self._arrays: dict[tuple[str, str], Arrays] = {}

    def read(self, kind: str, digest: str, shapes: Shapes) -> Arrays | None:  # noqa: ARG002
        """See `PairStore`; what is here was made by this process."""
        return self._arrays.get((kind, digest))

    def write(self, kind: str, digest: str, arrays: Arrays) -> None:
        """See `PairStore`."""
        self._arrays[kind, digest] = arrays

    def check_writable(self) -> None:
        """See `PairStore`: it always can."""


class PairsOnDisk(PairStore):
    """A folder of files, which several comparisons may use at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._not_kept = PairsInMemory()
        self._said = False
        self._tidied = False

    def place(self, kind: str, digest: str) -> Path:
        """The file of an entry."""
        return self.folder / kind / digest[:2] / f"{digest}.safetensors"

    def read(self, kind: str, digest: str, shapes: Shapes) -> Arrays | None:
        """See `PairStore`; a file that is damaged counts as none."""
        own = self._not_kept.read(kind, digest, shapes)
        if own is not None:
            return own
        path = self.place(kind, digest)
        try:
            arrays = _load(path, shapes)
            checksum = arrays.pop(CHECKSUM)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("%s cannot be read (%s): computed again", path, one_line(error))
            return None
        if not np.array_equal(checksum, _checksum(digest, arrays)):
            log.warning("%s is damaged: computed again", path)
            return None
        return arrays

    def write(self, kind: str, digest: str, arrays: Arrays) -> None:
        """See `PairStore`.

        Raises:
            InputError: if the file cannot be written.
        """
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = save(whole | {CHECKSUM: _checksum(digest, whole)})
        path = self.place(kind, digest)
        try:
            with self._writing() as partial:
                partial.write_bytes(content)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(path)
        except OSError:  # one may only read
            self._not_kept.write(kind, digest, whole)

    def check_writable(self) -> None:
        """See `PairStore`.

        Raises:
            InputError: if the folder cannot be written, for another reason than that one may
                only read it.
        """
        with suppress(OSError), self._writing() as partial:
            partial.touch()

    def _tidy(self) -> None:
        """Remove, once, what writers that were killed have left."""
        left_behind = () if self._tidied else self.folder.glob(PARTIAL)
        for left in left_behind:
            with suppress(OSError):
                if left.is_file() and left.stat().st_mtime < time.time() - A_DAY:
                    left.unlink()
        self._tidied = True

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        """A name for what is not whole yet; gone in the end. An OSError if one may only read."""
        partial = self.folder / PARTIAL.replace("*", uuid.uuid4().hex)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            yield partial
        except OSError as error:
            if error.errno in READ_ONLY and self.folder.is_dir():
                self._say_not_kept(error)
                raise
            raise InputError(
                f"cannot keep compared pairs in {self.folder} ({error.strerror}); give another "
                "place with cache=, or keep none with cache=null"
            ) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _say_not_kept(self, error: OSError) -> None:
        if not self._said:
            log.warning(
                "%s may only be read (%s): pairs that it lacks are computed, and not kept",
                *(self.folder, error.strerror),
            )
        self._said = True


def _load(path: Path, shapes: Shapes) -> Arrays:
    """The arrays of a file, which is no larger than they are.

    Raises:
        OSError: if it is missing, no file, or larger.
        ValueError: if it holds others.
    """
    size = HEADER_BYTES + FLOAT_BYTES * sum(map(prod, shapes.values()))
    arrays: Arrays = load(read_bytes(path, size))
    found = {name: x for name, x in arrays.items() if name != CHECKSUM}
    expected = {name: tuple(shape) for name, shape in shapes.items()}
    known = all(x.dtype.kind == "f" for x in found.values())
    if not known or {name: x.shape for name, x in found.items()} != expected:
        raise ValueError("it holds other arrays")
    return arrays


def versions() -> dict[str, Any]:
    """What every digest holds: numbers of another version are others."""
    return {"store": STORE, "cavalcade": _installed()}


@cache
def _installed() -> str:
    return __version__


def _checksum(digest: str, arrays: Arrays) -> np.ndarray:
    """Of the arrays, and of whose they are."""
    names = sorted(arrays)
    of_all = f"{digest} {names} {bytes_digest(*(arrays[name] for name in names))}"
    return np.frombuffer(hashlib.sha256(of_all.encode()).digest(), dtype=np.uint8)
