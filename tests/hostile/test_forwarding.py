"""What the server is told of the way here, and what of that decides: nothing that a stranger wrote."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer

from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.identity.callers import Identities, address_of

TOLD = (
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"forwarded", b"x-real-ip",
    b"host",
)  # fmt: skip
SPOOFED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Port": "1",
    "Forwarded": "for=6.6.6.6",
    "X-Real-IP": "6.6.6.6",
}


def echo(heard: Heard) -> bytes:
    message = heard.message
    seen = {name.decode(): heard.headers[name].decode() for name in TOLD if name in heard.headers}
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": seen}))


async def told(sidecar: Running, **headers: str) -> dict[str, str]:
    _, _, body = await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, **headers)
    return dict(body["result"])


def spoofed() -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in SPOOFED.items()}


async def test_without_trusted_proxies_headers_pass_and_the_peer_is_appended(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port)
    own = f"127.0.0.1:{scripted.port}"
    assert await told(sidecar, Host="localhost:18080") == {
        "host": own,
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "localhost:18080",
        "x-forwarded-proto": "http",
    }
    assert await told(sidecar, **spoofed()) == {
        "host": own,
        "x-forwarded-for": "6.6.6.6, 127.0.0.1",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "gopher",
        "x-forwarded-port": "1",
        "forwarded": "for=6.6.6.6",
        "x-real-ip": "6.6.6.6",
    }


async def test_where_proxies_are_trusted_what_others_write_is_replaced(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, {"clients": {"trustedProxies": ["10.0.0.0/8"]}})
    for _ in range(12):  # until its lines are known to vary
        assert await told(sidecar, **spoofed(), X_Request_Id="1") == {
            "host": f"127.0.0.1:{scripted.port}",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-host": "localhost",
            "x-forwarded-proto": "http",
        }


async def test_a_trusted_proxy_is_believed_as_far_as_the_nearest_stranger(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, {"clients": {"trustedProxies": ["127.0.0.0/8", "10.0.0.0/8"]}})
    seen = await told(sidecar, **spoofed() | {"X_Forwarded_For": "6.6.6.6, [2001:db8::1]:40001, 10.1.2.3"})
    assert seen["x-forwarded-for"] == "2001:db8::1, 10.1.2.3, 127.0.0.1"
    assert (seen["x-forwarded-host"], seen["x-real-ip"]) == ("evil.example", "6.6.6.6")


async def test_the_server_learns_the_public_url_from_the_manifest(scripted: Scripted, start: Start) -> None:
    scripted.answer = echo
    config = {"publicURL": "https://mcp.example/mcp", "clients": {"trustedProxies": ["10.0.0.0/8"]}}
    seen = await told(await start(scripted.port, config), **spoofed())
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == ("https", "mcp.example")


async def test_the_clients_host_is_preserved_where_the_manifest_says_so(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, {"upstream": {"host": "preserve"}})
    seen = await told(sidecar, Host="localhost:18080")
    assert (seen["host"], seen["x-forwarded-host"]) == ("localhost:18080", "localhost:18080")


@pytest.mark.parametrize("status", [b"307 Temporary Redirect", b"201 Created"])
async def test_a_redirect_to_the_servers_own_address_leads_to_the_same_path_here(
    scripted: Scripted, start: Start, status: bytes
) -> None:
    where = b"http://127.0.0.1:%d" % scripted.port
    scripted.answer = lambda _: (
        b"HTTP/1.1 %b\r\nLocation: %b/mcp/\r\nX-Location: %b/\r\nContent-Length: 0\r\n\r\n"
        % (status, where, where)
    )
    sidecar = await start(scripted.port)
    _, headers, _ = await sidecar.call("t")
    assert (headers["location"], headers["x-location"]) == ("/mcp/", where.decode() + "/")
    scripted.answer = lambda _: (
        b"HTTP/1.1 %b\r\nLocation: https://id.example/\r\nContent-Length: 0\r\n\r\n" % status
    )
    assert (await sidecar.call("t"))[1]["location"] == "https://id.example/"


LIMITED = {
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1}]},
    "clients": {"trustedProxies": ["127.0.0.0/8"]},
}


async def test_a_client_is_the_same_whatever_its_port_is(scripted: Scripted, start: Start) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, LIMITED)
    ways = (
        "[2001:db8::1]:40001", "[2001:db8::1]:40002", "[2001:db8::2]", '"[2001:db8::1]:9"', "2001:db8::1%eth0",
        "[2001:db8::1%25eth0]:1", "2001:DB8:0:0:1::",
    )  # fmt: skip
    answers = [(await sidecar.call("t", X_Forwarded_For=way))[2] for way in ways]
    assert ["result" in body for body in answers] == [True] + [False] * (len(ways) - 1)
    ways = ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:7")
    answers = [(await sidecar.call("t", X_Forwarded_For=way))[2] for way in ways]
    assert ["result" in body for body in answers] == [True] + [False] * (len(ways) - 1)


async def test_what_is_no_address_makes_no_new_client(scripted: Scripted, start: Start) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, LIMITED)
    ways = (
        "unknown",
        "_hidden",
        "1.2.3",
        "[::1",
        "[::1]x",
        "1.1.1.1:x",
        "a" * 300,
        "::1::",
        "%",
        "1.1.1.1:٣",
    )
    answers = [(await sidecar.call("t", X_Forwarded_For=way))[2] for way in ways]
    assert ["result" in body for body in answers] == [True] + [False] * (len(ways) - 1)


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:80 ", "192.0.2.1"),
        ('"192.0.2.1:80"', "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:40001", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", None),
        ("unknown", None),
        ("[]", None),
        ("[192.0.2.1", None),
        ("[2001:db8::1]40001", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:http", None),
        ("192.0.2.01", None),
        ("192.0.2.1, 192.0.2.2", None),
        ("1" * 5000, None),
    ],
)
def test_a_hop_is_read_however_it_is_written(hop: str, address: str | None) -> None:
    read = address_of(hop)
    assert (str(read) if read is not None else None) == address


@given(text=st.text(max_size=80))
def test_no_hop_is_too_odd_to_be_read(text: str) -> None:
    read = address_of(text)
    assert read is None or isinstance(read, ipaddress.IPv4Address | ipaddress.IPv6Address)


def lines(via: Any) -> Iterator[tuple[bytes, bytes]]:
    for line in via.lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        yield name, value


@given(
    peer=st.sampled_from(["10.0.0.1", "192.0.2.7", "2001:db8::7", ""]),
    apart=st.tuples(
        *[st.sampled_from([b"", b"6.6.6.6", b"6.6.6.6, 10.0.0.9", b"a\nb", b"x" * 900])] * 3,
        st.sampled_from([b"", b"anna", b"anna\nbert", b"a" * 300]),
        st.sampled_from([b"", b"pro"]),
    ),
)
def test_a_stranger_names_nobody_and_no_line_breaks_out(peer: str, apart: tuple[bytes, ...]) -> None:
    config = {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": "X-Who", "tier": "X-Tier"}}
    via = Identities(Clients.model_validate(config), {}).via(peer, apart)
    assert b"\n" not in via.lines.replace(b"\r\n", b"")
    said = dict(lines(via))
    if peer.startswith("10."):
        assert bool(via.refusal) == (apart[3] in (b"anna\nbert", b"a" * 300))
    else:
        assert said == {b"X-Forwarded-For": (peer or "unknown").encode()}
        assert via.caller.client is not None
        assert via.caller.client.name.startswith(("addr:", "unknown"))


async def test_a_guard_of_the_official_sdk_accepts_what_comes_through_and_not_what_is_preserved(
    weather: int, start: Start
) -> None:
    initialize = {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"},
    }  # fmt: skip
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize}
    headers = {"Host": "mcp.example", "Accept": "application/json, text/event-stream"}
    through = await start(weather, listen="0.0.0.0")
    assert (await through.post(message, **headers))[0] == 200
    preserved = await start(weather, {"upstream": {"host": "preserve"}}, listen="0.0.0.0")
    assert (await preserved.post(message, **headers))[0] == 421, "a server that was told no other name"
    for sidecar in (through, preserved):
        await sidecar.ready()


async def test_a_server_that_answers_its_public_name_alone_is_ready_and_reached(
    scripted: Scripted, start: Start
) -> None:
    refused = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n"
    scripted.answer = lambda heard: echo(heard) if heard.headers[b"host"] == b"mcp.example" else refused
    config = {"upstream": {"host": "preserve"}, "clients": {"allowedHosts": ["mcp.example"]}}
    sidecar = await start(scripted.port, config)
    await sidecar.ready()
    assert (await told(sidecar, Host="mcp.example"))["host"] == "mcp.example"
