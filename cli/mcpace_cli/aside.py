"""What a server that is started to be asked writes meanwhile: kept aside, shown where it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Final, TextIO

import click

from mcpace_cli.show import plain
from mcpace_sidecar.errors import ConfigError

_QUIET: Final = 5.0
"""Seconds after which it is shown: a server may be downloaded, or wait for somebody to log in."""
_LOOK: Final = 0.2
_MOST: Final = 1 << 16
"""Bytes that are shown at once."""


@contextlib.asynccontextmanager
async def aside() -> AsyncIterator[TextIO]:
    """A file for its output, shown where what is done meanwhile takes long, or fails by the server."""
    with tempfile.TemporaryFile("a+", encoding="utf-8") as kept:
        shown = 0

        def show() -> None:
            nonlocal shown
            while written := os.pread(kept.fileno(), _MOST, shown):  # where the server writes is not moved
                shown += len(written)
                click.echo(plain(written.decode("utf-8", "replace")), nl=False, err=True)

        async def later() -> None:
            await asyncio.sleep(_QUIET)
            while True:
                show()
                await asyncio.sleep(_LOOK)

        showing = asyncio.create_task(later())
        try:
            yield kept
        except ConfigError:
            raise
        except Exception:
            show()
            raise
        finally:
            showing.cancel()
