"""A session that a test leads request by request, each on a connection of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.kit.waiting import DEADLINE

VERSION = "2025-11-25"
_INITIALIZE = {
    "protocolVersion": VERSION,
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}


class Told(NamedTuple):
    """An answer."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON-RPC answer in it, which may be one event of several; empty: there is none."""
        lines = self.body.splitlines()
        texts = [line.removeprefix(b"data:").strip() for line in lines if line.startswith((b"data:", b"{"))]
        told = [json.loads(text) for text in texts if text]
        return next((each for each in told if "result" in each or "error" in each), {})


class RawSession:
    """One session. `headers` go with each of its requests."""

    def __init__(self, url: str, **headers: str) -> None:
        self.id = ""
        self.headers = headers
        self.url = url
        self._numbers = itertools.count(1)

    async def begin(self) -> RawSession:
        told = await self.post({"id": 0, "method": "initialize", "params": _INITIALIZE})
        assert told.status == 200, told
        self.id = told.fields["mcp-session-id"]
        told = await self.post({"method": "notifications/initialized"})
        assert told.status == 202, told
        return self

    async def send(self, method: str, body: bytes = b"", url: str = "", **headers: str) -> Told:
        """One request: what it is told; OSError where the connection breaks."""
        place = urlsplit(url or self.url)
        lines = {
            "Host": "localhost", "Accept": "application/json, text/event-stream", "Connection": "close",
            **({"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}),
            **({"Mcp-Session-Id": self.id, "MCP-Protocol-Version": VERSION} if self.id else {}),
            **self.headers, **headers,
        }  # fmt: skip
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(f"{method} {place.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
                answer = await reader.read(-1)
            finally:
                writer.close()
        if not answer:
            raise ConnectionResetError(f"{method} was not answered")
        top, _, rest = answer.partition(b"\r\n\r\n")
        status, *fields = top.decode().split("\r\n")
        named = {n.lower(): v for n, _, v in (field.partition(": ") for field in fields)}
        return Told(int(status.split()[1]), named, rest)

    async def post(self, message: dict[str, Any], url: str = "", **headers: str) -> Told:
        return await self.send("POST", json.dumps({"jsonrpc": "2.0"} | message).encode(), url, **headers)

    async def asks(
        self, tool: str, url: str = "", headers: dict[str, str] | None = None, **arguments: Any
    ) -> Told:
        """A call of a tool: what it is told."""
        params = {"name": tool, "arguments": arguments}
        message = {"id": next(self._numbers), "method": "tools/call", "params": params}
        return await self.post(message, url, **(headers or {}))

    async def call(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's result; AssertionError, with what was told, where there is none."""
        told = await self.asks(tool, **arguments)
        result = told.answer.get("result", {"isError": True})
        assert not result.get("isError"), f"{self.url}: {told}"
        return str(result["content"][0]["text"])
