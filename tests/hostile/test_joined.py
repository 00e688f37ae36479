"""Identical calls in flight: what the one that asks the server does, and leaves undone, harms no other."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.kit.connection import CALL, POST, Client
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT as ANSWER
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

SHARED = {"cache": {"tools": [{"name": "t", "ttl": "1h", "scope": "shared"}]}}
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
RESULT = b'data: {"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}\n\n'
NOTICE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"x":"%b"}}\n\n' % (
    b"x" * 20_000
)


def request(body: bytes = CALL) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


ALONE = request()
BATCHED = request(b"[%b,%b]" % (CALL, CALL.replace(b'"id":1', b'"id":2')))


class Server:
    """Counts the calls that it was asked, and is told when to answer."""

    def __init__(self, scripted: Scripted, before: int = 0, *, ends: bool = True) -> None:
        """`before`: notices that it sends before the first call's response; whether its streams end."""
        self.calls = 0
        self.go = asyncio.Event()
        self._before = before
        self._ends = ends
        scripted.answer = self._answer

    async def _answer(self, heard: Heard) -> AsyncIterator[bytes]:
        if b"tools/call" not in heard.body:
            yield b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            return
        self.calls += 1
        first = self.calls == 1
        if self._before and first:
            yield EVENTS
            for _ in range(self._before):
                yield NOTICE
        await self.go.wait()
        result = RESULT if b'"id":1' in heard.body else RESULT.replace(b'"id":1', b'"id":2')
        yield result if self._before and first else EVENTS + result
        if not self._ends:
            await asyncio.Event().wait()
        heard.writer.close()


async def led(sidecar: Running, server: Server) -> Client:
    """The client whose call the server was asked, while it is the only one in flight."""
    leader = await Client.to(sidecar, ALONE)
    await until(lambda: server.calls == 1, "one to lead")
    return leader


async def followed(sidecar: Running) -> Client:
    """Another client, whose call waits for what the one in flight is answered."""
    follower = await Client.to(sidecar, ALONE)
    await until(lambda: len(sidecar.in_flight) == 2, "another to follow")
    return follower


@pytest.mark.parametrize("how", [ALONE, BATCHED], ids=["alone", "in a batch"])
async def test_whoever_reads_slowly_leads_nobody(scripted: Scripted, start: Start, how: bytes) -> None:
    server = Server(scripted, before=400)
    server.go.set()
    sidecar = await start(scripted.port, SHARED)
    slow = await Client.to(sidecar, how, limit=1024)
    await until(lambda: sidecar.connections.owed > 0, "the first to be known as slow")
    async with asyncio.timeout(DEADLINE):
        status, _, said = await sidecar.post(CALL)  # as events, or as what is kept
    assert status == 200
    assert "isError" in str(said)
    slow.leave()
    await sidecar.idle()
    assert not sidecar.plane.flights


@pytest.mark.parametrize("how", [ALONE, BATCHED], ids=["alone", "in a batch"])
async def test_whoever_leaves_costs_those_who_wait_nothing(
    scripted: Scripted, start: Start, how: bytes
) -> None:
    server = Server(scripted)
    sidecar = await start(scripted.port, SHARED)
    plane = sidecar.plane
    crowd = [await Client.to(sidecar, how) for _ in range(8)]
    await until(lambda: server.calls == 1 and len(plane.flights) == 1, "one to lead")
    honest = asyncio.ensure_future(sidecar.post(CALL))
    many = 9 if how is ALONE else 8 * 3 + 1
    await until(lambda: len(plane.in_flight) == many, "all to be in flight")
    for client in crowd:
        client.leave()
    await until(lambda: len(plane.in_flight) == 2, "all but the honest one and its leader to have left")
    server.go.set()
    assert (await honest)[2]["result"]["isError"] is False
    assert server.calls == 1, "what has begun was gone on with"
    await until(lambda: not plane.in_flight, "everything to end")
    assert not plane.flights


async def test_a_call_that_nobody_waits_for_any_more_is_given_up(scripted: Scripted, start: Start) -> None:
    server = Server(scripted)
    sidecar = await start(scripted.port, SHARED | {"concurrency": {"maxInFlight": 1}})
    plane = sidecar.plane
    leader = await led(sidecar, server)
    follower = await followed(sidecar)
    leader.leave()
    await until(lambda: not plane.bulkhead.queue and len(sidecar.connections.open) == 1, "it to leave")
    assert plane.bulkhead.in_flight == 1
    follower.leave()
    await until(lambda: not plane.in_flight, "the call to be given up")
    assert plane.bulkhead.in_flight == 0
    assert not plane.flights


async def test_nothing_is_held_of_those_who_waited_and_left(scripted: Scripted, start: Start) -> None:
    server = Server(scripted)
    sidecar = await start(scripted.port, SHARED)
    plane = sidecar.plane
    leader = await led(sidecar, server)
    for _ in range(20):
        follower = await followed(sidecar)
        follower.leave()
        await until(lambda: len(plane.in_flight) == 1, "it to have left")
    assert [len(waiting) for waiting in plane.flights._waiting.values()] == [0]
    leader.leave()


async def test_a_stream_that_stays_open_behind_its_response_holds_up_nobody(
    scripted: Scripted, start: Start
) -> None:
    server = Server(scripted, ends=False)
    sidecar = await start(scripted.port, SHARED | {"concurrency": {"maxInFlight": 1}})
    plane = sidecar.plane
    leader = await led(sidecar, server)
    follower = await followed(sidecar)
    server.go.set()
    assert b" 200 " in await leader.reads(b"\r\n\r\n")
    await leader.reads(b'"isError":false')
    assert b" 200 " in await follower.reads(b"\r\n\r\n")
    await follower.reads(b'"isError":false')
    assert plane.bulkhead.in_flight == 0, "the server works on nothing any more"
    other = await Client.to(sidecar, request(CALL.replace(b'"t"', b'"u"')))
    await other.reads(b'"isError":false')
    for client in (leader, follower, other):
        client.leave()
    await until(lambda: not plane.in_flight, "everything to end")


async def test_a_stream_that_is_silent_behind_its_response_has_not_failed(
    scripted: Scripted, start: Start
) -> None:
    server = Server(scripted, ends=False)
    server.go.set()
    breaker = {"concurrency": {"circuitBreaker": {"failures": 1, "openFor": "1h"}}}
    sidecar = await start(scripted.port, breaker | {"upstream": {"timeout": "1s"}})
    for _ in range(2):
        client = await Client.to(sidecar, ALONE)
        await client.reads(b'"isError":false')
        await client.reads(b"0\r\n\r\n")
        client.leave()
    assert sidecar.plane.breakers.open() == []
    samples = await sidecar.metrics()
    assert samples['mcp_tool_calls_total{status="success",tool="other"}'] == 2


async def test_what_is_answered_stale_is_fetched_anew_by_one_at_a_time(
    scripted: Scripted, start: Start
) -> None:
    slow, go_on = False, asyncio.Event()

    async def slowly(heard: Heard) -> AsyncIterator[bytes]:
        if slow and b"tools/call" in heard.body:
            await go_on.wait()
        yield json_answer(ANSWER)

    scripted.answer = slowly
    rule = {"name": "t", "ttl": "100ms", "scope": "shared", "staleWhileRevalidate": "1h"}
    sidecar = await start(scripted.port, {"cache": {"tools": [rule]}})
    plane = sidecar.plane
    await sidecar.call("t")
    slow, asked = True, len(scripted.calls)

    async def is_stale() -> bool:
        await sidecar.call("t")
        return bool(plane.refreshing)

    await until(is_stale, "the result to be stale")
    for _ in range(20):
        status, _, body = await sidecar.call("t")
        assert (status, "result" in body) == (200, True), body
        assert len(plane.refreshing) == 1
    await until(lambda: len(scripted.calls) > asked, "the server to be asked")
    go_on.set()
    await until(lambda: not plane.refreshing, "the new result")
    assert len(scripted.calls) == asked + 1
    go_on.clear()
    await until(is_stale, "the new result to be stale, and fetched again")
    go_on.set()
