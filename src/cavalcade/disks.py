"""What a disk refuses to take, as one sentence."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cavalcade.children import AGAIN
from cavalcade.errors import InputError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
RUST_SAYS = "(os error {})"  # safetensors raises errors that have the number in their words alone


@contextmanager
def refusals_said(folder: Path) -> Iterator[None]:
    """Turn an error of a disk that is full, or may only be read, into a sentence.

    Args:
        folder: where the block writes; a file elsewhere that an error names is said instead.

    Raises:
        InputError: naming the folder; all other errors are left as they are.
    """
    try:
        yield
    except Exception as error:
        for each in _chain(error):
            where = _folder_of(each, folder)
            if _is_one_of(FULL, each):
                raise InputError(
                    f"the disk of {where} is full; make room there, or give another place, and "
                    f"{AGAIN}"
                ) from error
            if _is_one_of(READ_ONLY, each) and where == folder:  # not an image that is kept secret
                raise InputError(f"{where} may only be read; give another place") from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of: matplotlib closes a picture that cannot be closed."""
    while error is not None and not isinstance(error, InputError):
        yield error
        error = error.__cause__ or error.__context__


def _is_one_of(numbers: tuple[int, ...], error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    return isinstance(error, SafetensorError) and any(
        RUST_SAYS.format(number) in str(error) for number in numbers
    )


def _folder_of(error: BaseException, folder: Path) -> Path:
    """What is written to is named by errors of opening a file, and by others not."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)  # a copy, of what
    if not isinstance(named, str | os.PathLike) or Path(named).is_relative_to(folder):
        return folder
    return Path(named).parent
