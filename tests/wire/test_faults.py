"""What clients see when the server, the client or the network fails: an error of the call, never a hang."""

import asyncio
import contextlib

from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE, until

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_a_server_that_is_down_is_an_error_of_the_call_and_up_again_is_not(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, {"upstream": {"connectTimeout": "1s"}})
    await scripted.stop()
    status, _, body = await sidecar.post(PING)
    assert (status, body["id"], body["error"]["code"]) == (200, 1, 50200)
    assert "does not accept connections" in body["error"]["message"]
    assert (await sidecar.metrics())['mcpace_upstream_errors_total{reason="connect"}'] >= 1
    await scripted.start()
    assert "result" in (await sidecar.post(PING))[2]


async def test_a_server_that_is_slow_is_given_up_with_an_error_of_the_call(
    scripted: Scripted, start: Start
) -> None:
    async def silence(_: Heard):
        await asyncio.Event().wait()
        yield b""

    sidecar = await start(scripted.port, {"upstream": {"timeout": "500ms"}})
    scripted.answer = silence
    status, _, body = await sidecar.post(PING)
    assert (status, body["error"]["code"]) == (200, 50400)
    assert "within 0.5 s" in body["error"]["message"]


async def test_a_server_that_dies_before_its_answer_is_an_error_of_the_call(
    scripted: Scripted, start: Start
) -> None:
    def die(heard: Heard) -> bytes:
        heard.writer.close()
        return b""

    sidecar = await start(scripted.port)
    scripted.answer = die
    status, _, body = await sidecar.call("t")
    assert (status, body["error"]["code"]) == (200, 50200)


async def test_a_server_that_dies_in_its_answer_cuts_the_connection(
    scripted: Scripted, start: Start
) -> None:
    async def half(heard: Heard):
        yield SSE + chunk(b"data: half")
        heard.writer.transport.abort()

    sidecar = await start(scripted.port)
    scripted.answer = half
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await sidecar.raw(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not answer.endswith(b"0\r\n\r\n"), "half an answer must not look whole"
    await sidecar.idle()
    assert (await sidecar.metrics())['mcpace_upstream_errors_total{reason="truncated"}'] == 1


async def test_a_half_written_json_answer_is_an_error_of_the_call(scripted: Scripted, start: Start) -> None:
    def half(heard: Heard) -> bytes:
        heard.writer.write(json_answer(RESULT)[:-10])
        heard.writer.close()
        return b""

    sidecar = await start(scripted.port)
    scripted.answer = half
    status, _, body = await sidecar.call("t")
    assert (status, body["error"]["code"]) == (200, 50200)
    assert "broke off" in body["error"]["message"]


async def test_a_malformed_answer_is_an_error_of_the_call(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    scripted.answer = lambda _: b"SSH-2.0-OpenSSH\r\n\r\n"
    status, _, body = await sidecar.post(PING)
    assert (status, body["error"]["code"]) == (200, 50200)


async def test_a_reader_that_stops_stops_the_server_too(scripted: Scripted, start: Start) -> None:
    sent = 0

    async def flood(_: Heard):
        nonlocal sent
        yield SSE
        block = chunk(b"x" * 65536)
        while True:
            sent += len(block)
            yield block

    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = flood
    _reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data, limit=1024)
    writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
    previous = -1

    async def stalled() -> bool:
        nonlocal previous
        before, previous = previous, sent
        await asyncio.sleep(0.2)
        return before == sent > 0

    await until(stalled, "the flood to stall")
    exchange = next(iter(sidecar.in_flight))
    held = exchange.downstream._transport.get_write_buffer_size()
    assert held < 1_000_000, f"{held} bytes are held in memory for a client that does not read"
    writer.transport.abort()


async def test_a_client_that_leaves_ends_the_call_at_the_server(scripted: Scripted, start: Start) -> None:
    left = asyncio.Event()

    async def forever(heard: Heard):
        yield SSE + chunk(b": hello\n\n")
        assert await heard.reader.read(1) == b""
        left.set()

    sidecar = await start(scripted.port)
    await until(lambda: sidecar.plane.catalog.server is not None or len(scripted.heard) > 0, "a handshake")
    scripted.answer = forever
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"hello")
    writer.transport.abort()
    async with asyncio.timeout(DEADLINE):
        await left.wait()
    await sidecar.idle()


async def test_a_kept_connection_that_was_closed_while_idle_loses_no_safe_call(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    await sidecar.post(PING)
    dying = len(scripted.heard)

    def close_once(heard: Heard) -> bytes:
        if len(scripted.heard) == dying + 1:
            heard.writer.close()
            return b""
        return json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    scripted.answer = close_once
    assert "result" in (await sidecar.post(PING))[2]


async def test_a_server_that_is_down_is_an_http_error_to_what_probes_it(
    scripted: Scripted, start: Start
) -> None:
    """Clients take a JSON-RPC error to server/discover for an old server, and then stay old."""
    sidecar = await start(scripted.port, {"upstream": {"connectTimeout": "1s"}})
    await scripted.stop()
    for method in ("server/discover", "initialize"):
        status, _, body = await sidecar.post(PING | {"method": method})
        assert (status, body["error"]["code"]) == (502, 50200)


async def test_a_call_whose_event_stream_breaks_off_ends_with_an_error_event(
    scripted: Scripted, start: Start
) -> None:
    async def half(heard: Heard):
        yield SSE + chunk(b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n')
        heard.writer.transport.abort()

    sidecar = await start(scripted.port)
    scripted.answer = half
    _, _, answer = await sidecar.call("t")
    assert b"notifications/progress" in answer
    assert b'"id":1,"error":{"code":50200' in answer
    assert (await sidecar.metrics())['mcp_tool_calls_total{status="failed",tool="other"}'] == 1


async def test_a_client_that_leaves_with_its_response_has_not_given_the_call_up(
    scripted: Scripted, start: Start
) -> None:
    """Official clients close an event stream as soon as it has brought the response."""

    async def lingering(_: Heard):
        yield SSE + chunk(b"data: " + RESULT + b"\n\n")
        await asyncio.Event().wait()

    cache = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(scripted.port, cache)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = lingering
    reader, writer = await sidecar.begin("t")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(RESULT)
    writer.transport.abort()
    await sidecar.idle()
    assert "result" in (await sidecar.call("t"))[2], "and its result is kept"
    samples = await sidecar.metrics()
    assert samples['mcp_tool_calls_total{status="success",tool="t"}'] == 2
