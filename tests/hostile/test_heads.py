"""Heads, whoever wrote them: what is judged is what the server reads."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
KEYS = {"apiKeys": [{"tier": "free", "secretRef": {"name": "keys"}}]}


async def answered(sidecar: Running, *lines: bytes, body: bytes = PING) -> tuple[int, bytes]:
    """POST with these header lines; return the status and the whole answer."""
    head = b"".join(line + b"\r\n" for line in (b"Host: localhost", *lines))
    raw = await sidecar.raw(
        b"POST /mcp HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    )
    return int(raw.split()[1]), raw


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=utf-8",
        b"application/json; charset=UTF-8",
        b'application/json ; charset="utf-8"',
        b"application/json;",
    ],
)
async def test_json_in_utf_8_is_taken_however_it_is_written(
    scripted: Scripted, start: Start, content_type: bytes
) -> None:
    sidecar = await start(scripted.port)
    assert (await answered(sidecar, b"Content-Type: " + content_type))[0] == 200


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json; charset=utf-7",
        b"application/json; charset=latin1",
        b"application/json; charset=utf-16le",
        b'application/json; charset="utf-7"',
        b"application/json; charset=utf-8; charset=utf-7",
        b"application/json; a=b; charset=utf-7",
        b"application/json; charset=",
        b"application/json, application/json",
        b"application/json-rpc",
        b"text/plain",
        b"",
    ],
)
async def test_a_body_that_the_server_may_decode_otherwise_is_415(
    scripted: Scripted, start: Start, content_type: bytes
) -> None:
    sidecar = await start(scripted.port)
    hidden = PING.replace(b"ping", b"+AHQ-ools/call")
    status, raw = await answered(sidecar, b"Content-Type: " + content_type, body=hidden)
    assert status == 415
    assert b"\r\nAccept: application/json\r\n" in raw
    assert b"application/json, in UTF-8" in raw
    assert not scripted.calls


@pytest.mark.parametrize("kind", [b"application/json; charset=utf-7", b"application/json; charset=latin1"])
async def test_what_is_posted_to_a_stream_is_judged_so_too(
    scripted: Scripted, start: Start, kind: bytes
) -> None:
    sidecar = await start(scripted.port, {"transport": "sse"})
    head = (
        b"POST /messages?s=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    )
    raw = await sidecar.raw(head % (kind, len(PING)) + PING)
    assert raw.startswith(b"HTTP/1.1 415 ")
    assert not scripted.calls


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"identity, gzip", b"x"])
async def test_an_encoded_body_is_415(scripted: Scripted, start: Start, coding: bytes) -> None:
    sidecar = await start(scripted.port)
    status, raw = await answered(sidecar, b"Content-Type: application/json", b"Content-Encoding: " + coding)
    assert status == 415
    assert b"\r\nAccept-Encoding: identity\r\n" in raw
    plain = (b"Content-Type: application/json", b"Content-Encoding: identity")
    assert (await answered(sidecar, *plain))[0] == 200


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Type: application/json",
        b"Authorization: Bearer a",
        b"X-API-Key: a",
        b"Mcp-Session-Id: a",
        b"MCP-Protocol-Version: 2025-11-25",
        b"Origin: http://localhost",
        b"X-Consumer: anna",
    ],
)
async def test_a_header_that_decides_and_stands_twice_is_400(
    scripted: Scripted, start: Start, line: bytes
) -> None:
    trusting = {"trustedProxies": ["127.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}}
    sidecar = await start(scripted.port, {"clients": trusting})
    more = () if line.startswith(b"Content-Type") else (b"Content-Type: application/json",)
    for _ in range(3):
        assert (await answered(sidecar, line, *more))[0] == 200
        assert (await answered(sidecar, line, line, *more))[0] == 400
        assert (await answered(sidecar, line, line.lower() + b" ", *more))[0] == 400


@pytest.mark.parametrize(
    "name",
    [b"X_Consumer", b"x.consumer", b"X_API_Key", b"Mcp_Session_Id", b"Content_Type", b"X_Forwarded_For"],
)
async def test_a_name_that_servers_fold_into_one_that_decides_is_400(
    scripted: Scripted, start: Start, name: bytes
) -> None:
    config = {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}}
    sidecar = await start(scripted.port, {"clients": config})
    for number in range(12):  # also once such lines would be known to vary
        line = name + b": %d" % number
        assert (await answered(sidecar, b"Content-Type: application/json", line))[0] == 400
    assert (await answered(sidecar, b"Content-Type: application/json", b"mcp_other: 1"))[0] == 200
    assert len(scripted.calls) == 1


@pytest.mark.parametrize(
    "option", [b"mcp-protocol-version", b"Authorization", b"close, x-consumer", b"Host"]
)
async def test_a_connection_option_cannot_take_away_what_decides(
    scripted: Scripted, start: Start, option: bytes
) -> None:
    config = {"trustedProxies": ["127.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}}
    sidecar = await start(scripted.port, {"clients": config})
    lines = (b"Content-Type: application/json", b"MCP-Protocol-Version: 2025-11-25")
    assert (await answered(sidecar, *lines, b"Connection: " + option))[0] == 400
    assert not scripted.calls


async def test_every_credential_of_ours_is_stripped_and_none_of_the_servers(
    scripted: Scripted, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "anna").write_text("ours")
    (tmp_path / "keys" / "bert").write_text("ours too")
    sidecar = await start(scripted.port, {"clients": KEYS}, keys=tmp_path)
    kind = b"Content-Type: application/json"
    assert (await answered(sidecar, kind, b"X-API-Key: ours", b"Authorization: Bearer ours too"))[0] == 200
    assert not {b"x-api-key", b"authorization"} & set(scripted.calls[-1].headers)
    assert (await answered(sidecar, kind, b"X-API-Key: ours", b"Authorization: Bearer theirs"))[0] == 200
    assert scripted.calls[-1].headers[b"authorization"] == b"Bearer theirs"
    forwarding = await start(scripted.port, {"clients": KEYS | {"forwardCredential": True}}, keys=tmp_path)
    assert (await answered(forwarding, kind, b"X-API-Key: ours", b"Authorization: Bearer ours too"))[
        0
    ] == 200
    assert {b"x-api-key", b"authorization"} <= set(scripted.calls[-1].headers)


async def test_an_api_key_is_the_servers_own_where_none_are_configured(
    scripted: Scripted, start: Start, tmp_path: Path
) -> None:
    kind = b"Content-Type: application/json"
    bare = await start(scripted.port)
    assert (await answered(bare, kind, b"X-API-Key: theirs"))[0] == 200
    assert scripted.calls[-1].headers[b"x-api-key"] == b"theirs"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "anna").write_text("ours")
    config = {"clients": KEYS | {"apiKeyHeader": "X-Gate-Key"}}
    sidecar = await start(scripted.port, config, keys=tmp_path)
    assert (await answered(sidecar, kind, b"X-API-Key: theirs", b"X-Gate-Key: ours"))[0] == 200
    assert scripted.calls[-1].headers[b"x-api-key"] == b"theirs"
    assert b"x-gate-key" not in scripted.calls[-1].headers
    status, raw = await answered(sidecar, kind, b"X-Gate-Key: unknown")
    assert (status, b"The X-Gate-Key is not known" in raw) == (401, True)


async def test_lines_that_vary_reach_the_server_with_a_call_its_parts_and_its_refreshes(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda heard: json_answer(
        msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message.get("id"), "result": {"content": []}})
    )
    cached = {"name": "t", "ttl": "1m", "staleWhileRevalidate": "1h", "scope": "shared"}
    sidecar = await start(
        scripted.port, {"concurrency": {"parallelTool": True}, "cache": {"tools": [cached]}}
    )
    kind = b"Content-Type: application/json"

    async def send(
        number: int, method: str, *, tool: str, arguments: object = None, batch: bool = False
    ) -> None:
        params = {"name": tool, "arguments": arguments or {}}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        body = msgspec.json.encode([message, message] if batch else message)
        lines = (b"X-Request-Id: %d" % number, b"Mcp-Param-City: Paris%d" % number)
        assert (await answered(sidecar, kind, *lines, body=body))[0] == 200

    for number in range(12):
        await send(number, "tools/call", tool="u")
        headers = scripted.calls[-1].headers
        assert headers[b"x-request-id"] == b"%d" % number
        assert headers[b"mcp-param-city"] == b"Paris%d" % number
    await send(50, "tools/call", tool="u", batch=True)
    assert [call.headers[b"x-request-id"] for call in scripted.calls[-2:]] == [b"50", b"50"]
    await send(51, "tools/call", tool="parallel", arguments={"calls": [{"tool": "u"}, {"tool": "v"}]})
    for call in scripted.calls[-2:]:
        assert call.headers[b"x-request-id"] == b"51"
        assert b"mcp-param-city" not in call.headers, "it mirrors another call's argument"
    await send(60, "tools/call", tool="t")
    before = len(scripted.calls)
    for entry in sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001
    await send(61, "tools/call", tool="t")
    await until(lambda: len(scripted.calls) > before, "the refresh")
    assert scripted.calls[-1].headers[b"x-request-id"] == b"61"


async def test_a_header_that_starts_to_decide_is_read_from_the_next_call_on(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda heard: json_answer(
        b'{"jsonrpc":"2.0","id":1,"result":{"user":"%b"}}' % heard.headers.get(b"x-user", b"")
    )
    config: dict[str, object] = {"cache": {"tools": [{"name": "t", "ttl": "1h", "scope": "client"}]}}
    sidecar = await start(scripted.port, config)
    for number in range(12):
        assert (await sidecar.call("t", X_User=f"{number}"))[0] == 200
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}'
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.write(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-User: half\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body[:10])
    )
    await until(lambda: sidecar.connections._gathering, "half of the body")
    config["cache"] = {"varyOn": ["X-User"], "tools": [{"name": "t", "ttl": "1h", "scope": "client"}]}
    sidecar.reload()
    writer.write(body[10:])
    assert b'{"user":"half"}' in await reader.readuntil(b'"}}')
    writer.close()
    for user in ("half", "a", "b", "a"):
        _, _, answer = await sidecar.call("t", X_User=user)
        assert answer["result"] == {"user": user}


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "X-Consumer"])
async def test_a_header_of_the_way_may_tell_users_apart_too(
    scripted: Scripted, start: Start, name: str
) -> None:
    scripted.answer = lambda _: json_answer(
        b'{"jsonrpc":"2.0","id":1,"result":{"n":%d}}' % len(scripted.calls)
    )
    config = {
        "clients": {"trustedProxies": ["127.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}},
        "cache": {"varyOn": [name], "tools": [{"name": "t", "ttl": "1h", "scope": "client"}]},
    }
    sidecar = await start(scripted.port, config)
    key, users = name.replace("-", "_"), ("192.0.2.1", "192.0.2.2", "192.0.2.1")
    seen = [(await sidecar.call("t", **{key: user}))[2]["result"]["n"] for user in users]
    assert seen[0] == seen[2] != seen[1]
    last = scripted.calls[-1].headers[name.lower().encode()]
    assert last.startswith(b"192.0.2.2")


@pytest.mark.parametrize("path", ["/mcp", "/files", "/.well-known/x", "/else"])
@pytest.mark.parametrize(
    "verb", ["GET", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", "HEAD", "TRACE", "PROPFIND"]
)
async def test_every_header_that_is_asked_for_is_held(
    scripted: Scripted, start: Start, verb: str, path: str
) -> None:
    scripted.answer = lambda _: json_answer(b"{}")
    everything = {
        "passPaths": ["/files"],
        "clients": {"allowedOrigins": ["https://app.example"], "forwardCredential": True},
        "cache": {"varyOn": ["X-User"], "tools": [{"name": "t", "ttl": "1h"}]},
        "rateLimits": {},
    }
    sidecar = await start(scripted.port, everything)
    head = f"{verb} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\nContent-Length: 2\r\n\r\n{{}}"
    answer = await sidecar.raw(head.encode())
    assert 200 <= int(answer.split()[1]) < 500
    assert not [name for name in await sidecar.metrics() if name.startswith("mcpace_internal_errors")]
