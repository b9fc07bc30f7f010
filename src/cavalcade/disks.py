"""What a disk refuses to take, as one sentence."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cavalcade.children import AGAIN
from cavalcade.errors import InputError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
NEARLY_NONE = 256_000_000  # bytes: what was begun may be removed by now
WRITING = "Error while serializing"  # as safetensors begins, which names no file
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
            named = _named(each)
            inside = named is None or named.absolute().is_relative_to(folder.absolute())
            where = folder if named is None or inside else named.parent
            if _is_one_of(FULL, each) and (named is not None or _may_be_full(folder, each)):
                raise InputError(
                    f"the disk of {where} is full; make room there, or give another place, and "
                    f"{AGAIN}"
                ) from error
            # not an image that is kept secret, nor what has no name, such as a semaphore
            is_ours = where == folder and (named is not None or WRITING in str(each))
            if _is_one_of(READ_ONLY, each) and is_ours:
                raise InputError(f"{where} may only be read; give another place") from error
        raise


def name_full(path: Path, error: BaseException) -> None:
    """Have an error of a disk that is full name the file, where only its writer knows it."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL and _named(each) is None:
            each.filename = os.fspath(path)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of: matplotlib closes a picture that cannot be closed."""
    while error is not None and not isinstance(error, InputError):
        yield error
        hidden = error.__suppress_context__  # by `raise … from None`
        error = error.__cause__ or (None if hidden else error.__context__)


def _is_one_of(numbers: tuple[int, ...], error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    return isinstance(error, SafetensorError) and any(
        RUST_SAYS.format(number) in str(error) for number in numbers
    )


def _named(error: BaseException) -> Path | None:
    """What is written to is named by errors of opening a file, and by others not."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)  # a copy, of what
    return Path(named) if isinstance(named, str | os.PathLike) else None


def _may_be_full(folder: Path, error: BaseException) -> bool:
    """Whether a file without a name may be one of the folder: shared memory can be full too."""
    if getattr(error, "errno", None) != errno.ENOSPC:  # a quota, or safetensors
        return True
    try:
        return shutil.disk_usage(folder).free < NEARLY_NONE
    except OSError:
        return True
