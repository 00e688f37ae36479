"""Kept connections: none is used that the server may just be closing."""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.http.head import ResponseHead


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"", float("inf")),
        (b"Keep-Alive: timeout=5\r\n", 4.0),
        (b"keep-alive: max=100, timeout=72\r\n", 71.0),
        (b"Keep-Alive: TIMEOUT=1\r\n", 0.0),
        (b"Keep-Alive: timeout=0\r\n", 0.0),
        (b"Keep-Alive: timeout=soon\r\n", float("inf")),
        (b"Connection: close\r\nKeep-Alive: timeout=5\r\n", 0.0),
    ],
)
def test_what_a_server_promises_is_kept_to_less_a_second(line: bytes, seconds: float) -> None:
    head = ResponseHead(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + line + b"\r\n")
    assert head.keep_for == seconds


async def test_a_connection_that_the_server_closes_at_once_takes_no_second_call(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT, extra=b"Keep-Alive: timeout=1\r\n")
    sidecar = await start(scripted.port)
    await sidecar.ready()
    for _ in range(3):
        before = scripted.connections
        await sidecar.call("t")
        assert scripted.connections == before + 1


async def test_open_streams_take_no_connection_from_calls(scripted: Scripted, start: Start) -> None:
    opened = asyncio.Event()

    async def answer(heard: Heard):
        if heard.line.startswith(b"GET"):
            opened.set()
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = answer
    sidecar = await start(scripted.port, {"upstream": {"maxConnections": 2}})
    await sidecar.ready()
    streams = []
    for _ in range(101):
        _reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
        writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        streams.append(writer)
    await until(lambda: len(sidecar.plane.pool.streams) == 101, "every stream to have its connection")
    answers = await asyncio.gather(*(sidecar.call("t") for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    sidecar.handshake.doubt()
    assert (await sidecar.admin_get("/readyz"))[0] == 200
    assert (await sidecar.admin_get("/serverz"))[0] == 200
    for writer in streams:
        writer.transport.abort()
    await until(lambda: not sidecar.plane.pool.streams, "the streams' connections to be closed")


async def test_a_call_that_finds_no_connection_is_given_up_beside_a_stream(
    scripted: Scripted, start: Start
) -> None:
    async def hang(_: Heard):
        await asyncio.Event().wait()
        yield b""

    sidecar = await start(scripted.port, {"upstream": {"maxConnections": 1, "timeout": "500ms"}})
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = hang
    _reader, stream = await asyncio.open_connection("127.0.0.1", sidecar.data)
    stream.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    await until(lambda: sidecar.plane.pool.streams, "the stream")
    answers = await asyncio.gather(*(sidecar.call("t") for _ in range(4)))
    assert {body["error"]["code"] for _, _, body in answers} <= {50300, 50400}
    stream.transport.abort()


@pytest.mark.parametrize("size", [64 * 1024, 3_900_000], ids=["written", "unwritten"])
async def test_a_request_that_is_answered_before_it_is_read_keeps_no_other_waiting(
    start: Start, size: int
) -> None:
    over = asyncio.Event()
    ended: list[asyncio.Event] = []

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A server that reads no further than the head of what is too large."""
        ended.append(asyncio.Event())
        mine = ended[-1]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not over.is_set():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                if length > 32_000:
                    writer.write(json_answer(b"{}", b"413 Content Too Large"))
                    await over.wait()
                    break
                await reader.readexactly(length)
                writer.write(json_answer(RESULT))
        writer.transport.abort()
        mine.set()

    server = await asyncio.start_server(hasty, "127.0.0.1", 0, limit=1024)
    sidecar = await start(server.sockets[0].getsockname()[1], {"upstream": {"timeout": "60s"}})
    assert (await sidecar.call("t"))[0] == 200
    assert (await sidecar.call("t", {"x": "y" * size}))[0] == 413
    async with asyncio.timeout(DEADLINE):
        assert (await sidecar.call("t"))[0] == 200
    over.set()
    server.close()
    sidecar.end()
    await sidecar.waiting
    await until(lambda: all(each.is_set() for each in ended), "the server to end")


BAD = json_answer(b'{"bad":"request"}', b"400 Bad Request")


class Careless:
    """A server that answers some requests without having read their bodies.

    What it has not read it takes for the next request, as Python's http.server does, or it closes.
    """

    def __init__(self, early: bytes, *, closes: bool) -> None:
        self.early = early
        self.closes = closes
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                line = await reader.readuntil(b"\n")
                if b"HTTP/1.1" not in line.split(b"\r\n")[0][-10:] or line[:1] == b"{":
                    writer.write(BAD)
                    continue
                head = await reader.readuntil(b"\r\n\r\n")
                if b"early" in head:
                    writer.write(self.early)
                    if self.closes:
                        await writer.drain()
                        writer.close()
                        break
                    continue
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                message = msgspec.json.decode(await reader.readexactly(length))
                writer.write(json_answer(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % message.get("id", 0)))
        writer.transport.abort()
        self.open -= 1


@pytest.mark.parametrize("closes", [False, True], ids=["reads on", "closes"])
@pytest.mark.parametrize(
    "early",
    [
        json_answer(b"{}"),
        json_answer(b"{}", b"404 Not Found"),
        json_answer(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}'),
        json_answer(b'{"error":"unauthorized"}', b"401 Unauthorized"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["200", "404", "200 with an error", "401", "200 in chunks", "503"],
)
async def test_what_a_server_has_not_read_of_one_request_is_not_answered_to_another(
    start: Start, early: bytes, closes: bool
) -> None:
    careless = Careless(early, closes=closes)
    server = await asyncio.start_server(careless.serve, "127.0.0.1", 0)
    sidecar = await start(server.sockets[0].getsockname()[1])
    for _ in range(5):
        status, _, _ = await sidecar.call("t", X_Say="early")
        assert status == int(early[9:12])
        status, _, body = await sidecar.call("t")
        assert (status, body["result"]) == (200, {}), body
    server.close()
    sidecar.end()
    await sidecar.waiting
    await until(lambda: careless.open == 0, "the server to end")


async def test_a_server_that_reads_what_it_answers_keeps_its_connection(
    scripted: Scripted, start: Start
) -> None:
    refusal = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no such tool"}}'
    sidecar = await start(scripted.port)
    await sidecar.ready()
    before = scripted.connections
    for answer in (
        json_answer(RESULT),
        json_answer(refusal),
        json_answer(refusal, b"400 Bad Request"),
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        json_answer(b'{"id" : 1.0, "result": {}, "jsonrpc": "2.0"}'),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\ndata: %b\n\n\r\n0\r\n\r\n" % (len(RESULT) + 8, RESULT),
    ):
        scripted.answer = lambda _, answer=answer: answer
        await sidecar.call("t")
        await sidecar.call("t")
    assert scripted.connections <= before + 1


def timers() -> dict[tuple[int, int], tuple[int, float]]:
    """Of every TCP connection of this machine, by its own and its peer's port: kind and seconds of its timer.

    Source: proc_pid_net(5), `tr:tm->when`; kind 2 is a keep-alive probe.
    """
    found = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, own, peer, _, _, timer, *_ = line.split()
        kind, when = timer.split(":")
        ports = int(own.rpartition(":")[2], 16), int(peer.rpartition(":")[2], 16)
        found[ports] = int(kind, 16), int(when, 16) / os.sysconf("SC_CLK_TCK")
    return found


KEEP_ALIVE = 2


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows the timers of connections")
@pytest.mark.parametrize("port", ["data", "admin"])
async def test_a_client_that_vanished_without_a_word_is_probed_after_a_minute(
    scripted: Scripted, start: Start, port: str
) -> None:
    sidecar = await start(scripted.port)
    own = getattr(sidecar, port)
    _, writer = await asyncio.open_connection("127.0.0.1", own)
    theirs = writer.get_extra_info("sockname")[1]
    try:
        kind, seconds = await until(lambda: timers().get((own, theirs)), "the connection to be accepted")
        assert kind == KEEP_ALIVE
        assert 0 < seconds <= 60
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(RESULT)


async def test_a_connection_without_a_request_is_closed_after_the_idle_timeout_alone(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, {"clients": {"idleTimeout": "1h"}})
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    await exchange(reader, writer)
    (connection,) = sidecar.connections.open
    began = time.monotonic()
    connection.sweep(began)
    connection.sweep(began + 3500)
    await exchange(reader, writer)  # it is there, and idle anew
    connection.sweep(began)
    connection.sweep(began + 3595)
    assert connection in sidecar.connections.open
    connection.sweep(time.monotonic() + 3605)
    async with asyncio.timeout(DEADLINE):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_whose_call_takes_longer_than_the_idle_timeout_is_not_idle(
    scripted: Scripted, start: Start
) -> None:
    go = asyncio.Event()

    async def answer(_: Heard) -> Any:
        await go.wait()
        yield json_answer(RESULT)

    scripted.answer = answer
    sidecar = await start(scripted.port, {"clients": {"idleTimeout": "1s"}})
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    called = asyncio.ensure_future(exchange(reader, writer))
    await until(lambda: sidecar.in_flight, "the call to be in flight")
    (connection,) = sidecar.connections.open
    for later in (0, 5, 50):
        connection.sweep(time.monotonic() + later)
    go.set()
    await called
    async with asyncio.timeout(DEADLINE):
        assert await reader.read() == b"", "afterwards it is idle, and closed by the sidecar's own sweep"
    writer.close()
