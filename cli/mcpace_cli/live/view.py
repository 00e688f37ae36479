"""The live view of servers on a terminal, and the keys by which people look around in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from mcpace_cli.live.frame import Wish, frame
from mcpace_cli.live.rates import ASCII, BLOCKS
from mcpace_cli.live.served import Served
from mcpace_cli.live.terminal import Terminal

_EVERY: Final = 2.0
"""Seconds between two looks at how servers do, as on the page."""
_PAUSE: Final = 0.1
"""Seconds between two frames, however much is said."""


class Key(StrEnum):
    """What may be pressed."""

    QUIT = "quit"
    PURGE = "purge"
    LOG = "log"
    NEXT = "next"
    BEFORE = "before"


SENT: Final[Mapping[bytes, Key]] = {
    b"q": Key.QUIT, b"Q": Key.QUIT,
    b"p": Key.PURGE, b"P": Key.PURGE,
    b"l": Key.LOG, b"L": Key.LOG,
    b"\t": Key.NEXT, b"\x1b[C": Key.NEXT, b"\x1bOC": Key.NEXT, b"\x1b[B": Key.NEXT, b"\x1bOB": Key.NEXT,
    b"\x1b[Z": Key.BEFORE, b"\x1b[D": Key.BEFORE, b"\x1bOD": Key.BEFORE, b"\x1b[A": Key.BEFORE,
    b"\x1bOA": Key.BEFORE,
}  # fmt: skip
"""What a terminal sends for each."""


class View:
    """Shows them until it is cancelled."""

    merged = True

    def __init__(self, served: Sequence[Served], end: Callable[[], None]) -> None:
        """`end` asks them to end, and the second time to do so at once."""
        self._served = served
        self._end = end
        self._chosen = 0
        self._log = True
        self._note = ""
        self._changed = asyncio.Event()
        self._purging: set[asyncio.Task[None]] = set()
        self._terminal = Terminal(SENT, self._press, self._changed.set)

    async def heard(self, served: Served, lines: Sequence[str]) -> None:
        """They are among what it said last; a slow terminal holds no server up."""
        del lines
        if self._log and served is self._served[self._chosen]:
            self._changed.set()

    def told(self, served: Served) -> None:
        """Where it is."""
        del served
        self._changed.set()

    def say(self, words: str) -> None:
        """What was done, or came about."""
        self._note = words
        self._changed.set()

    async def show(self) -> None:
        """Draw, until it is cancelled; the terminal is then as it was."""
        with self._terminal:
            await asyncio.gather(self._look(), self._draw())

    async def _look(self) -> None:
        while True:
            await asyncio.gather(*(served.look() for served in self._served))
            self._changed.set()
            await asyncio.sleep(_EVERY)

    async def _draw(self) -> None:
        blocks = BLOCKS if self._terminal.knows_unicode else ASCII
        while True:
            self._changed.clear()
            size = self._terminal.size
            wish = Wish(*size, chosen=self._chosen, log=self._log, note=self._note, blocks=blocks)
            await self._terminal.draw(frame(self._served, wish), size)
            await asyncio.sleep(_PAUSE)
            await self._changed.wait()

    def _press(self, key: Key) -> None:
        self._note = ""
        match key:
            case Key.QUIT:
                self._end()
            case Key.PURGE:
                task = asyncio.get_running_loop().create_task(self._purge(self._served[self._chosen]))
                self._purging.add(task)
                task.add_done_callback(self._purging.discard)
            case Key.LOG:
                self._log = not self._log
            case Key.NEXT | Key.BEFORE:
                step = 1 if key is Key.NEXT else -1
                self._chosen = (self._chosen + step) % len(self._served)
        self._changed.set()

    async def _purge(self, served: Served) -> None:
        self.say(await served.purge())
