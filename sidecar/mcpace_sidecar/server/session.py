"""The sidecar as a client of its own server: requests of its own, and streams it listens to.

Source: MCP 2026-07-28 basic/transports; MCP 2025-11-25 basic/transports; MCP 2024-11-05
basic/transports (HTTP with SSE).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import ByStatus
from mcpace_sidecar.http.sse import Events, data_of, name_of
from mcpace_sidecar.mcp import answers

MODERN_VERSION: Final = "2026-07-28"
HANDSHAKE_VERSION: Final = "2025-11-25"
TIMEOUT: Final = 5.0
"""Seconds an answer may take, unless a session says otherwise."""
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_MOST_WORDS: Final = 500
_CLIENT: Final = {"name": "mcpace", "version": __version__}

Message = dict[str, Any]


class HandshakeError(McpaceError):
    """The server answered, but not as an MCP server. `status` is that of its HTTP answer."""

    def __init__(self, words: str, status: int = 0, error: Message | None = None) -> None:
        # They may hold the server's own words, and reach the log: these make no lines of their own there.
        super().__init__("".join(c if c.isprintable() else " " for c in words[:_MOST_WORDS]))
        self.status = status
        self.error = error
        """The JSON-RPC error, where it answered with one."""


class NotMcpError(McpaceError):
    """The server's answers are not what MCP says they are."""


class SilenceError(McpaceError):
    """The server did not answer in time, or ended its stream before it did."""


@contextlib.contextmanager
def conversation() -> Iterator[None]:
    """Lets nothing out but McpaceError: of what is no MCP at all, nobody has foreseen how it fails."""
    try:
        yield
    except McpaceError:
        raise
    except (TimeoutError, StopAsyncIteration):
        raise SilenceError("The server did not answer in time.") from None
    except msgspec.DecodeError as error:
        raise NotMcpError(str(error)) from None
    except Exception as error:
        kind = type(error).__name__
        raise NotMcpError(f"The server's answers are not what MCP says they are ({kind}).") from error


class Session:
    """One conversation with the server, in whatever era it speaks; use it in a `conversation`.

    `headers` go with every request: the version, and the session where there is one.
    """

    def __init__(self, pool: Backend, path: str, credential: Mapping[str, str] | None = None) -> None:
        """`credential` are headers that go with every request, whatever the era."""
        self.path = path
        self.timeout = TIMEOUT
        self._credential = credential or {}
        self.headers: dict[str, str] = {}
        self.info: Message = {}
        self.capabilities: Message = {}
        self.versions: list[str] = []
        self.received = 0
        """Bytes of the answers to its calls."""
        self._pool = pool
        self._open: Stream | None = None  # the one that is listened to
        self._stream: Stream | None = None  # of the SSE pair, where responses arrive

    async def begin(self) -> None:
        """Begin in the modern era, or where the server does not know it in that of handshakes."""
        try:
            await self.discover()
        except HandshakeError:
            await self.initialize()

    async def discover(self) -> None:
        """Begin in the modern era; HandshakeError if the server does not know it."""
        self.headers = {"MCP-Protocol-Version": MODERN_VERSION}
        result = await self.call("server/discover", {})
        self.info = (result.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo") or {}
        self.capabilities = result.get("capabilities") or {}
        self.versions = [str(v) for v in result.get("supportedVersions") or [MODERN_VERSION]]

    async def initialize(self) -> None:
        """Begin in the handshake era; HandshakeError."""
        self.headers = {}
        params = {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        result = await self.call("initialize", params)
        self.info = result.get("serverInfo") or {}
        self.capabilities = result.get("capabilities") or {}
        self.versions = [str(result.get("protocolVersion", HANDSHAKE_VERSION))]
        self.headers["MCP-Protocol-Version"] = self.versions[0]
        await self.send("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def connect_pair(self) -> None:
        """Open the stream of 2024-11-05, learn where messages go, and initialize."""
        self._stream = stream = Stream()
        stream.open(self._pool, self.request("GET", None, {"Accept": "text/event-stream"}))
        async with asyncio.timeout(TIMEOUT):
            event = b""
            while not data_of(event):  # comments may come first
                event = await anext(stream.events())
        if name_of(event) != b"endpoint":
            raise HandshakeError("The event stream does not begin with the endpoint of messages.")
        place = urlsplit(urljoin(f"http://server{self.path}", data_of(event).decode()))
        self.path = place.path + (f"?{place.query}" if place.query else "")
        await self.initialize()

    def interrupt(self) -> None:
        """Let whoever listens hear the end."""
        if self._open is not None:
            self._open.close()
            self._open.on_end()

    async def end(self) -> None:
        """End the session, where there is one."""
        if self._stream is not None:
            self._stream.close()
        elif "Mcp-Session-Id" in self.headers:
            with contextlib.suppress(UpstreamError):
                await self.send("DELETE", None)

    async def call(self, method: str, params: Message) -> Message:
        """Send a request and return its result; HandshakeError if it has none."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": self.completed(params)}
        mirrored = {"Mcp-Method": method}
        if method == "tools/call":
            mirrored["Mcp-Name"] = params["name"]
        head, body = await self.send("POST", message, mirrored)
        self.received += len(body)
        session = head.get(b"mcp-session-id")
        if method == "initialize" and session is not None and head.status < 300:
            self.headers["Mcp-Session-Id"] = session.decode("latin-1")
        words = f"{method} was answered with HTTP {head.status} and {_kind(head)}"
        error: Message | None = None
        for text in await self._responses(head, body):
            answer = msgspec.json.decode(text)
            if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
                return dict(answer["result"])
            if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
                error = dict(answer["error"])
                words += f": {error.get('message', '')}"
        raise HandshakeError(words, head.status, error)

    def completed(self, params: Message) -> Message:
        """The params of a request, with what its era wants in them besides."""
        modern = self.headers.get("MCP-Protocol-Version") == MODERN_VERSION
        return params | {"_meta": _modern_meta()} if modern else params

    async def send(
        self, verb: str, message: Message | None, more: dict[str, str] | None = None
    ) -> tuple[ResponseHead, bytes]:
        """Send one request and return the whole answer; UpstreamError."""
        return await Fetch().from_pool(self._pool, self.request(verb, message, more or {}), self.timeout)

    async def listen(self, on_open: Callable[[], None]) -> AsyncIterator[Message]:
        """The notifications that the server sends on its own, until the stream ends."""
        if self._stream is not None:
            stream = self._stream
        else:
            stream = Stream()
            if self.headers.get("MCP-Protocol-Version") == MODERN_VERSION:
                wanted = {f"{kind}ListChanged": True for kind in ("tools", "prompts", "resources")}
                params = {"notifications": wanted, "_meta": _modern_meta()}
                method = "subscriptions/listen"
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                request = self.request("POST", message, {"Mcp-Method": method})
            else:
                request = self.request("GET", None, {"Accept": "text/event-stream"})
            stream.open(self._pool, request)
        self._open = stream
        on_open()
        try:
            async for event in stream.events():
                data = data_of(event)
                if data:
                    message = msgspec.json.decode(data)
                    if isinstance(message, dict) and "method" in message:
                        yield message
        finally:
            stream.close()

    def request(self, verb: str, message: Message | None, more: dict[str, str]) -> bytes:
        """The bytes of one request; HandshakeError where the server's own words would write lines in it."""
        body = msgspec.json.encode(message) if message is not None else b""
        lines = {
            "Host": str(self._pool.address),
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self._credential,
            **self.headers,
            **more,
        }
        # Some of these are the server's own words: they write no lines of ours.
        if _TARGET.fullmatch(self.path) is None:
            raise HandshakeError(f"Its messages go to {self.path!r}, which is no path.")
        for name, value in lines.items():
            if _VALUE.fullmatch(value) is None:
                raise HandshakeError(f"It says {value[:64]!r}, which cannot be sent as {name}.")
        head = f"{verb} {self.path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        return head.encode("latin-1") + body

    async def _responses(self, head: ResponseHead, body: bytes) -> list[bytes]:
        """The JSON texts of an answer: one document, an event stream, or on the pair's own stream."""
        if self._stream is not None and head.status == 202:
            async with asyncio.timeout(TIMEOUT):
                async for event in self._stream.events():
                    if b'"result"' in event or b'"error"' in event:
                        return [data_of(event)]
            return []
        if head.content_type == b"text/event-stream":
            return answers.texts(body, events=True)
        return [body] if head.content_type == b"application/json" and body else []


def _kind(head: ResponseHead) -> str:
    """What an answer without a result is."""
    kind = head.content_type.decode("latin-1")
    if kind == "text/html":
        return "an HTML page: no MCP server is at this path"
    if head.status == 404:
        return "no result: nothing is at this path"
    if kind and kind not in ("application/json", "text/event-stream"):
        return f"{kind[:64]}: no MCP server is at this path"
    return "no result"


def _modern_meta() -> Message:
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": _CLIENT,
    }


class Stream(ByStatus):
    """An open event stream, to be iterated."""

    def __init__(self) -> None:
        self._cut = Events()
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ticket: Any = None

    def open(self, pool: Backend, request: bytes) -> None:
        """Ask for it."""
        self._ticket = pool.request((request,), self, None)

    async def events(self) -> AsyncIterator[bytes]:
        """Each event as it comes."""
        while (event := await self._arrived.get()) is not None:
            yield event

    def close(self) -> None:
        """Stop listening."""
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """It ended at once, or was no stream."""
        if head.content_type == b"text/event-stream":
            self.on_piece(body)
        self.on_end()

    def on_head(self, head: ResponseHead) -> None:
        """It begins."""
        if head.content_type != b"text/event-stream":
            self.close()
            self.on_end()

    def on_piece(self, piece: bytes) -> None:
        """The next bytes."""
        for event in self._cut.feed(piece):
            self._arrived.put_nowait(event)
        if self._cut.overfull:
            self.close()
            self.on_end()

    def on_end(self) -> None:
        """It has ended."""
        self._arrived.put_nowait(None)

    def on_failure(self, error: UpstreamError) -> None:
        """It broke off."""
        del error
        self.on_end()
