"""What images, groups and concepts may be called, so that every table can hold it."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from cavalcade.errors import InputError

LONGEST_QUOTE = 80  # letters
LONGEST_NAME, LONGEST_PATH = 255, 2000  # bytes, as most file systems have it; letters

# Control characters, other ends of lines, and what stands for bytes that are not UTF-8.
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def brief(value: object) -> str:
    """What was found in a file, as it is quoted in a message: cut short, it may be of any size.

    >>> brief("a" * 1000)[:5], len(brief("a" * 1000))
    ("'aaaa", 81)
    """
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def is_plain(name: str) -> bool:
    r"""Whether a name has no control character, and is text in every encoding.

    >>> is_plain("Straße 3/a b.jpg"), is_plain("a\n.jpg"), is_plain("\udcff.jpg")
    (True, False, False)
    """
    return not _ODD.search(name)


def check_plain(what: str, names: Iterable[str], way_out: str) -> None:
    """Raise unless all names are plain.

    Args:
        what: holds them, or what they are, for the message.
        names: of files, groups or concepts.
        way_out: how to go on.

    Raises:
        InputError: naming the first one that is not, as bytes where it is not UTF-8.
    """
    for name in names:
        if not is_plain(name):
            raise InputError(
                f"{what} {_told(name)}, with a control character or what is not UTF-8; {way_out}"
            )


def stays_below(name: str) -> bool:
    """Whether a path of a list, with "/", leads to below the folder that it starts from.

    It must be in its plainest form too, so that no file has two names, and no longer than file
    systems take.

    >>> [stays_below(name) for name in ("a/b.jpg", "/a.jpg", "../a.jpg", "a/../b.jpg", "./a", "")]
    [True, False, False, False, False, False]
    """
    path = PurePosixPath(name)
    absolute = path.is_absolute() or ".." in path.parts
    if absolute or not path.name or path.as_posix() != name or len(name) > LONGEST_PATH:
        return False
    return all(len(part.encode(errors="replace")) <= LONGEST_NAME for part in path.parts)


def _told(name: str) -> str:
    """Its bytes, if it is a file name that is not UTF-8."""
    try:
        return brief(os.fsencode(name) if re.search("[\udc80-\udcff]", name) else name)
    except UnicodeEncodeError:  # it is of no file system
        return brief(name)
