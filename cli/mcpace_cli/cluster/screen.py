"""`mcpace top` on a terminal: the servers, and what is opened of one, drawn anew with each look and key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from mcpace_cli.cluster.access import Access, MissingRightError, SilentError, reached
from mcpace_cli.cluster.top import CLIENTS, SERVERS, SORTS, TOOLS, Asked, Inside, Row, opened, ordered
from mcpace_cli.live.terminal import Terminal
from mcpace_cli.show import GAP, drawn, first_line, plain
from mcpace_operator.cluster.client import ApiError
from mcpace_operator.resource.server import Key, Server
from mcpace_sidecar.errors import ConfigError

SENT: Final[Mapping[bytes, str]] = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "open", b"\x1b[D": "back",
    b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "open", b"\x1bOD": "back",
    b"k": "up", b"j": "down", b"l": "open", b"h": "back",
    b"\r": "open", b"\n": "open", b"\x1b": "back", b"\x7f": "back",
    b"s": "sort", b"q": "end", b"\x04": "end", b"": "end",
}  # fmt: skip
"""What a key sends -> what it does; nothing comes from who is gone."""
_SPARE: Final = ("P50", "P99", "LIMITED", "HITS", "CHECKLIST", "IN FLIGHT", "CALLS IN 5 MIN", "NAMESPACE")
"""Columns that a narrow terminal does without, the first of these first."""
_AROUND: Final = 6
"""Lines of a screen that are no rows of the table."""
_HELP: Final = "up, down choose · enter opens: tools, then clients · esc goes back · s sorts · q ends"


class Level(Enum):
    """What is looked at."""

    SERVERS = "servers"
    TOOLS = "tools"
    CLIENTS = "clients"


@dataclass(slots=True)
class View:
    """What is seen, and where a person is in it. Pure but for `look`."""

    sort: str
    level: Level = Level.SERVERS
    opened: Key | None = None
    servers: Sequence[Server] = ()
    told: Inside | None = None
    """What the opened server's sidecars said; None until they have."""
    trouble: str = ""
    """Why the last look failed: what stands here is older."""
    at: int = 0
    """The chosen row."""
    ended: bool = False

    @property
    def rows(self) -> list[Row]:
        """The servers, in order."""
        return ordered(map(Row.of, self.servers), self.sort)

    def press(self, key: str) -> bool:
        """Take a key; whether it asks for something that is not known yet."""
        if key == "end":
            self.ended = True
        elif key in ("up", "down"):
            self.at = min(max(self.at + (1 if key == "down" else -1), 0), max(0, self._length - 1))
        elif key == "sort":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key == "open":
            return self._open()
        elif key == "back":
            self._back()
        return False

    def drawn(self, width: int, height: int) -> RenderableType:
        """The whole screen."""
        head, columns, cells = self._page()
        room = max(1, height - _AROUND)
        at = min(self.at, len(cells) - 1)  # there may be fewer by now
        first = max(0, min(at - room // 2, len(cells) - room))
        table = drawn(*_fitting(columns, cells[first : first + room], width), at - first)
        notes = [*([self.trouble] if self.trouble else []), *self._notes()]
        words = [Text(plain(each), style="yellow") for each in notes]
        return Group(Text(plain(head), style="bold"), table, *words, Text(_HELP, style="dim"))

    async def look(self, access: Access) -> None:
        """Ask anew; MissingRightError, ConfigError, ApiError."""
        self.servers = await access.servers()
        asked = self.opened
        server = next((each for each in self.servers if each.key == asked), None)
        if server is None and asked is not None:
            self.told = Inside(notes=[f"{asked} is not there any more."])
        if server is not None:
            told = await opened(access, server)
            if self.opened == asked:  # a person may have gone on meanwhile
                self.told = told

    def _open(self) -> bool:
        rows = self.rows
        if self.level is Level.SERVERS and rows:
            row = rows[min(self.at, len(rows) - 1)]
            self.opened, self.told = Key(row.namespace, row.name), None
            self.level, self.at = Level.TOOLS, 0
            return True
        if self.level is Level.TOOLS:
            self.level, self.at = Level.CLIENTS, 0
        return False

    def _back(self) -> None:
        if self.level is Level.CLIENTS:
            self.level, self.at = Level.TOOLS, 0
        elif self.level is Level.TOOLS:
            keys = [Key(row.namespace, row.name) for row in self.rows]
            self.at = keys.index(self.opened) if self.opened in keys else 0
            self.level, self.opened, self.told = Level.SERVERS, None, None

    @property
    def _length(self) -> int:
        return len(self._page()[2])

    def _page(self) -> tuple[str, tuple[str, ...], list[tuple[object, ...]]]:
        """Heading, columns, cells."""
        if self.level is Level.SERVERS:
            head = f"{len(self.servers)} servers, by {self.sort}"
            return head, SERVERS, [row.cells for row in self.rows]
        told = self.told or Inside()
        if self.level is Level.TOOLS:
            return f"{self.opened}: tools, in five minutes", TOOLS, [tool.cells for tool in told.tools]
        return f"{self.opened}: clients, and what they have left", CLIENTS, told.client_cells

    def _notes(self) -> Sequence[str]:
        if self.level is Level.SERVERS:
            rows = self.rows
            if not rows:
                return ["There is no McpServer here; -A looks in all namespaces."]
            row = rows[min(self.at, len(rows) - 1)]
            failed = f" Fails: {', '.join(row.failed)}." if row.failed else ""
            return [f"{row.name}: {row.message}{failed}"]
        if self.told is None:
            return ["Its sidecars are being asked."]
        if self.told.notes:
            return self.told.notes
        if self.level is Level.TOOLS and not self.told.tools:
            return ["No tool was called in five minutes."]
        if self.level is Level.CLIENTS and not self.told.limited:
            return ["The manifest has no rateLimits, so clients are not counted."]
        if self.level is Level.CLIENTS and not self.told.clients:
            return ["No client has called since its sidecars know their limits."]
        return []


def _fitting(
    columns: tuple[str, ...], cells: Sequence[tuple[object, ...]], width: int
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The columns for which there is room, and what stands in them."""
    told = [columns, *([first_line(each) for each in row] for row in cells)]
    widths = [max(map(cell_len, column)) for column in zip(*told, strict=True)]
    kept = list(range(len(columns)))
    for name in _SPARE:
        if name in columns and sum(widths[each] + GAP for each in kept) - GAP > width:
            kept.remove(columns.index(name))
    return tuple(columns[each] for each in kept), [tuple(row[each] for each in kept) for row in cells]


async def watch(asked: Asked) -> None:
    """Show it until a person ends it; MissingRightError, ConfigError, ApiError."""
    view = View(asked.sort)
    changed, wanted = asyncio.Event(), asyncio.Event()

    def press(key: str) -> None:
        if view.press(key):
            wanted.set()
        changed.set()

    async def look() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wanted.wait(), asked.interval)
            wanted.clear()
            try:
                await view.look(access)
                view.trouble = ""
            except (ApiError, MissingRightError, SilentError, ConfigError) as error:
                view.trouble = str(error)
            changed.set()

    async with reached(asked.where) as access:
        if asked.server is not None:
            view.opened = Server.from_body(await access.server(asked.server)).key
            view.level = Level.TOOLS
        await view.look(access)
        looking = asyncio.get_running_loop().create_task(look())
        looking.add_done_callback(lambda _: changed.set())  # by a fault of ours, which is told below
        try:
            with Terminal(SENT, press, changed.set) as terminal:
                while not (view.ended or looking.done()):
                    changed.clear()
                    size = terminal.size
                    await terminal.draw(view.drawn(*size), size)
                    await changed.wait()
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
