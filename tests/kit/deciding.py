"""Requests that differ in what may decide an answer, and a server that says what it saw of them."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from tests.kit.sharing import CONFIG, GATEWAY
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer

DECIDING = (
    b"mcp-protocol-version",
    b"mcp-session-id",
    b"authorization",
    b"cookie",
    b"x-api-key",
    b"x-user",
    b"x-gateway-client",
    b"x-gateway-plan",
    b"x-forwarded-user",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-prefix",
    b"x-script-name",
)
"""The headers that the server of these tests answers by."""


@dataclass(frozen=True)
class Request:
    """A request, as far as its answer may depend on it."""

    target: str = "/mcp?tenant=a"
    headers: dict[str, str] = field(
        default_factory=lambda: {"MCP-Protocol-Version": "2025-03-26", "Authorization": "Bearer one"}
    )
    arguments: Any = field(default_factory=lambda: {"city": "Oslo"})
    meta: Any = None

    def given(self, **headers: str) -> Request:
        return replace(self, headers=self.headers | {n.replace("_", "-"): v for n, v in headers.items()})

    def message(self, method: str = "tools/call", tool: str = "t", arguments: Any = None) -> Any:
        wanted = self.arguments if arguments is None else arguments
        params = {"name": tool, "arguments": wanted} if method == "tools/call" else dict(self.arguments)
        if self.meta is not None:
            params["_meta"] = self.meta
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def post(sidecar: Running, request: Request, message: Any) -> Any:
    body = msgspec.json.encode(message)
    lines = {"Host": "localhost", "Content-Type": "application/json"} | request.headers
    head = f"POST {request.target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items() if v)
    raw = await sidecar.raw(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    top, _, answer = raw.partition(b"\r\n\r\n")
    return msgspec.json.decode(answer) if answer[:1] in (b"{", b"[") else top


class Echo:
    """Answers with what it saw: of the request's line, headers and params, what may decide an answer."""

    def __init__(self, scripted: Scripted) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()
        self.status = b"200 OK"
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        message = heard.message if heard.body else {}
        method = message.get("method")
        if method not in ("tools/call", "prompts/list"):
            error = {"code": -32601, "message": "no"}
            yield json_answer(
                msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "error": error})
            )
            return
        self.calls += 1
        await self.go.wait()
        params = message["params"]
        meta = params.get("_meta") or {}
        seen = {
            "target": heard.line.split()[1].decode(),
            "headers": {n.decode(): heard.headers[n].decode() for n in DECIDING if n in heard.headers},
            "arguments": params.get("arguments", {k: v for k, v in params.items() if k != "_meta"}),
            "capabilities": meta.get("io.modelcontextprotocol/clientCapabilities"),
        }
        result = {"seen": seen, "rows": [seen] * 8, "ttlMs": 60_000, "cacheScope": "private"}
        if method == "tools/call":
            result = {"content": [], "structuredContent": result}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        yield json_answer(body, self.status)


def seen(answer: Any) -> Any:
    """What the server saw of the request that this is the answer to."""
    result = answer["result"]
    result = result.get("structuredContent", result)
    return result["seen"] if "seen" in result else result["rest"]["seen"]


BESIDE = {"clients": GATEWAY["clients"] | {"apiKeys": [{"secretRef": {"name": "gateway"}, "tier": "free"}]}}
OURS = "a key of ours"
"""Which goes no further than the sidecar."""
BASE = Request()
CAPABLE: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}

PAIRS: dict[str, tuple[dict[str, Any], Request, Request]] = {
    "query": ({}, BASE, replace(BASE, target="/mcp?tenant=b")),
    "no query": ({}, BASE, replace(BASE, target="/mcp")),
    "version": ({}, BASE, BASE.given(MCP_Protocol_Version="2025-06-18")),
    "session": ({}, BASE.given(Mcp_Session_Id="s1"), BASE.given(Mcp_Session_Id="s2")),
    "authorization": ({}, BASE, BASE.given(Authorization="Bearer two")),
    "no authorization": ({}, BASE.given(X_User="u"), BASE.given(X_User="u", Authorization="")),
    "cookie": ({}, BASE.given(Cookie="sid=1"), BASE.given(Cookie="sid=2")),
    "X-API-Key of the server's": ({}, BASE.given(X_API_Key="k1"), BASE.given(X_API_Key="k2")),
    "varyOn": ({}, BASE.given(X_User="anna"), BASE.given(X_User="bert")),
    "gateway's client": (GATEWAY, BASE.given(X_Gateway_Client="a"), BASE.given(X_Gateway_Client="b")),
    "gateway's tier": (
        GATEWAY,
        BASE.given(X_Gateway_Client="a", X_Gateway_Plan="free"),
        BASE.given(X_Gateway_Client="a", X_Gateway_Plan="pro"),
    ),
    "gateway's client beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a"),
        BASE.given(X_API_Key=OURS, X_Gateway_Client="b"),
    ),
    "a client beside a key, and none": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a"),
        BASE.given(X_API_Key=OURS),
    ),
    "gateway's client beside a bearer": (
        BESIDE,
        BASE.given(Authorization=f"Bearer {OURS}", X_Gateway_Client="a"),
        BASE.given(Authorization=f"Bearer {OURS}", X_Gateway_Client="b"),
    ),
    "gateway's tier beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a", X_Gateway_Plan="free"),
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a", X_Gateway_Plan="pro"),
    ),
    "a person whom a gateway names": (
        {},
        BASE.given(X_Forwarded_User="anna"),
        BASE.given(X_Forwarded_User="bert"),
    ),
    "a person beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Forwarded_User="anna"),
        BASE.given(X_API_Key=OURS),
    ),
    "arguments": ({}, BASE, replace(BASE, arguments={"city": "Bergen"})),
    "capabilities": ({}, BASE, replace(BASE, meta=CAPABLE)),
    "public host": ({}, BASE, BASE.given(Host="127.0.0.1")),
    "forwarded host": ({}, BASE, BASE.given(X_Forwarded_Host="evil.example")),
    "forwarded scheme": ({}, BASE, BASE.given(X_Forwarded_Proto="https")),
    "forwarded prefix": (
        {},
        BASE.given(X_Forwarded_Prefix="/a"),
        BASE.given(X_Forwarded_Prefix="/b"),
    ),
    "forwarded prefix of a gateway's": (GATEWAY, BASE, BASE.given(X_Forwarded_Prefix="/a")),
    "script name": ({}, BASE, BASE.given(X_Script_Name="/a")),
}
PUBLIC = tuple(n for n in PAIRS if n.split()[0] in ("public", "forwarded", "script"))


def expected(request: Request) -> Any:
    lines = {name.lower().encode(): value for name, value in request.headers.items()}
    lines = {b"x-forwarded-host": lines.get(b"host", "localhost"), b"x-forwarded-proto": "http"} | lines
    return {
        "target": request.target,
        "headers": {n.decode(): lines[n] for n in DECIDING if lines.get(n) and OURS not in lines[n]},
        "arguments": request.arguments,
        "capabilities": (request.meta or {}).get("io.modelcontextprotocol/clientCapabilities"),
    }


def age(sidecar: Running) -> None:
    """Let what is kept be fresh no more."""
    for entry in sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001


async def running(scripted: Scripted, start: Start, more: dict[str, Any], *requests: Request) -> Any:
    """A server, a sidecar before it, and the sessions of these requests known as alive."""
    echo = Echo(scripted)
    sidecar = await start(scripted.port, CONFIG | more)
    for request in requests:
        session = request.headers.get("Mcp-Session-Id")
        if session:
            await post(sidecar, request, request.message(tool="unknown"))
    echo.calls = 0
    return echo, sidecar


def with_a_key(start: Start, folder: Path) -> Start:
    """The same, with a Secret that holds a key."""
    secret = folder / "gateway"
    secret.mkdir()
    (secret / "one").write_text(OURS)
    return functools.partial(start, keys=folder)
