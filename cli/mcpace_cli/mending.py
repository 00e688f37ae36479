"""What a person must mend is told in one message, with exit code 2, and not by a traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

import click

from mcpace_cli.show import plain
from mcpace_sidecar.errors import McpaceError

MENDED: Final = "2 something is to be mended first, and is said."
"""The exit code, as each command's help tells it."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Around whatever a person has asked for."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("mcpace_"):
            raise
        words = "this needs {}, which the images leave out; `pip install .` in a checkout brings it"
        click.echo(f"mcpace: {words.format(error.name)}", err=True)
        sys.exit(2)
    except McpaceError as error:
        click.echo(f"mcpace: {plain(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:  # a folder that is not there, a disk that is full: theirs to mend, not ours
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"mcpace: {plain(f'{place}{error.strerror or error}')}", err=True)
        sys.exit(2)
