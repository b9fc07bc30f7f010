"""Whether a file is still the one that was there: a run that is made again takes its place."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cavalcade.errors import InputError

# or nothing within reach
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)

FileVersion = tuple[int, int, int]
FileVersions = Mapping[Path, FileVersion | None]


def file_version(path: Path) -> FileVersion | None:
    """What differs between two files of one name; None where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno not in NOTHING_THERE:
            raise
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def unchanged(path: Path, version: FileVersion | None) -> Iterator[None]:
    """Reading a file, which may be opened by its name in the block.

    Raises:
        InputError: if it is another one by the end, whatever the block made of it.
    """
    changed = InputError(
        f"{path} was made again or deleted while it was read; run the same command again"
    )
    try:
        yield
    except Exception as error:
        if file_version(path) != version:
            raise changed from error
        raise
    if file_version(path) != version:
        raise changed
