"""Lines of the programs' logs, on the terminal and in files: names of others forge none."""

import logging
from typing import Any

from cavalcade.errors import shown

AS_LINES = {"as_lines": True}  # as `extra`: a message that has several, such as a traceback


class LogLine(logging.Formatter):
    """Shows what no terminal can print as its escape, line breaks of our own messages too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """One line for each of our messages; of libraries, and of tracebacks, as many as it has."""
        ours = record.name.partition(".")[0] in ("cavalcade", "hydra_plugins")
        lines = not ours or getattr(record, "as_lines", False)
        return shown(super().formatMessage(record), keep="\n\t" if lines else "")

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401
        """A traceback, line by line."""
        return shown(super().formatException(ei), keep="\n\t")
