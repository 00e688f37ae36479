"""A Service before replicas: it spreads requests over those that are ready."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Protocol


class Behind(Protocol):
    """A replica, to a Service."""

    ready: bool

    @property
    def place(self) -> tuple[str, int]:
        """Where its requests come in."""


class Service:
    """Where clients reach them."""

    def __init__(self, replicas: Sequence[Behind]) -> None:
        self.served: dict[str, int] = {}
        """Which replica was sent the last request of each HTTP method."""
        self.next: int | None = None
        """The replica that the next request goes to, whoever's turn it is."""
        self.begins: int | None = None
        """The one that sessions begin at; None: each in turn."""
        self.goes_on: int | None = None
        """The one that all else goes to."""
        self.turns = [0 for _ in replicas]
        """How many requests each was sent."""
        self._all = replicas
        self._turns = itertools.count()
        self._service: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._service is not None
        return f"http://127.0.0.1:{self._service.sockets[0].getsockname()[1]}/mcp"

    async def start(self) -> None:
        self._service = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)

    async def end(self) -> None:
        if self._service is not None:
            self._service.close()
        for task in self._serving:
            task.cancel()

    def cut(self) -> None:
        """Break every connection of clients, as a gateway does that is replaced."""
        for task in self._serving:
            task.cancel()

    def _turn(self, head: bytes) -> int:
        steered, self.next = self.next, None
        if steered is not None:
            return steered
        preferred = self.goes_on if b"\r\nmcp-session-id:" in head.lower() else self.begins
        if preferred is not None and self._all[preferred].ready:
            return preferred
        ready = [number for number, each in enumerate(self._all) if each.ready]
        assert ready, "no replica is ready"
        return ready[next(self._turns) % len(ready)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of a connection, which closes after its answer."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        lines.insert(1, b"Connection: close")
        number = self._turn(head)
        self.served[head.split(b" ", 1)[0].decode()] = number
        self.turns[number] += 1
        there, onward = await asyncio.open_connection(*self._all[number].place)
        onward.write(b"\r\n".join(lines))
        pumps = [
            asyncio.ensure_future(_pump(there, writer)),
            asyncio.ensure_future(_pump(reader, onward)),
        ]
        try:
            await pumps[0]
        finally:
            for pump in pumps:
                pump.cancel()
            onward.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
