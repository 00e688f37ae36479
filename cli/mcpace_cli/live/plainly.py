"""What servers say, line by line, each with whose it is where they are several."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Final

from mcpace_cli.live.served import Served

_MOST: Final = 64
"""Pieces of text that wait to be written."""
_LOOK: Final = 0.02
_PATIENCE: Final = 1.0
"""Seconds that a server waits for whoever reads what it says; then that is dropped, and it goes on."""


class Plainly:
    """Writes their lines to standard error, and where each is to standard output."""

    merged = False

    def __init__(self, served: Sequence[Served]) -> None:
        self._several = len(served) > 1
        self._width = max(len(each.name) for each in served)
        self._pieces: queue.Queue[str | None] = queue.Queue(_MOST)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    async def heard(self, served: Served, lines: Sequence[str]) -> None:
        """Write them next."""
        whose = f"{served.name:<{self._width}} | " if self._several else ""
        piece = "".join(f"{whose}{line}\n" for line in lines)
        for _ in range(round(_PATIENCE / _LOOK)):
            if not self._pieces.full():
                break
            await asyncio.sleep(_LOOK)
        self._put(piece)

    def told(self, served: Served) -> None:
        """Print where it is, once it is ready: for scripts, and for people to paste into a client."""
        if served.told is not None and served.told.ready:
            whose = f"{served.name} " if self._several else ""
            try:
                print(f"{whose}{served.told.url}", flush=True)
            except OSError:  # nobody reads it, and Python would fail by it once more at the end
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)

    def say(self, words: str) -> None:
        """A line of our own."""
        self._put(f"{words}\n")

    async def show(self) -> None:
        """Until it is cancelled; what is left is then written, for a moment."""
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(queue.Full):
                self._pieces.put(None, timeout=_PATIENCE)
            self._writer.join(_PATIENCE)

    def _put(self, piece: str) -> None:
        with contextlib.suppress(queue.Full):
            self._pieces.put_nowait(piece)

    def _write(self) -> None:
        while (piece := self._pieces.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(piece)
                sys.stderr.flush()
