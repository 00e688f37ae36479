"""A server of sessions, scripted: a test says when it forgets them, and what else it does wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from tests.kit.sidecars import Running
from tests.kit.upstream import SSE, Heard, chunk, json_answer

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"sampling": {}},
    "clientInfo": {"name": "test", "version": "1"},
}
VERSION = {"Mcp-Protocol-Version": "2025-11-25"}
LIST = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "t", "arguments": {}}}


class Forgetful:
    """Knows the sessions that it has begun since it last forgot all."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.begun: list[Any] = []
        """The params of each `initialize` of a client's, or for a client's sake."""
        self._own: set[str] = set()
        """The sidecar's own sessions, which nobody forgets."""
        self.ran: list[tuple[str, Any]] = []
        """What was asked for in which session, in order: method, and params."""
        self.unknown: bytes = json_answer(
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}',
            b"404 Not Found",
        )
        self.version = "2025-11-25"
        self.capabilities: Any = {
            "tools": {"listChanged": True},
            "logging": {},
            "resources": {"subscribe": True},
        }
        self.hooks: dict[str, Callable[[Heard], bytes | AsyncIterator[bytes]]] = {}
        """Other answers, by method."""
        self._numbers = itertools.count()

    def forget(self) -> None:
        self.sessions.clear()

    def __call__(self, heard: Heard) -> bytes | AsyncIterator[bytes]:
        verb = heard.line.split(b" ")[0]
        session = heard.headers.get(b"mcp-session-id", b"").decode()
        message = heard.message if heard.body else {"method": verb.decode()}
        method = message.get("method", "response")
        if method == "initialize":
            if "initialize" in self.hooks:
                return self.hooks["initialize"](heard)
            return self.begin(message)
        if method == "server/discover":
            return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
        if session in self._own:
            return _open() if method == "GET" else _answer(message)
        if session not in self.sessions:
            return self.unknown
        self.ran.append((method, message.get("params")))
        if method in self.hooks:
            return self.hooks[method](heard)
        if method == "GET":
            return _open()
        if method == "DELETE":
            self.sessions.remove(session)
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        return _answer(message, b"mcp-session-id: %b\r\n" % session.encode())

    def begin(self, message: Any) -> bytes:
        session = f"inner-{next(self._numbers)}"
        if message["params"]["clientInfo"]["name"] == "mcpace":
            self._own.add(session)
        else:
            self.begun.append(message["params"])
            self.sessions.append(session)
        result = {
            "protocolVersion": self.version,
            "capabilities": self.capabilities,
            "serverInfo": {"name": "f", "version": "1"},
        }
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return json_answer(body, extra=b"Mcp-Session-Id: %b\r\n" % session.encode())

    @property
    def revivals(self) -> list[Any]:
        """The params of each `initialize` after the one client's own."""
        return self.begun[1:]


def _answer(message: Any, extra: bytes = b"") -> bytes:
    if "id" not in message or "method" not in message:
        return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    result = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": [], "isError": False}}
    return json_answer(msgspec.json.encode(result), extra=extra)


async def _open() -> AsyncIterator[bytes]:
    yield SSE
    yield chunk(b": open\n\n")
    await asyncio.Event().wait()


async def begin(sidecar: Running, **headers: str) -> str:
    """Begin a session as a client; return its id."""
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
    status, told, _ = await sidecar.post(message, **headers)
    assert status == 200
    return told["mcp-session-id"]


async def posts(
    sidecar: Running, session: str, message: Any, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Post a message in a session, as the SDKs do."""
    return await sidecar.post(message, Mcp_Session_Id=session, **(VERSION | headers))


def breaking(*answers: bytes) -> Any:
    """Breaks off after each of these in turn, then answers."""
    left = list(answers)

    def answer(heard: Heard) -> AsyncIterator[bytes] | bytes:
        if not left:
            return json_answer(b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false}}')
        begun = left.pop(0)

        async def broken() -> AsyncIterator[bytes]:
            if begun:
                yield begun
            heard.writer.close()

        return broken()

    return answer
