"""A server of the 2024-11-05 pair that says what a test wants, and clients of it through a sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from tests.kit.sidecars import Running
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE


class Pairs:
    """A server of the pair: each GET opens a stream, each POST is accepted, what is answered a test says."""

    def __init__(self, scripted: Scripted) -> None:
        self.streams: list[asyncio.Queue[bytes]] = []
        self.accepting = asyncio.Event()
        self.accepting.set()
        self.place: Callable[[int], bytes] = lambda number: b"/messages?s=%d" % number
        """Where the messages of a stream are posted, as the server says it."""
        self.endpoint = b"event: endpoint\ndata: %b\n\n"
        self.message = b"event: message\ndata: %b\n\n"
        """How events are written."""
        self.accept: Callable[[Heard], AsyncIterator[bytes]] = self._accept
        scripted.answer = self._answer

    async def _answer(self, heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            said: asyncio.Queue[bytes] = asyncio.Queue()
            self.streams.append(said)
            yield SSE + chunk(self.endpoint % self.place(len(self.streams)))
            while True:
                yield chunk(self.message % await said.get())
        async for piece in self.accept(heard):
            yield piece

    async def _accept(self, _: Heard) -> AsyncIterator[bytes]:
        await self.accepting.wait()
        yield json_answer(b"Accepted", b"202 Accepted")

    def say(self, stream: int, data: bytes) -> None:
        self.streams[stream - 1].put_nowait(data)


class Client:
    """One client of the pair, through the sidecar."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sidecar: Running
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.through = sidecar
        """Where it posts: this sidecar, or another."""
        self.lines = b""
        """Header lines of what it posts."""
        self.target = b""
        """Where it posts."""
        self.number = 0
        """Which of the server's streams it has."""

    @classmethod
    async def begin(cls, sidecar: Running, path: bytes = b"/sse", lines: bytes = b"") -> Client:
        """Ask for a stream, and leave it to the test what comes. `lines`: header lines of all it sends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
        writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path, lines))
        client = cls(reader, writer, sidecar)
        client.lines = lines
        return client

    @classmethod
    async def open(cls, sidecar: Running, path: bytes = b"/sse", lines: bytes = b"") -> Client:
        client = await cls.begin(sidecar, path, lines)
        line = await client.hear(b"\n\n")
        client.target = line.rpartition(b"data: ")[2].strip()
        client.number = int(client.target.partition(b"?s=")[2].partition(b"&")[0] or 0)
        return client

    async def hear(self, end: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(end)

    async def post(self, body: bytes) -> bytes:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % self.target
        head += self.lines
        return await self.through.raw(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def call(self, message_id: bytes) -> bytes:
        return await self.post(
            b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t"}}' % message_id
        )

    def leave(self) -> None:
        self.writer.transport.abort()
