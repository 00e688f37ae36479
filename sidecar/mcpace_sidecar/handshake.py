"""The sidecar's own conversation with the server: is it there, who is it, what are its tools.

Made until it first succeeds, then rarely, and at once after the server was not reached.
Modern servers are asked by `server/discover`; others by `initialize`, and the session that
this opens is deleted. Source: MCP 2026-07-28 basic/lifecycle; MCP 2025-11-25 basic/lifecycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.catalog import Catalog, ServerInfo
from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.upstream import MAX_WHOLE, Pool

log = logging.getLogger(__name__)

MODERN_VERSION: Final = "2026-07-28"
HANDSHAKE_VERSION: Final = "2025-11-25"
TIMEOUT: Final = 5.0
AGAIN_AFTER_FAILURE: Final = 0.25
AGAIN_AFTER_SUCCESS: Final = 30.0
_MAX_PAGES: Final = 100
_CLIENT: Final = {"name": "mcpace", "version": __version__}


class HandshakeError(McpaceError):
    """The server answered, but not as an MCP server."""


class Handshake:
    """Keeps `ready` and the catalog true."""

    def __init__(self, pool: Pool, path: Callable[[], str], catalog: Catalog) -> None:
        self.ready = False
        self.problem = "The server has not answered yet."
        self._pool = pool
        self._path = path
        self._catalog = catalog
        self._doubt = asyncio.Event()

    def doubt(self) -> None:
        """The server was not reached: look again now."""
        self._doubt.set()

    async def keep(self) -> None:
        """Shake hands for as long as the sidecar runs."""
        while True:
            self._doubt.clear()
            try:
                await self._once()
            except (McpaceError, msgspec.DecodeError) as error:
                if self.ready:
                    log.warning("The server is not ready any more: %s", error)
                elif self.problem != str(error):
                    log.info("The server is not ready yet: %s", error)
                self.ready, self.problem = False, str(error)
            else:
                if not self.ready:
                    log.info(
                        "The server is ready: %s, %d tools",
                        self._catalog.server,
                        len(self._catalog.tools),
                    )
                self.ready, self.problem = True, ""
            pause = AGAIN_AFTER_SUCCESS if self.ready else AGAIN_AFTER_FAILURE
            if not self.ready:
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), pause)

    async def _once(self) -> None:
        try:
            server, headers = await self._discover(), {"MCP-Protocol-Version": MODERN_VERSION}
        except HandshakeError:
            await self._initialize()
            return
        self._catalog.learn(server, await self._tools(headers))

    async def _discover(self) -> ServerInfo:
        result, _ = await self._call("server/discover", {}, {"MCP-Protocol-Version": MODERN_VERSION})
        info = (result.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo") or {}
        versions = result.get("supportedVersions") or [MODERN_VERSION]
        return ServerInfo(str(info.get("name", "")), str(info.get("version", "")), str(versions[0]))

    async def _initialize(self) -> None:
        params = {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        result, head = await self._call("initialize", params, {})
        version = str(result.get("protocolVersion", HANDSHAKE_VERSION))
        info = result.get("serverInfo") or {}
        headers = {"MCP-Protocol-Version": version}
        session = head.get(b"mcp-session-id")
        if session is not None:
            headers["Mcp-Session-Id"] = session.decode("latin-1")
        try:
            await self._send("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
            tools = await self._tools(headers) if "tools" in (result.get("capabilities") or {}) else []
        finally:
            if session is not None:
                with contextlib.suppress(UpstreamError):
                    await self._send("DELETE", None, headers)
        server = ServerInfo(str(info.get("name", "")), str(info.get("version", "")), version)
        self._catalog.learn(server, tools)

    async def _tools(self, headers: dict[str, str]) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            try:
                result, _head = await self._call("tools/list", cursor, headers)
            except HandshakeError:
                return tools  # a server without tools is a server
            tools += [tool for tool in result.get("tools") or [] if isinstance(tool, dict)]
            if not result.get("nextCursor"):
                break
            cursor = {"cursor": result["nextCursor"]}
        return tools

    async def _call(
        self, method: str, params: dict[str, Any], headers: dict[str, str]
    ) -> tuple[dict[str, Any], ResponseHead]:
        if headers.get("MCP-Protocol-Version") == MODERN_VERSION:
            headers = headers | {"Mcp-Method": method}
            meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": _CLIENT,
            }
            params = params | {"_meta": meta}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        head, body = await self._send("POST", message, headers)
        for text in _messages(head, body):
            answer = msgspec.json.decode(text)
            if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
                return answer["result"], head
        raise HandshakeError(f"{method} was answered with HTTP {head.status} and no result")

    async def _send(
        self, verb: str, message: dict[str, Any] | None, headers: dict[str, str]
    ) -> tuple[ResponseHead, bytes]:
        body = msgspec.json.encode(message) if message is not None else b""
        lines = {
            "Host": str(self._pool.address),
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }
        head = f"{verb} {self._path()} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        return await Fetch().from_pool(self._pool, head.encode("latin-1") + body, TIMEOUT)


class Fetch:
    """A request of the sidecar's own, to be awaited: the whole answer, bounded."""

    def __init__(self, limit: int = 4 * MAX_WHOLE) -> None:
        self._done: asyncio.Future[tuple[ResponseHead, bytes]] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []

    async def from_pool(self, pool: Pool, request: bytes, seconds: float) -> tuple[ResponseHead, bytes]:
        """Send `request` and return its answer; UpstreamError."""
        ticket = pool.request(request, self, seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._done
        except TimeoutError:
            raise UpstreamError("timeout", f"The server did not answer within {seconds:g} s.") from None
        finally:
            if not self._done.done() or self._done.cancelled():
                ticket.cancel()

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        if not self._done.done():
            self._done.set_result((head, body))

    def on_head(self, head: ResponseHead) -> None:
        """The head of a streamed answer."""
        self._head = head

    def on_piece(self, piece: bytes) -> None:
        """The next bytes."""
        self._pieces.append(piece)
        self._limit -= len(piece)
        if self._limit < 0:
            self.on_failure(UpstreamError("size", "The server's answer is too large."))

    def on_end(self) -> None:
        """The end."""
        assert self._head is not None
        self.on_answer(self._head, b"".join(self._pieces))

    def on_failure(self, error: UpstreamError) -> None:
        """No answer."""
        if not self._done.done():
            self._done.set_exception(error)


def _messages(head: ResponseHead, body: bytes) -> list[bytes]:
    """The JSON texts of an answer, whether it is one document or an event stream."""
    if head.content_type == b"text/event-stream":
        return [match[1] for match in re.finditer(rb"^data: ?(\{.*\})\r?$", body, re.MULTILINE)]
    return [body] if head.content_type == b"application/json" and body else []
