"""Where an answer ends: on a connection that is kept, what is too short would take the next one's beginning."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.kit.connection import CALL, POST, Client
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

EVENT = b'data: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}\n\n'
STRAY = b'data: {"jsonrpc":"2.0","id":99,"result":{"content":[]}}\n\n'
SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
ITEMS = b'{\\"rows\\":[%b]}' % b",".join(b'{\\"id\\":%d}' % number for number in range(90_000))
REQUEST = POST + b"Content-Length: %d\r\n\r\n%b" % (len(CALL), CALL)
PAGED = {"responses": {"page": {"tools": [{"name": "t", "items": 10}]}}}

LONG_EVENTS = {
    "cut into pages": EVENT % ITEMS,
    "with another's response behind it": EVENT % (b"x" * 1_100_000) + STRAY,
    "as it came": EVENT % (b"x" * 1_100_000),
}


@pytest.mark.parametrize("events", LONG_EVENTS.values(), ids=LONG_EVENTS)
async def test_events_of_a_known_length_end_where_the_client_thinks_they_do(
    scripted: Scripted, start: Start, events: bytes
) -> None:
    def answer(heard: Heard) -> bytes:
        if b"tools/call" not in heard.body:
            return json_answer(RESULT)
        return SIZED % len(events) + events

    scripted.answer = answer
    sidecar = await start(scripted.port, PAGED)
    client = await Client.to(
        sidecar, REQUEST + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1 << 22
    )
    head = await client.reads(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    body = await client.reads(b"\r\n0\r\n\r\n")
    assert b'"id":1' in body
    assert b'"id":99' not in body
    assert b"HTTP/1.1 " not in body
    assert (b"handle" in body) is (events == LONG_EVENTS["cut into pages"])
    assert (await client.reads(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    client.leave()


async def test_what_is_shorter_than_it_says_is_cut_and_nothing_follows_it(
    scripted: Scripted, start: Start
) -> None:
    """A download that passes as a stream, and is ended to make room for others."""

    async def half(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            yield (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2000000\r\n\r\n"
                + b"x" * 500
            )
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = half
    sidecar = await start(scripted.port, {"passPaths": ["/file"]})
    get = b"GET /file HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    client = await Client.to(sidecar, get + REQUEST)
    assert b"Content-Length: 2000000" in await client.reads(b"\r\n\r\n")
    await until(lambda: len(sidecar.in_flight) == 1, "it to be in progress")
    sidecar.drain()
    async with asyncio.timeout(DEADLINE):
        rest = await client.reader.read(-1)
    assert rest == b"x" * len(rest)
    assert len(rest) <= 500
    client.leave()


async def test_an_http_1_0_client_is_sent_no_interim_answer(scripted: Scripted, start: Start) -> None:
    """It would take that for the answer (RFC 9110, section 10.1.1)."""
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port)
    head = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\n"
    client = await Client.to(sidecar, head + b"Content-Length: %d\r\n\r\n" % len(CALL))
    await until(lambda: sidecar.connections._gathering, "its body to be waited for")
    client.writer.write(CALL)
    assert (await client.reads(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    client.leave()
