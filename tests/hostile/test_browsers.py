"""Pages of other origins: those that the manifest allows can read every answer, no other can read any."""

from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer

PAGE = "https://app.example"
CONFIG = {
    "clients": {"allowedOrigins": [PAGE]},
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "tools": [{"name": "scarce", "requestsPerMinute": 1}],
    },
    "cache": {"tools": [{"name": "kept", "ttl": "10m", "scope": "shared"}]},
}
OWN_WORD = b"Access-Control-Allow-Origin: *\r\n"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, mcp-protocol-version, x-own",
}


def talkative(heard: Heard) -> bytes:
    """A server with a word of its own on origins, which streams where it is asked to."""
    if heard.line.startswith(b"OPTIONS"):
        return b"HTTP/1.1 204 No Content\r\nX-Server: 1\r\n%b\r\n" % OWN_WORD
    message = heard.message
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": {"content": []}})
    if message.get("params", {}).get("name") == "streams":
        event = b"data: %b\n\n" % body
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%bTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (OWN_WORD, len(event), event)
        )
    return json_answer(body, extra=OWN_WORD)


async def send(
    sidecar: Running, method: str, headers: dict[str, str], body: bytes = b"", path: str = "/mcp"
) -> tuple[int, list[tuple[str, str]]]:
    """Send a request; return the status and all header lines."""
    lines = {"Host": "localhost", **headers, "Content-Length": str(len(body))}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items())
    raw = await sidecar.raw(head.encode() + b"\r\n" + body)
    status, *fields = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    pairs = [(n.lower(), v.strip()) for n, _, v in (field.partition(":") for field in fields)]
    return int(status.split()[1]), pairs


def said(fields: list[tuple[str, str]], name: str) -> list[str]:
    return [value for field, value in fields if field == name]


def a_call(tool: str) -> bytes:
    params = {"name": tool, "arguments": {}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


JSON = {"Content-Type": "application/json"}
ANSWERS: dict[str, tuple[int, str, dict[str, str], bytes, str]] = {
    "passed": (200, "POST", JSON, a_call("plain"), "/mcp"),
    "streamed": (200, "POST", JSON, a_call("streams"), "/mcp"),
    "a hit": (200, "POST", JSON, a_call("kept"), "/mcp"),
    "refused by a limit": (200, "POST", JSON, a_call("scarce"), "/mcp"),
    "a batch": (200, "POST", JSON, b"[%b,%b]" % (a_call("plain"), a_call("kept")), "/mcp"),
    "no JSON": (400, "POST", JSON, b"{", "/mcp"),
    "no content type": (415, "POST", {}, a_call("plain"), "/mcp"),
    "no such path": (404, "GET", {}, b"", "/other"),
    "no such method": (405, "PUT", {}, b"", "/mcp"),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_allowed_page_reads_every_answer(scripted: Scripted, start: Start, what: str) -> None:
    scripted.answer = talkative
    sidecar = await start(scripted.port, CONFIG)
    status, method, headers, body, path = ANSWERS[what]
    for _ in range(2):  # the second is the hit, and the refusal
        got, fields = await send(sidecar, method, headers | {"Origin": PAGE}, body, path)
    assert got == status
    assert said(fields, "access-control-allow-origin") == [PAGE], "once, whatever the server says"
    exposed = ", ".join(said(fields, "access-control-expose-headers")).lower()
    assert "mcp-session-id" in exposed
    assert "retry-after" in exposed
    assert "Origin" in said(fields, "vary")


async def test_a_kept_connection_keeps_no_grant_of_the_request_before(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = talkative
    sidecar = await start(scripted.port, CONFIG)
    body = a_call("kept")
    head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n"
    first = head.format(f"Origin: {PAGE}\r\n", len(body)).encode() + b"\r\n" + body
    second = head.format("Connection: close\r\n", len(body)).encode() + b"\r\n" + body
    raw = await sidecar.raw(first + second, end=False)
    assert raw.count(b"HTTP/1.1 200") == 2
    assert raw.count(PAGE.encode()) == 1


async def test_a_preflight_of_an_allowed_page_costs_the_server_nothing(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = talkative
    sidecar = await start(scripted.port, CONFIG | {"passPaths": ["/files"]})
    for path in ("/mcp", "/files", "/.well-known/oauth-protected-resource"):
        status, fields = await send(sidecar, "OPTIONS", PREFLIGHT | {"Origin": PAGE}, path=path)
        assert status == 204, path
        assert said(fields, "access-control-allow-origin") == [PAGE]
        assert "POST" in said(fields, "access-control-allow-methods")[0]
        assert said(fields, "access-control-allow-headers") == [PREFLIGHT["Access-Control-Request-Headers"]]
    assert not scripted.calls


async def test_other_pages_read_nothing(scripted: Scripted, start: Start) -> None:
    scripted.answer = talkative
    sidecar = await start(scripted.port, CONFIG)
    for method, more in (("POST", JSON), ("OPTIONS", PREFLIGHT), ("GET", {})):
        for origin in ("https://evil.example", "null", f"{PAGE}.evil.example"):
            status, fields = await send(sidecar, method, more | {"Origin": origin}, a_call("kept"))
            assert status == 403, (method, origin)
            assert not said(fields, "access-control-allow-origin")
    assert not scripted.calls


async def test_where_no_origin_is_allowed_options_and_headers_are_the_servers(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = talkative
    sidecar = await start(scripted.port, {})
    origin = {"Origin": "http://localhost:6274"}
    status, fields = await send(sidecar, "OPTIONS", PREFLIGHT | origin)
    assert (status, said(fields, "x-server")) == (204, ["1"])
    status, fields = await send(sidecar, "POST", JSON | origin, a_call("plain"))
    assert said(fields, "access-control-allow-origin") == ["*"]
    assert not said(fields, "access-control-expose-headers")


async def test_what_a_preflight_asks_for_cannot_write_into_the_answer(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    asked: dict[str, Any] = PREFLIGHT | {"Access-Control-Request-Headers": 'x", <b>: 1', "Origin": PAGE}
    status, fields = await send(sidecar, "OPTIONS", asked)
    assert status == 204
    assert not said(fields, "access-control-allow-headers")
