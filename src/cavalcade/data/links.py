"""Links in a data set: an archive that was unpacked must not pull in what lies elsewhere."""

import os
from pathlib import Path

from cavalcade.data.sample import WholeError


class LeadsOutError(WholeError):
    """A path leads out of the folder of a data set."""


class Links:
    """Tells whether files lie below a folder when all links are followed.

    The folder may be a link itself.
    """

    def __init__(self, root: Path, *, follow: bool) -> None:
        self.root, self.follow = root, follow
        self._real = os.path.realpath(root)
        self._homes: dict[str, bool] = {}  # each folder is followed once

    def check(self, path: Path) -> Path:
        """The path, if it leads to a place below the folder.

        Raises:
            LeadsOutError: if it leads out, unless links are followed.
        """
        if self.follow or path == self.root or self._stays(path):
            return path
        raise LeadsOutError(
            f"{path} leads out of data.root {self.root}, by a link or by '..'; if that is wanted, "
            "set data.follow_links=true"
        )

    def _stays(self, path: Path) -> bool:
        home, name = os.path.split(path)
        if home not in self._homes:
            self._homes[home] = self._is_below(home)
        if name != ".." and not os.path.islink(path):  # noqa: PTH114  # a third of the time
            return self._homes[home]
        return self._is_below(os.fspath(path))

    def _is_below(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self._real or real.startswith(os.path.join(self._real, ""))  # noqa: PTH118
