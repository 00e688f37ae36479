"""Hosts and Origins on loopback: no foreign page reads either port, and a laptop's own names can be allowed."""

import msgspec
import pytest
from pydantic import ValidationError
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted

from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.http.head import Names, RequestHead
from mcpace_sidecar.identity.origins import Guard, Origins

PING = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
LAPTOP = {
    "clients": {
        "allowedHosts": ["host.docker.internal", "a.example:8080", "*.tunnel.example"],
        "allowedOrigins": ["vscode-webview://*", "https://app.example", "chrome-extension://abc"],
    }
}


async def status(sidecar: Running, lines: bytes) -> int:
    kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(PING), PING)
    return int((await sidecar.raw(b"POST /mcp HTTP/1.1\r\n%b\r\n%b" % (lines, kind))).split()[1])


async def admin(sidecar: Running, lines: bytes, target: bytes = b"GET /config") -> int:
    answer = await sidecar.raw(target + b" HTTP/1.1\r\n" + lines + b"\r\n\r\n", port=sidecar.admin)
    return int(answer.split()[1])


FOREIGN = [
    b"Host: evil.example",
    b"Host: localhost.evil.example",
    b"Host: localhost:1@evil.example",
    b"Host: localhost\r\nOrigin: http://evil.example",
    b"Host: localhost\r\nOrigin: null",
    b"Host: localhost\r\nOrigin: http://localhost.evil.example",
    b"Host: tunnel.example",
    b"Host: evil-tunnel.example",
    b"Host: a.example:8081",
    b"Host: localhost\r\nOrigin: https://app.example.evil",
    b"Host: localhost\r\nOrigin: chrome-extension://abcd",
    b"Host: localhost\r\nOrigin: vscode-webview:x",
]


@pytest.mark.parametrize("lines", FOREIGN)
async def test_a_foreign_page_reaches_neither_port(scripted: Scripted, start: Start, lines: bytes) -> None:
    sidecar = await start(scripted.port, LAPTOP)
    assert await status(sidecar, lines) in (400, 403)
    for target in (b"GET /config", b"GET /metrics", b"GET /stats", b"POST /purge"):
        assert await admin(sidecar, lines, target) in (400, 403)
    assert not scripted.calls


OWN = [
    b"Host: localhost:18080",
    b"Host: 127.0.0.1",
    b"Host: [::1]:18080",
    b"Host: localhost\r\nOrigin: http://localhost:3000",
    b"Host: HOST.docker.internal:18080",
    b"Host: host.docker.internal",
    b"Host: a.example:8080",
    b"Host: x7.tunnel.example",
    b"Host: localhost\r\nOrigin: vscode-webview://1a2b3c",
    b"Host: localhost\r\nOrigin: https://app.example",
    b"Host: localhost\r\nOrigin: chrome-extension://abc",
]


@pytest.mark.parametrize("lines", OWN)
async def test_local_names_and_those_that_the_manifest_adds_may_call(
    scripted: Scripted, start: Start, lines: bytes
) -> None:
    sidecar = await start(scripted.port, LAPTOP)
    assert await status(sidecar, lines) == 200
    assert await admin(sidecar, lines) == 200


async def test_a_refused_name_is_told_what_to_write(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(b"GET /mcp HTTP/1.1\r\nHost: host.docker.internal\r\n\r\n")
    assert b"clients.allowedHosts" in answer


def head(lines: bytes) -> RequestHead:
    return RequestHead(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n", Names({b"origin"}))


def test_elsewhere_than_on_loopback_any_host_may_call_unless_some_are_written() -> None:
    anywhere = head(b"Host: weather.default.svc")
    assert Guard(Clients()).admits(anywhere, loopback=False)
    assert not Guard(Clients(allowed_hosts=("mcp.example",))).admits(anywhere, loopback=False)
    public = Guard(Clients(allowed_hosts=("mcp.example",)), "https://weather.default.svc/mcp")
    assert public.admits(anywhere, loopback=False)


@pytest.mark.parametrize(
    "origin", ["http://*", "https://*", "HTTPS://*", "*", "a.example", "https://a.example/x", "x:"]
)
def test_an_origin_that_allows_too_much_or_nothing_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Clients.model_validate({"allowedOrigins": [origin]})


@pytest.mark.parametrize("host", ["http://a", "*", "*.", "a/b", "a:b", "a b", ""])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        Clients.model_validate({"allowedHosts": [host]})


def test_an_origin_is_compared_whole_and_in_any_case() -> None:
    origins = Origins(["https://A.example", "vscode-webview://*", "null"])
    assert all(o in origins for o in (b"https://a.EXAMPLE", b"vscode-webview://x", b"null"))
    assert not any(
        o in origins for o in (b"https://a.example:1", b"https://a.example.x", b"vscode-webview", "null")
    )
