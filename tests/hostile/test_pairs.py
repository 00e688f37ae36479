"""Clients of the 2024-11-05 pair who leave, and who say odd things, beside others who do not."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.pairs import Client, Pairs
from tests.kit.sidecars import Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE, until


@pytest.fixture
async def pairs(scripted: Scripted) -> Pairs:
    return Pairs(scripted)


SLOTS: dict[str, Any] = {"transport": "sse", "concurrency": {"maxInFlight": 8}}


async def test_a_client_that_leaves_its_stream_does_not_take_the_connection_of_anothers_call(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    plane = sidecar.plane
    leaving, staying = await Client.open(sidecar), await Client.open(sidecar)
    assert b"202 Accepted" in await leaving.call(b"1")
    pairs.accepting.clear()
    posting = asyncio.ensure_future(staying.call(b"2"))  # on the connection that the first has left
    await until(lambda: b'"id":2' in scripted.heard[-1].body, "the second call to reach the server")
    leaving.leave()
    await until(lambda: plane.bulkhead.in_flight == 1, "the first call to be given up")
    pairs.accepting.set()
    assert b"202 Accepted" in await posting
    pairs.say(staying.number, b'{"jsonrpc":"2.0","id":2,"result":{"content":[]}}')
    await staying.hear(b'"id":2,"result"')
    await until(lambda: plane.bulkhead.in_flight == 0, "both slots to be free")
    staying.leave()


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (b"data: %b\nevent: endpoint\n\n", b"data: %b\nid: 5\n\n"),
        (b"event:endpoint\r\ndata:%b\r\n\r\n", b"data:%b\r\nevent:message\r\n\r\n"),
        (b"\xef\xbb\xbfevent: endpoint\ndata: %b\n\n", b"data: %b\n\n"),
        (b": welcome\n\nevent: endpoint\ndata: %b\n\n", b": event: endpoint\ndata: %b\nretry: 5\n\n"),
    ],
    ids=["data first", "no spaces", "a BOM", "comments"],
)
async def test_answers_are_found_however_events_are_written(
    scripted: Scripted, pairs: Pairs, start: Start, endpoint: bytes, message: bytes
) -> None:
    pairs.endpoint, pairs.message = endpoint, message
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.begin(sidecar)
    await client.hear(b"/messages?s=")
    client.number = int(await client.hear(b"\n"))
    client.target = b"/messages?s=%d" % client.number
    assert b"202 Accepted" in await client.call(b"7")
    pairs.say(client.number, b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}')
    await client.hear(b'"id":7,"result"')
    await until(lambda: not sidecar.plane.bulkhead.in_flight, "the call to have ended")
    client.leave()


async def test_a_post_whose_stream_ends_before_it_is_accepted_is_answered(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    pairs.accepting.clear()
    posting = asyncio.ensure_future(client.call(b"1"))
    await until(lambda: b"tools/call" in scripted.heard[-1].body, "the call to reach the server")
    client.leave()
    assert b"event stream that its answer belongs to has ended" in await posting
    await sidecar.idle()
    assert sidecar.plane.bulkhead.in_flight == 0


async def test_a_kept_result_too_long_to_go_uncompressed_still_comes_on_the_stream(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    kept = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(scripted.port, SLOTS | kept)
    client = await Client.open(sidecar)
    await client.post(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    client.target += b" HTTP/1.1\r\nAccept-Encoding: gzip\r\nX-Rest:"
    await client.call(b"1")
    text = b"x" * 10_000
    pairs.say(
        client.number, b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % text
    )
    await client.hear(text)
    assert b"202 Accepted" in await client.call(b"2")
    assert b'"id":2' in await client.hear(text)
    client.leave()


async def test_an_id_that_is_waited_under_is_not_given_to_another_call(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    plane = sidecar.plane
    client = await Client.open(sidecar)
    assert b"202 Accepted" in await client.call(b"5")
    for _ in range(7):
        answer = await client.call(b"5")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"id":5,"error":{"code":-32600,"message":"The id is' in answer
    answer = await client.post(b'{"jsonrpc":"2.0","id":5,"method":"ping"}')
    assert b"-32600" in answer
    assert b"202 Accepted" in await client.call(b'"5"'), "a string is another id"
    pairs.say(client.number, b'{"jsonrpc":"2.0","id":"5","result":{"content":["text"]}}')
    await client.hear(b'"id":"5","result":{"content":["text"]}')
    assert b"-32600" in await client.call(b"5"), "and answers another call"
    pairs.say(client.number, b'{"jsonrpc":"2.0","id":5.0,"result":{"content":[]}}')
    await client.hear(b'"result":{"content":[]}')
    await until(lambda: plane.bulkhead.in_flight == 0, "the slots to be free")
    assert b"202 Accepted" in await client.call(b"5"), "the id is free again"
    client.leave()
    await until(lambda: not plane.in_flight, "everything to end")
    assert plane.bulkhead.in_flight == 0


async def test_an_id_is_the_same_however_the_server_spells_it(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    await client.call('"\u00e9"'.encode())
    pairs.say(client.number, b'{"jsonrpc":"2.0","id":"\\u00e9","result":{}}')
    await client.hear(b'"result":{}')
    await until(lambda: sidecar.plane.bulkhead.in_flight == 0, "the call to end")
    client.leave()


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n"
SEVEN = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'


@pytest.mark.parametrize("when", ["before the body", "within it", "after the end", "without an end"])
async def test_a_post_is_accepted_however_its_202_is_framed(
    scripted: Scripted, pairs: Pairs, start: Start, when: str
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    heads, go_on = asyncio.Event(), asyncio.Event()

    async def in_pieces(heard: Heard) -> AsyncIterator[bytes]:
        if b'"id":7' not in heard.body:
            yield json_answer(b"Accepted", b"202 Accepted")
            return
        yield ACCEPTED
        heads.set()
        if when != "before the body":
            yield chunk(b"Acc")
        await go_on.wait()
        if when == "without an end":
            heard.writer.close()
            return
        yield chunk(b"epted") + b"0\r\n\r\n"

    pairs.accept = in_pieces
    answer = await client.call(b"7")
    assert answer.startswith(b"HTTP/1.1 202 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    async with asyncio.timeout(DEADLINE):
        await heads.wait()
    before = when in ("before the body", "within it")
    if not before:
        go_on.set()
        pool = sidecar.plane.pool
        await until(lambda: not any(c._receiver and c.patience for c in pool._all), "the 202 to end")
    pairs.say(client.number, SEVEN)
    await client.hear(SEVEN)
    go_on.set()
    pairs.accept = pairs._accept
    assert b"202 Accepted" in await client.call(b"8"), "the client goes on"
    pairs.say(client.number, SEVEN.replace(b"7", b"8"))
    await client.hear(SEVEN.replace(b"7", b"8"))
    samples = await sidecar.metrics()
    ended = {
        key: value for key, value in samples.items() if key.startswith("mcp_tool_calls_total") and value
    }
    assert sum(ended.values()) == 2, ended
    assert all('status="success"' in key for key in ended), ended
    client.leave()


@pytest.mark.parametrize(
    "taken",
    [
        json_answer(b"", b"200 OK"),
        json_answer(b"ok", b"200 OK"),
        json_answer(b'{"status":"queued"}', b"200 OK"),
        json_answer(b"", b"201 Created"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["200 empty", "200 with words", "200 with JSON", "201", "204", "200 in chunks"],
)
async def test_a_post_that_is_taken_with_another_word_than_202_has_its_response_on_the_stream(
    scripted: Scripted, pairs: Pairs, start: Start, taken: bytes
) -> None:
    async def takes(_: Heard) -> AsyncIterator[bytes]:
        yield taken

    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    number = int(client.target.rpartition(b"=")[2])
    pairs.accept = takes
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202 ")
    pairs.say(number, SEVEN)
    await client.hear(SEVEN)
    await until(lambda: not sidecar.plane.bulkhead.in_flight, "the call to have ended")
    samples = await sidecar.metrics()
    ended = {key for key, value in samples.items() if key.startswith("mcp_tool_calls_total") and value}
    assert ended, samples
    assert all('status="success"' in key for key in ended), ended
    client.leave()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_post_that_is_answered_with_its_response_has_that_on_the_stream(
    scripted: Scripted, pairs: Pairs, start: Start, chunked: bool
) -> None:
    async def answers(_: Heard) -> AsyncIterator[bytes]:
        if chunked:
            yield SSE.replace(b"text/event-stream", b"application/json") + chunk(SEVEN[:9])
            await asyncio.sleep(0)
            yield chunk(SEVEN[9:]) + b"0\r\n\r\n"
        else:
            yield json_answer(SEVEN)

    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    pairs.accept = answers
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202 ")
    await client.hear(SEVEN)
    client.leave()


async def test_a_late_error_is_said_to_nobody_and_one_that_is_nobodys_to_all(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    error = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32603,"message":"late %b"}}'
    sidecar = await start(scripted.port, SLOTS)
    client, other = await Client.open(sidecar), await Client.open(sidecar)
    number = int(client.target.rpartition(b"=")[2])
    assert b"202 Accepted" in await client.call(b"7")
    assert b"202 Accepted" in await other.call(b"8")
    pairs.say(number, SEVEN)
    await client.hear(SEVEN)
    pairs.say(number, error % (b"7", b"its own"))
    pairs.say(number, error % (b"8", b"another's"))
    pairs.say(number, error % (b"null", b"nobody's"))
    pairs.say(number, error % (b'"server-error"', b"unknown"))
    said = await client.hear(b"late unknown")
    assert b"nobody's" in said
    assert b"its own" not in said
    assert b"another's" not in said
    client.leave()
    other.leave()


async def test_what_waits_for_the_stream_is_counted_with_its_head_and_refused_where_there_is_no_room(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, {"transport": "sse"}, memory=1, files=1 << 16)
    connections = sidecar.connections
    client = await Client.open(sidecar)
    client.target += b" HTTP/1.1\r\nX-Long: " + b"x" * 8000 + b"\r\nX-Rest:"
    taken, answer = 0, b""
    for taken in range(1000):
        answer = await client.call(b"%d" % taken)
        if not answer.startswith(b"HTTP/1.1 202 "):
            break
        assert connections.held >= (taken + 1) * 8000
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    assert b"Retry-After: " in answer
    assert taken > 50
    assert connections.held <= connections.body_bytes
    number = int(client.target.partition(b"=")[2][:1])
    pairs.say(number, SEVEN)
    await client.hear(SEVEN)
    assert (await client.call(b"5000")).startswith(b"HTTP/1.1 202 "), "there is room again"
    client.leave()
    await until(lambda: not connections.held, "everything to be let go of")


async def test_a_response_that_comes_within_the_posts_own_answer_writes_no_second_head(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    begun = asyncio.Event()

    async def says_more(_: Heard) -> AsyncIterator[bytes]:
        yield ACCEPTED.replace(b"202 Accepted", b"400 Bad Request") + chunk(b"no, but")
        begun.set()
        await asyncio.Event().wait()

    pairs.accept = says_more
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}'
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % client.target
    )
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(DEADLINE):
        said = await reader.readuntil(b"no, but")
        pairs.say(client.number, SEVEN)
        await client.hear(SEVEN)
        with contextlib.suppress(ConnectionError):
            said += await reader.read(-1)
    assert said.count(b"HTTP/1.1 ") == 1, said
    writer.close()
    await until(lambda: sidecar.plane.bulkhead.in_flight == 0, "the call to end")
    client.leave()


async def test_a_stream_that_has_ended_says_no_more(scripted: Scripted, pairs: Pairs, start: Start) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    assert b"202 Accepted" in await client.call(b"1")
    for exchange in list(sidecar.in_flight):
        if exchange.endless:
            exchange.close_stream()
    assert b"202 Accepted" not in await client.call(b"2"), "it has no endpoint any more"
    said = await client.hear(b"0\r\n\r\n")
    await sidecar.idle()
    assert not client.reader._buffer, (said, bytes(client.reader._buffer))
    client.leave()


async def test_bodies_are_let_go_of_once_the_server_has_accepted_them(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    sidecar = await start(scripted.port, SLOTS)
    client = await Client.open(sidecar)
    tracemalloc.start()
    try:
        for number in range(8):
            body = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"t","arguments":{"x":"%b"}}}'
            assert b"202 Accepted" in await client.post(body % (number, b"y" * 1_000_000))
            scripted.heard.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sidecar.in_flight) == 9, "the stream and its calls"
    assert held < 3_000_000, f"{held} bytes are held for calls that wait for their responses"
    client.leave()


async def test_events_of_a_stream_that_never_become_whole_are_bounded(
    scripted: Scripted, start: Start
) -> None:
    """What finds no room passes as it comes; a response among them is known by its id."""
    go_on = asyncio.Event()

    async def halves(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            yield SSE + chunk(b"event: endpoint\ndata: /messages?s=1\n\n")
            await go_on.wait()
            yield chunk(b'data: {"jsonrpc":"2.0","id":7,"result":{"x":"' + b"x" * 3_000_000)
            yield chunk(b'"}}\n\n')
            await asyncio.Event().wait()
        yield b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

    scripted.answer = halves
    sidecar = await start(scripted.port, {"transport": "sse"}, memory=1)
    plane = sidecar.plane
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data, limit=1 << 23)
    writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"/messages?s=1")
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}'
    head = b"POST /messages?s=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = await sidecar.raw(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert len(plane.in_flight) == 2
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        said = await reader.readuntil(b'"}}\n\n')
    assert said.count(b"x" * 1000) > 2000
    assert len(plane.in_flight) == 1, "the call has ended with its response"
    assert plane.pool.gathered.held == 0
    writer.transport.abort()
    await until(lambda: not plane.in_flight, "the stream to end")
    assert plane.pool.gathered.held == 0
