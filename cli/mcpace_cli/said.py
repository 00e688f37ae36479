"""Lines for the person who has started `mcpace run`, on standard error."""

from __future__ import annotations

import logging
from typing import Final

from rich.console import Console

from mcpace_cli.show import plain

_ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """A line; what servers say of themselves is in some, so that nothing in it is obeyed by a terminal."""
    _ERR.print(plain(text), style=style, markup=False)


class Said(logging.Handler):
    """What is logged, as a line for the person at the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        say(self.format(record), style if record.levelno >= logging.WARNING else None)
