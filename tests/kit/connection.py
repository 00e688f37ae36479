"""A raw connection to a sidecar, and a call as bytes."""

from __future__ import annotations

import asyncio
import socket

from tests.kit.sidecars import Running
from tests.kit.waiting import DEADLINE

POST = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(
        cls, sidecar: Running, data: bytes = b"", limit: int = 1 << 16, port: int | None = None
    ) -> Client:
        """`limit`: bytes that it reads ahead; `port`: another than the data port."""
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limit)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port or sidecar.data))
        reader, writer = await asyncio.open_connection(sock=opened, limit=limit)
        writer.write(data)
        return cls(reader, writer)

    async def reads(self, what: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(what)

    def leave(self) -> None:
        self.writer.transport.abort()
