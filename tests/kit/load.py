"""Load: clients that call without a pause, and a server that never ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

from tests.kit.sidecars import Running
from tests.kit.upstream import RESULT, SSE, Heard, json_answer
from tests.kit.waiting import DEADLINE, until

BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}'
REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"MCP-Protocol-Version: 2026-07-28\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Load:
    """Clients that call without a pause over kept connections, and count what they are answered."""

    def __init__(self, sidecar: Running, clients: int = 8) -> None:
        self.port = sidecar.data  # a client that is asked away goes wherever this leads by then
        self.answers: Counter[str] = Counter()
        self.stopping = False
        self.tasks = [asyncio.ensure_future(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        while not self.stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.answers["no connection"] += 1
                if self.answers["no connection"] > 50:
                    return
                await asyncio.sleep(0.01)
                continue
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._call(reader, writer)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.stopping:
            writer.write(REQUEST)
            head = b""
            try:
                async with asyncio.timeout(DEADLINE):
                    head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = await reader.readexactly(length)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.answers["closed without an answer" if not head else "cut"] += 1
                raise
            if b'"result"' in body:
                self.answers["result"] += 1
            else:
                self.answers[body.partition(b'"code":')[2].partition(b",")[0].decode()] += 1
            if b"connection: close" in head.lower():
                return

    async def reach(self, count: int) -> None:
        wanted = self.answers["result"] + count
        await until(lambda: self.answers["result"] >= wanted, f"{wanted} results, of {dict(self.answers)}")

    async def stop(self) -> Counter[str]:
        self.stopping = True
        await asyncio.gather(*self.tasks)
        return self.answers


async def flood(heard: Heard) -> Any:
    """A server whose stream never ends."""
    if not heard.line.startswith(b"GET"):
        yield json_answer(RESULT)
        return
    yield SSE
    while True:
        yield b"8000\r\n" + b"x" * 32768 + b"\r\n"
