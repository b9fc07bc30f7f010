"""The part of a configuration that may leave the machine: no passwords, no absolute paths."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

REMOVED = "removed"
SECRET = r"(?:api_?key|passw(?:or)?d|secret|token|credential|signature|sig)"
_SECRET_KEY = re.compile(rf"(?:^|_|-|\.){SECRET}s?$", re.IGNORECASE)
_USER = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]*@")
_QUERY = re.compile(rf"([?&](?:[\w-]*[-_])?{SECRET}=)[^&\s]+", re.IGNORECASE)


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same configuration without passwords in URLs, and without values of secret keys.

    >>> without_secrets({"root": "https://me:pass@host/data", "api_key": "abc"})
    {'root': 'https://me@host/data', 'api_key': 'removed'}
    """
    return _mapped(config, lambda text: _QUERY.sub(rf"\1{REMOVED}", _USER.sub(r"\1@", text)))


def hold_secrets(arguments: Iterable[str]) -> bool:
    """Whether one of some arguments `key=value` shows a password.

    >>> hold_secrets(["data.root=https://me:pass@host/data"])
    True
    """
    pairs = [argument.partition("=")[::2] for argument in arguments]
    return any(without_secrets({key: value})[key] != value for key, value in pairs)


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

    return {
        str(key): REMOVED if value and _SECRET_KEY.search(str(key)) else changed(value)
        for key, value in config.items()
    }
