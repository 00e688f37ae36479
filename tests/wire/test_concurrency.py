"""Slots, the queue and circuit breakers; deadlines that the server hears of."""

import asyncio
from typing import Any

import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import until


class Held:
    """Answers tool calls only when it is told to."""

    def __init__(self, scripted: Scripted) -> None:
        self.now = self.most = 0
        self.go = asyncio.Event()
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        if b"tools/call" in heard.body:
            self.now += 1
            self.most = max(self.most, self.now)
            await self.go.wait()
            self.now -= 1
        yield json_answer(RESULT)


async def test_no_more_calls_than_slots_are_in_flight_and_the_rest_wait_their_turn(
    scripted: Scripted, start: Start
) -> None:
    held = Held(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 3}})
    calls = [asyncio.ensure_future(sidecar.call("t")) for _ in range(10)]
    bulkhead = sidecar.plane.bulkhead
    await until(lambda: held.now == 3 and len(bulkhead.queue) == 7, "three in flight, seven in the line")
    assert (await sidecar.metrics())["mcpace_calls_queued"] == 7
    held.go.set()
    assert all("result" in body for _, _, body in await asyncio.gather(*calls))
    assert held.most == 3
    assert (bulkhead.in_flight, len(bulkhead.queue)) == (0, 0)


async def test_a_full_queue_turns_calls_away_with_a_retry_time(scripted: Scripted, start: Start) -> None:
    held = Held(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 1, "maxQueued": 1}})
    calls = [asyncio.ensure_future(sidecar.call("t")) for _ in range(2)]
    await until(lambda: len(sidecar.plane.bulkhead.queue) == 1, "the queue to be full")
    status, headers, body = await sidecar.call("t")
    assert (status, body["error"]["code"]) == (200, 50300)
    assert (headers["retry-after"], body["error"]["data"]) == ("1", {"retryAfterMs": 1000})
    held.go.set()
    await asyncio.gather(*calls)
    samples = await sidecar.metrics()
    assert samples['mcpace_shed_calls_total{reason="queue"}'] == 1
    assert samples['mcp_tool_calls_total{status="shed",tool="other"}'] == 1


async def test_handshakes_lists_and_notifications_need_no_slot(scripted: Scripted, start: Start) -> None:
    held = Held(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 1, "maxQueued": 0}})
    call = asyncio.ensure_future(sidecar.call("t"))
    await until(lambda: held.now == 1, "the slot to be taken")
    for method in ("initialize", "tools/list", "ping", "server/discover"):
        _, _, body = await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": method})
        assert "result" in body, method
    held.go.set()
    await call


async def test_a_queued_call_is_turned_away_at_its_deadline(scripted: Scripted, start: Start) -> None:
    held = Held(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 1}})
    first = asyncio.ensure_future(sidecar.call("a"))
    await until(lambda: held.now == 1, "the slot to be taken")
    second = asyncio.ensure_future(sidecar.call("b"))
    bulkhead = sidecar.plane.bulkhead
    (call,) = await until(lambda: list(bulkhead.queue), "the second to wait")
    call.deadline = 0.0  # long ago
    assert (await second)[2]["error"]["code"] == 50300
    assert not bulkhead.queue
    held.go.set()
    assert "result" in (await first)[2]


async def test_a_queued_call_whose_client_leaves_takes_no_slot(scripted: Scripted, start: Start) -> None:
    held = Held(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 1}})
    first = asyncio.ensure_future(sidecar.call("t"))
    await until(lambda: held.now == 1, "the slot to be taken")
    _, writer = await sidecar.begin("t")
    bulkhead = sidecar.plane.bulkhead
    await until(lambda: len(bulkhead.queue) == 1, "the second to wait")
    writer.transport.abort()
    await until(lambda: len(sidecar.in_flight) == 1, "the second to end")
    held.go.set()
    await first
    assert bulkhead.in_flight == 0
    assert "result" in (await sidecar.call("t"))[2]


@pytest.mark.parametrize("session", ["", "s1"])
async def test_a_server_of_the_handshake_era_is_told_that_a_call_is_given_up(
    scripted: Scripted, start: Start, session: str
) -> None:
    Held(scripted)
    sidecar = await start(scripted.port, {"upstream": {"timeout": "1s"}})
    await sidecar.call("t", Mcp_Session_Id=session, MCP_Protocol_Version="2025-11-25")

    def told() -> list[Heard]:
        return [h for h in scripted.calls if h.message.get("method") == "notifications/cancelled"]

    (heard,) = await until(told, "the cancellation")
    assert heard.message["params"]["requestId"] == 1
    assert heard.headers.get(b"mcp-session-id", b"").decode() == session


async def test_a_modern_server_hears_of_it_by_the_closed_connection(
    scripted: Scripted, start: Start
) -> None:
    left = asyncio.Event()

    async def forever(heard: Heard) -> Any:
        if b"tools/call" in heard.body:
            assert await heard.reader.read(1) == b""
            left.set()
        yield json_answer(RESULT)

    scripted.answer = forever
    sidecar = await start(scripted.port, {"upstream": {"timeout": "1s"}})
    await sidecar.call("t", MCP_Protocol_Version="2026-07-28")
    await until(left.is_set, "the connection to be closed")
    assert not [h for h in scripted.calls if b"notifications/cancelled" in h.body]


BREAKING = {"concurrency": {"circuitBreaker": {"failures": 3, "openFor": "1h"}}}


async def test_a_failing_tool_is_left_alone_and_others_are_not(scripted: Scripted, start: Start) -> None:
    def fail(heard: Heard) -> bytes:
        bad = b'"bad"' in heard.body
        return json_answer(b'"oops"', b"500 Oops") if bad else json_answer(RESULT)

    scripted.answer = fail
    limits = {"rateLimits": {"tiers": [{"name": "f", "requestsPerMinute": 99}], "tools": [{"name": "bad"}]}}
    sidecar = await start(scripted.port, BREAKING | limits)
    for _ in range(3):
        assert (await sidecar.call("bad"))[0] == 500
    heard = len(scripted.calls)
    _, _, body = await sidecar.call("bad")
    assert (body["error"]["code"], len(scripted.calls)) == (50300, heard)
    assert body["error"]["data"]["retryAfterMs"] > 3_000_000
    assert "result" in (await sidecar.call("good"))[2]
    assert (await sidecar.metrics())['mcpace_circuit_open{tool="bad"}'] == 1


async def test_one_trial_decides_whether_the_circuit_closes(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, BREAKING)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = lambda _: json_answer(b'"oops"', b"500 Oops")
    for _ in range(3):
        await sidecar.call("t")
    (breaker,) = sidecar.plane.breakers.known.values()
    breaker.open_until = 1.0  # long ago
    held = Held(scripted)
    trial = asyncio.ensure_future(sidecar.call("t"))
    await until(lambda: held.now == 1, "the trial")
    assert (await sidecar.call("t"))[2]["error"]["code"] == 50300, "only one is let through"
    held.go.set()
    assert "result" in (await trial)[2]
    assert "result" in (await sidecar.call("t"))[2]


async def test_a_server_that_is_down_opens_the_circuit_for_all_tools(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, BREAKING | {"upstream": {"connectTimeout": "1s"}})
    await scripted.stop()
    for tool in ("a", "b", "c"):
        assert (await sidecar.call(tool))[2]["error"]["code"] == 50200
    assert (await sidecar.call("d"))[2]["error"]["code"] == 50300
