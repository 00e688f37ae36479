"""The load: when steps begin, what counts as failed, and that no answer is too much for it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
from collections.abc import AsyncIterator

import brotli
import pytest
import zstandard
from tests.kit.waiting import until

from mcpace_cli.bench.answer import decoded, judged
from mcpace_cli.bench.load import Call, Server
from mcpace_cli.target import Target
from mcpace_sidecar.http.head import ResponseHead

DELAY = 0.02
STEP = (Call("t", {"a": 1}, {}),)


def head(*lines: bytes, status: int = 200) -> ResponseHead:
    return ResponseHead(
        b"".join((b"HTTP/1.1 %d OK\r\n" % status, *(line + b"\r\n" for line in lines), b"\r\n"))
    )


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        (b"gzip", gzip.compress),
        (b"br", brotli.compress),
        (b"zstd", zstandard.compress),
        (b"identity", bytes),
    ],
)
def test_answers_are_read_in_every_coding_that_is_asked_for(coding, compress):
    body = b'{"jsonrpc":"2.0","id":1,"result":{}}' * 100
    assert decoded(head(b"Content-Encoding: " + coding), compress(body)) == body


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"deflate", b"x"])
def test_an_answer_that_is_not_in_its_coding_is_none(coding: bytes):
    assert decoded(head(b"Content-Encoding: " + coding), b"\x00\x01nothing of it") is None


@pytest.mark.parametrize(
    ("coding", "compress"),
    [(b"gzip", gzip.compress), (b"br", brotli.compress), (b"zstd", zstandard.compress)],
)
def test_an_answer_that_grows_beyond_all_measure_is_none(coding, compress):
    assert decoded(head(b"Content-Encoding: " + coding), compress(b"\0" * (80 << 20))) is None


def test_what_failed_is_told_apart():
    def answer(**result: object) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": 1, **result}, separators=(",", ":")).encode()

    assert judged(head(), answer(result={"content": [], "isError": False})) == ""
    assert judged(head(), answer(result={"content": [], "isError": True})) == "error"
    assert judged(head(), answer(error={"code": -32602, "message": "x"})) == "error"
    assert judged(head(), answer(error={"code": 42900, "message": "x"})) == "limited"
    assert judged(head(status=503), b"") == "HTTP 503"
    assert judged(head(), b"data: " + answer(result={"content": []}) + b"\n\n") == ""
    some = {"results": [None], "errors": [{}], "total": 2, "succeeded": 1}
    assert judged(head(), answer(result={"content": [], "structuredContent": some})) == "part failed"


class OneByOne:
    """A server of HTTP that answers one call at a time, each after a while, over all its connections."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.open = 0
        self._turn = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                (length,) = [
                    int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length")
                ]
                message = json.loads(await reader.readexactly(length))
                if message["method"] == "tools/call":
                    self.ids.append(message["id"])
                    async with self._turn:
                        await asyncio.sleep(DELAY)
                result = {
                    "content": [],
                    "isError": False,
                    "capabilities": {},
                    "supportedVersions": ["2026-07-28"],
                }
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


@contextlib.asynccontextmanager
async def loading(clients: int) -> AsyncIterator[tuple[OneByOne, Server]]:
    one = OneByOne()
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server = Server(Target.of(f"http://127.0.0.1:{port}/mcp"), clients)
    await server.begin()
    try:
        yield one, server
    finally:
        await server.end()
        listening.close()
        await until(lambda: one.open == 0, "the connections to end")


async def test_the_open_loop_makes_every_step_and_counts_from_when_it_was_due():
    """Twice as many come as are answered: who is due last has waited for all of those before."""
    async with loading(clients=4) as (one, server):
        window = await server.opened([STEP], itertools.repeat(0), 1.0, 2 / DELAY, parallel=False)
    assert window.steps == 100
    assert window.failed == {}
    assert len(set(one.ids)) == 100
    assert window.longest > 100 * DELAY - 1.0 - DELAY, "the time in which it should have begun counts"


async def test_the_closed_loop_asks_anew_only_when_it_was_answered():
    async with loading(clients=3) as (one, server):
        window = await server.closed([STEP], itertools.repeat(0), 0.5, parallel=False)
    assert 3 <= window.steps <= 3 + 0.5 / DELAY + 3
    assert window.steps == len(one.ids) == len(set(one.ids)) == window.calls
    assert sum(window.histogram.values()) == sum(window.bins) == window.steps
    assert window.tools["t"].calls == window.steps


async def test_a_step_of_several_calls_is_over_with_the_last_of_them():
    async with loading(clients=1) as (one, server):
        window = await server.closed([STEP * 5], itertools.repeat(0), 0.01, parallel=False)
    assert (window.steps, window.calls, len(one.ids)) == (1, 5, 5)
    assert window.longest > 5 * DELAY * 0.9


async def test_steps_that_look_alike_by_their_number_alone_are_not_mixed_up():
    several, single = [STEP * 2], [STEP]
    async with loading(clients=1) as (_, server):
        both = [
            await server.closed(steps, itertools.repeat(0), 0.01, parallel=False)
            for steps in (several, single)
        ]
    assert [window.calls // window.steps for window in both] == [2, 1]


async def test_a_server_that_is_gone_fails_every_step_and_is_not_asked_without_an_end():
    async with loading(clients=2) as (_, server):
        pass
    gone = Server(Target.of(f"http://{server.pool.address}/mcp"), 2)
    gone._sessions = server._sessions
    window = await gone.closed([STEP], itertools.repeat(0), 0.3, parallel=False)
    assert 2 <= window.steps <= 2 * 0.3 / 0.01 + 2
    assert window.failed == {"connect": window.steps}
    await gone.pool.close()
