"""Bytes of files that anybody may have put there: a pipe has no end, a file may have too many."""

import zipfile
from pathlib import Path


def check_is_file(path: Path) -> None:
    """Raise for a folder, a pipe or a device.

    Raises:
        OSError: if it is there, and no file.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The contents of a file.

    Raises:
        OSError: if it is missing, no file, has more bytes than that, or cannot be read.
    """
    check_is_file(path)
    if most is not None and path.stat().st_size > most:
        raise OSError(f"it has more than {most} bytes")
    return path.read_bytes()


def check_no_larger_inside(path: Path) -> None:
    """Raise for a file of torch that would take more memory than it has bytes.

    Torch writes what it saves as an archive, and compresses nothing in it.

    Raises:
        ValueError: if it is an archive of more bytes than its own.
        OSError: if it cannot be read.
    """
    if not zipfile.is_zipfile(path):  # as older versions wrote it
        return
    with zipfile.ZipFile(path) as archive:
        if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed")
