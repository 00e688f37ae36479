"""The path of a call on the wire: what passes, what is judged, what is refused, how it ends."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.kit.calls import ANSWER, PING, tier
from tests.kit.sidecars import Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE, until


async def test_what_is_not_touched_passes_byte_for_byte(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    body = b'{ "jsonrpc":"2.0" , "id": "\\u00e9", "method":"x/unheard-of", "params":{"a":1.50} }'
    scripted.answer = lambda _: json_answer(
        b'{"odd" :  1}', b"299 Fine By Me", b"X-Custom:  kept \r\nmcp-session-id: s1\r\n"
    )
    answer = await sidecar.raw(
        b"POST /mcp?q=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Mcp-Session-Id: s1\r\nMcp-Param-X: =?base64?w6k=?=\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    heard = scripted.calls[-1]
    assert heard.body == body
    assert heard.line == b"POST /mcp?q=1 HTTP/1.1"
    assert heard.headers[b"mcp-param-x"] == b"=?base64?w6k=?="
    assert heard.headers[b"host"] == b"127.0.0.1:%d" % scripted.port
    assert b"connection" not in heard.headers
    assert answer.startswith(
        b"HTTP/1.1 299 Fine By Me\r\nContent-Type: application/json\r\nX-Custom:  kept \r\n"
    )
    assert answer.endswith(b'\r\n\r\n{"odd" :  1}')


async def test_get_delete_notifications_and_posted_responses_pass_and_are_never_limited(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, tier(1))
    scripted.answer = lambda h: (
        json_answer(b"", b"202 Accepted") if h.line.startswith(b"POST") else json_answer(b"")
    )
    for _ in range(5):
        for message in (
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 3, "result": {}},
            {"jsonrpc": "2.0", "id": 3, "method": "server/discover"},
            {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {}},
        ):
            status, _, _ = await sidecar.post(message)
            assert status == 202
        for verb in (b"GET", b"DELETE"):
            answer = await sidecar.raw(
                verb + b" /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: s\r\n\r\n"
            )
            assert answer.startswith(b"HTTP/1.1 200")
            assert scripted.calls[-1].headers[b"mcp-session-id"] == b"s"


async def test_the_call_over_the_limit_is_refused_as_a_json_rpc_error_with_its_retry_time(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, tier(2))
    scripted.answer = lambda _: json_answer(ANSWER)
    for _ in range(2):
        assert "result" in (await sidecar.call("t"))[2]
    heard = len(scripted.calls)
    status, headers, body = await sidecar.post(
        {"jsonrpc": "2.0", "id": "my-id", "method": "tools/call", "params": {"name": "t"}}
    )
    assert (status, body["id"], body["error"]["code"]) == (200, "my-id", 42900)
    retry = body["error"]["data"]["retryAfterMs"]
    assert 0 < retry <= 30_000
    assert int(headers["retry-after"]) == -(-retry // 1000)
    assert len(scripted.calls) == heard, "a refused call must not reach the server"
    samples = await sidecar.metrics()
    assert samples['mcpace_limited_calls_total{limit="minute",tier="free"}'] == 1
    assert samples['mcp_tool_calls_total{status="limited",tool="other"}'] == 1


async def test_prompts_and_resources_are_counted_too(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, tier(2))
    scripted.answer = lambda _: json_answer(ANSWER)
    for method, params in (("prompts/get", {"name": "p"}), ("resources/read", {"uri": "a://b"})):
        await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert (await sidecar.call("t"))[2]["error"]["code"] == 42900


async def test_a_compressed_stream_passes_and_counts_as_answered(scripted: Scripted, start: Start):
    sidecar = await start(scripted.port)
    body = gzip.compress(b"data: " + ANSWER + b"\n\n")
    encoded = SSE.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    scripted.answer = lambda _: encoded + chunk(body) + b"0\r\n\r\n"
    _, headers, answer = await sidecar.call("t")
    assert headers["content-encoding"] == "gzip"
    assert body in answer
    assert (await sidecar.metrics())['mcp_tool_calls_total{status="success",tool="other"}'] == 1


async def test_a_large_answer_passes_whole_with_its_length(scripted: Scripted, start: Start):
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    result = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % (
        b"x" * 3_000_000
    )
    scripted.answer = lambda _: json_answer(result)
    for _ in range(2):
        status, headers, body = await sidecar.call("t")
        assert (status, int(headers["content-length"])) == (200, len(result))
        assert len(body["result"]["content"][0]["text"]) == 3_000_000
    assert len(scripted.calls) == 1, "it is kept too"


async def test_an_answer_too_long_to_be_held_passes_as_soon_as_it_is_known_whose_it_is(
    scripted: Scripted, start: Start
):
    sidecar = await start(scripted.port)
    whole = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % (
        b"x" * 3_000_000
    )
    answer = json_answer(whole)
    read = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield answer[:200_000]  # less than is held of others
        await read.wait()
        yield answer[200_000:]

    scripted.answer = lambda _: pieces()
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        begun = await reader.readexactly(60_000)
        read.set()
        rest = await reader.readexactly(len(whole) - len(begun))
    assert b"200 OK" in head
    assert begun + rest == whole
    writer.close()


@pytest.mark.parametrize(
    "target", [b"//mcp", b"/mcp/", b"/%6dcp", b"/mcp;x", b"/MCP", b"/", b"/mcp/../mcp", b"/admin"]
)
async def test_every_other_spelling_of_the_path_is_not_found(
    scripted: Scripted, start: Start, target: bytes
) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"The MCP endpoint is /mcp; other paths must be in passPaths." in answer
    assert not scripted.calls


async def test_passed_paths_well_known_and_options_reach_the_server(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, {"passPaths": ["/upload"], "clients": {"anonymous": "deny"}})
    scripted.answer = lambda _: json_answer(b"{}")
    for line, status in (
        (b"GET /.well-known/oauth-protected-resource HTTP/1.1", b"200"),
        (b"OPTIONS /mcp HTTP/1.1", b"200"),
        (b"PUT /upload HTTP/1.1", b"401"),
        (b"GET /.well-known/../mcp HTTP/1.1", b"404"),
    ):
        answer = await sidecar.raw(line + b"\r\nHost: localhost\r\n\r\n")
        assert answer.split()[1] == status, line


async def test_a_key_of_ours_is_known_hidden_from_the_server_and_a_wrong_one_is_refused(
    scripted: Scripted, start: Start, tmp_path
) -> None:
    (tmp_path / "weather-pro").mkdir()
    (tmp_path / "weather-pro" / "anna").write_text("s3cret\n")
    config = {
        "rateLimits": {
            "tiers": [{"name": "free", "requestsPerMinute": 1}, {"name": "pro", "requestsPerMinute": 5}]
        },
        "clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "weather-pro"}}]},
    }
    sidecar = await start(scripted.port, config, keys=tmp_path)
    scripted.answer = lambda _: json_answer(ANSWER)
    for headers in ({"X_API_Key": "s3cret"}, {"Authorization": "Bearer s3cret"}) * 2:
        assert "result" in (await sidecar.call("t", **headers))[2]
        assert b"s3cret" not in b"".join(scripted.calls[-1].headers.values())
    status, headers, body = await sidecar.call("t", X_API_Key="wrong")
    assert (status, body["error"]["code"]) == (401, 40100)
    assert headers["www-authenticate"].startswith("Bearer")
    assert "result" in (await sidecar.call("t", Authorization="Bearer the-servers-own"))[2]
    assert scripted.calls[-1].headers[b"authorization"] == b"Bearer the-servers-own"
    assert (await sidecar.call("t"))[2]["error"]["data"]["tier"] == "free"


async def test_denied_anonymous_calls_get_401_and_reach_nothing(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, {"clients": {"anonymous": "deny"}})
    status, _, _ = await sidecar.call("t")
    assert status == 401
    assert not scripted.calls


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Host: evil.example", 403),
        (b"Host: localhost\r\nOrigin: http://evil.example", 403),
        (b"Host: localhost\r\nOrigin: null", 403),
        (b"Host: 127.0.0.1:99\r\nOrigin: http://localhost:3000", 200),
        (b"Host: localhost\r\nOrigin: https://app.example", 200),
    ],
)
async def test_on_loopback_only_local_hosts_and_allowed_origins_may_call(
    scripted: Scripted, start: Start, lines: bytes, status: int
) -> None:
    sidecar = await start(scripted.port, {"clients": {"allowedOrigins": ["https://app.example"]}})
    body = msgspec.json.encode(PING)
    answer = await sidecar.raw(
        b"POST /mcp HTTP/1.1\r\n%b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (lines, len(body), body)
    )
    assert int(answer.split()[1]) == status


async def test_events_arrive_as_they_are_sent(scripted: Scripted, start: Start) -> None:
    go_on = asyncio.Event()

    async def events(_: Heard):
        yield SSE + chunk(b"data: one\n\n")
        await go_on.wait()
        yield chunk(b"data: two\n\n") + b"0\r\n\r\n"

    scripted.answer = events
    sidecar = await start(scripted.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"data: one\n\n\r\n")
        go_on.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
    assert rest == chunk(b"data: two\n\n") + b"0\r\n\r\n"
    writer.close()


@pytest.mark.parametrize(
    ("message", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, -32700),
        (b"[]", "application/json", 400, -32600),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call"}', "application/json", 400, -32602),
        (msgspec.json.encode(PING), "text/plain", 415, 41500),
        (msgspec.json.encode(PING), "", 415, 41500),
        (b"x" * 2000, "application/json", 413, -32600),
    ],
)
async def test_a_bad_body_gets_a_clear_error_and_disturbs_nothing(
    scripted: Scripted, start: Start, message: bytes, content_type: str, status: int, code: int
) -> None:
    sidecar = await start(scripted.port, {"maxRequestBytes": 1000})
    answered, _, body = await sidecar.post(message, Content_Type=content_type)
    assert (answered, body["error"]["code"]) == (status, code)
    assert body["error"]["message"]
    assert not scripted.calls
    samples = await sidecar.metrics()
    assert sum(v for n, v in samples.items() if n.startswith("mcpace_bad_requests_total")) == 1
    assert (await sidecar.post(PING))[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
        b"POST /mcp HTTP/1.1\nHost: localhost\n\n",
        b"GARBAGE\r\n\r\n",
    ],
)
async def test_an_ambiguous_request_is_refused_and_its_connection_ended(
    scripted: Scripted, start: Start, raw: bytes
) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(
        raw + b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", end=False
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"\r\n\r\n") == 1, "what follows must not be taken for a request"
    assert b"Connection: close" in answer
    assert not scripted.calls


async def test_a_chunked_request_reaches_the_server_whole_with_a_length(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    body = msgspec.json.encode(PING)
    await sidecar.raw(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(body[:10]) + chunk(body[10:]) + b"0\r\n\r\n"
    )  # fmt: skip
    assert scripted.calls[-1].body == body
    assert scripted.calls[-1].headers[b"content-length"] == b"%d" % len(body)


async def test_pipelined_requests_are_answered_in_order(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda h: json_answer(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % h.message["id"])
    sidecar = await start(scripted.port)
    raw = b""
    for number in range(5):
        body = msgspec.json.encode(PING | {"id": number})
        close = b"Connection: close\r\n" if number == 4 else b""
        raw += b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
            close, len(body), body,
        )  # fmt: skip
    answer = await sidecar.raw(raw, end=False)
    assert re.findall(rb'"id":(\d)', answer) == [b"0", b"1", b"2", b"3", b"4"]


async def test_expect_continue_is_answered_here(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    body = msgspec.json.encode(PING)
    writer.write(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    async with asyncio.timeout(DEADLINE):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert b"expect" not in scripted.calls[-1].headers
    writer.close()


async def test_connections_to_the_server_are_kept(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    for _ in range(10):
        await sidecar.post(PING)
    assert scripted.connections <= 2  # one for calls, one for the handshake


async def test_no_more_connections_than_allowed_and_the_rest_wait_their_turn(
    scripted: Scripted, start: Start
) -> None:
    release = asyncio.Event()

    async def held(_: Heard):
        await release.wait()
        yield json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    sidecar = await start(scripted.port, {"upstream": {"maxConnections": 2}})
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = held
    calls = [asyncio.ensure_future(sidecar.post(PING)) for _ in range(6)]
    await sidecar.busy(6)
    release.set()
    assert [status for status, _, _ in await asyncio.gather(*calls)] == [200] * 6
    assert scripted.connections <= 4  # two, and two for what the handshake opened before
