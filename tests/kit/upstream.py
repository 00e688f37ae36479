"""A server behind sidecars that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from tools.ports import free_port

Answer = Callable[["Heard"], bytes | AsyncIterator[bytes]]


class Heard:
    """One request as the scripted server received it."""

    def __init__(self, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.line, *lines = head.split(b"\r\n")
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in lines)}
        self.reader = reader
        self.writer = writer

    @property
    def message(self) -> Any:
        return msgspec.json.decode(self.body)


class Scripted:
    """An upstream that answers with the bytes a test gives it, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self.answer: Answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        self.server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self.port = free_port()

    async def start(self, host: str = "127.0.0.1") -> None:
        self.server = await asyncio.start_server(self._serve, host, self.port)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def calls(self) -> list[Heard]:
        """What was heard from clients, without the sidecar's own handshakes."""
        return [h for h in self.heard if b'"mcpace"' not in h.body and b"mcpace-own" not in h.body]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(li[15:]) for li in head.lower().split(b"\r\n") if li.startswith(b"content-length:")),
                0,
            )
            heard = Heard(head + await reader.readexactly(length), reader, writer)
            self.heard.append(heard)
            answer = self.answer(heard)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                async for piece in answer:
                    writer.write(piece)
                    await writer.drain()
            await writer.drain()
            if writer.is_closing():
                break


def json_answer(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status, extra, len(body), body,
    )  # fmt: skip


RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}'
"""What a tool has to say that says nothing."""
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
"""How a stream of events begins, which then comes in chunks."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
