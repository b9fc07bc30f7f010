"""The one error that a user can cause, and how sentences to the user are worded."""

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

FROM_WORKER = re.compile(
    r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback \(most recent call"
)
NO_MEMORY = "DefaultCPUAllocator"  # of torch, for the memory of the machine
SENTENCE = re.compile(r"\n[\w.]+: ")  # after the name of its class, which may be one of ours


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence with the way out.

    The programs print it without a traceback. Anything else that is raised is a bug. Names of
    others that it holds cannot make another sentence of it: it is one line, see `shown`.
    """

    def __str__(self) -> str:
        """The sentence; of an error of a data worker too, around which torch puts a traceback."""
        text = super().__str__()
        if FROM_WORKER.match(text):  # there each sentence is a line
            text = SENTENCE.split(text.rstrip())[-1]
        return shown(" ".join(text.split("\n")))


def shown(text: str, keep: str = "") -> str:
    r"""A text whose characters a terminal would obey, or not show, are replaced by their escapes.

    Args:
        text: which may hold names that anybody has given.
        keep: characters that stay, such as line breaks.

    >>> print(shown("a\nb \x1b[31m\u202e ä"))
    a\nb \x1b[31m\u202e ä
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) or c in keep else ascii(c)[1:-1] for c in text)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"  # spaces of any width


def lacks_memory(error: BaseException) -> bool:
    """Whether the machine, not a device, had no memory: Python says it, or torch."""
    return isinstance(error, MemoryError) or NO_MEMORY in str(error)


def closest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Name the entries of `known` nearest to `name`, for the end of an error message.

    >>> closest("layer5", ["layer1", "layer4", "stem"])
    'closest: layer4, layer1'
    """
    known = list(known)
    matches = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if matches:
        return f"closest: {', '.join(matches)}"
    return f"there are: {listed(known)}" if known else "there are none"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in a sentence: the first ones, and how many there are if that is not all.

    >>> listed(["sky", "road", "car"], most=2)
    'sky, road, … (3 in all)'
    """
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def counted(count: int, noun: str) -> str:
    """How many there are of something.

    >>> counted(1, "layer"), counted(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{count} {noun}" + ("" if count == 1 else "s")


def one_line(error: BaseException) -> str:
    """What another library says of an error, on one line."""
    return " ".join(str(error).split())


def check_choice(what: str, value: str, options: Iterable[str]) -> None:
    """Raise unless `value` is one of `options`.

    Raises:
        InputError: naming the setting, the value and what exists.
    """
    options = list(options)
    if value not in options:
        raise InputError(f"{what} is {value!r}; give one of {', '.join(options)}")


def check_switch(what: str, value: object) -> None:
    """Raise unless `value` is true or false.

    Raises:
        InputError: naming the setting and the value.
    """
    if not isinstance(value, bool):
        raise InputError(f"{what} is {value!r}; give true or false")


def check_whole(what: str, value: object, least: int, most: int | None = None) -> None:
    """Raise unless `value` is a whole number within bounds; True and False are none.

    Raises:
        InputError: naming the setting and the value.
    """
    whole = value if isinstance(value, int) and not isinstance(value, bool) else math.nan
    if not least <= whole <= (math.inf if most is None else most):
        bounds = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InputError(f"{what} is {value!r}; give a whole number {bounds}")
