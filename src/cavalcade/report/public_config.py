"""The part of a configuration that may leave the machine: no passwords, no absolute paths."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

REMOVED = "removed"
_SECRET = re.compile(  # at the end of a name in snake case
    r"(?:^|_)(?:(?:api|access|private|secret|account|auth|encryption|signing)_?keys?(?:_id)?"
    r"|(?:api|access|auth)_?tokens?|token|jwt|pass|passw(?:or)?ds?|pwd|passphrase|secrets?"
    r"|credentials?|cookies?|o?auth|authorization|bearer|connection_string|signature|sig|sas)"
    r"(?:_headers?)?_?\d*$"
)
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_USER = re.compile(  # a path of a URL has one slash less, and a drive of Windows one letter
    r"(?:(?<=://)|(?<=[A-Za-z0-9]{2}:/))(/?)[^/?#\s]*@"
)
_HEADER = re.compile(r"(authorization\s*:\s*(?:\w+\s+)?|\bbearer\s+)\S{6,}", re.IGNORECASE)
_QUERY = re.compile(  # without what a sentence puts behind it
    r"(?:(?<=[?&#;])|(?<=--))([^=&#;\s]+)=[^&#;\s]+?(?=['\")\]},.:]*(?:[&#;\s]|$))"
)
_INNER_KEY = re.compile(r"[{,]\s*['\"]?([^\s'\"{},:]+)['\"]?\s*:")  # of a mapping in an argument


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same configuration without users and passwords in URLs, and values of secret keys.

    >>> without_secrets({"root": "https://me:pass@host/data", "api_key": "abc"})
    {'root': 'https://host/data', 'api_key': 'removed'}
    """
    return _mapped(config, _shown)


def hold_secrets(arguments: Iterable[str]) -> bool:
    """Whether one of some arguments `key=value` shows a password, also within a mapping.

    >>> hold_secrets(["data.root=https://me:pass@host/data"])
    True
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if _shown(argument) != argument or any(map(_is_secret, [key, *_INNER_KEY.findall(value)])):
            return True
    return False


def without_secret_values(arguments: Iterable[str]) -> list[str]:
    """Arguments `key=value`, with the value removed of each that shows a password.

    >>> without_secret_values(["logger.api_key=abc", "seed=1"])
    ['logger.api_key=removed', 'seed=1']
    """
    return [
        f"{argument.partition('=')[0]}={REMOVED}" if hold_secrets([argument]) else argument
        for argument in arguments
    ]


def without_passwords(text: str) -> str:
    """A text without users and passwords in its URLs, and without signatures.

    >>> without_passwords("cannot read https://me:pass@host/data?sig=abc")
    'cannot read https://host/data?sig=removed'
    >>> without_passwords("data.root is 'https://host/x?token=abc', which is no folder")
    "data.root is 'https://host/x?token=removed', which is no folder"
    """
    return _shown(text)


def _is_secret(name: str) -> bool:
    """Whether what a key or a part of a query is called says that its value is to be hidden."""
    return bool(_SECRET.search(_WORD.sub("_", name).lower()))


def _shown(text: str) -> str:
    def hidden(part: re.Match[str]) -> str:
        return f"{part[1]}={REMOVED}" if _is_secret(part[1]) else part[0]

    return _HEADER.sub(rf"\1{REMOVED}", _QUERY.sub(hidden, _USER.sub(r"\1", text)))


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same with only the last part of each absolute path.

    >>> without_paths({"root": "/home/me/camvid", "runs": "runs"})
    {'root': '…/camvid', 'runs': 'runs'}
    """
    return _mapped(config, _shortened)


def _shortened(text: str) -> str:
    plain = text.removeprefix("file://")
    if PureWindowsPath(plain).is_absolute():
        return f"…/{PureWindowsPath(plain).name}"
    return f"…/{PurePosixPath(plain).name}" if plain.startswith(("/", "~")) else text


def _mapped(config: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    def changed(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            return _mapped(value, change)
        if isinstance(value, list | tuple):
            return [changed(each) for each in value]
        return change(value) if isinstance(value, str) else value

    def hides(key: str, value: Any) -> bool:  # noqa: ANN401
        return bool(value) and value is not True and _is_secret(key)

    return {
        str(key): REMOVED if hides(str(key), value) else changed(value)
        for key, value in config.items()
    }
