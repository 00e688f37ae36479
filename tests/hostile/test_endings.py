"""Every call ends, once: whatever raises where one is led on ends that one, is counted, and harms no other."""

import asyncio
import gc
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.conftest import Heard, Running, Scripted, Start, json_answer, until

from mcpace_sidecar.cache.entry import Entry, Place
from mcpace_sidecar.faults import Faults
from mcpace_sidecar.metrics import Metrics
from mcpace_sidecar.proxy import LOST_AFTER, Exchange
from mcpace_sidecar.store.memory import MemoryResults

CONFIG: dict[str, Any] = {
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 100_000}]},
    "cache": {
        "tools": [
            {"name": "cached", "ttl": "1m", "scope": "shared", "staleWhileRevalidate": "1h"},
            {"name": "writes", "invalidates": ["cached"]},
        ]
    },
    "responses": {"page": {"tools": [{"name": "paged", "items": 2}]}},
    "concurrency": {"maxInFlight": 8, "maxQueued": 100, "parallelTool": True},
}
SECRET = "a-secret-of-somebodys"
VICTIM = b'"id":"broken"'


def answered(heard: Heard) -> bytes:
    message = heard.message
    if not isinstance(message, dict) or message.get("method") != "tools/call":
        return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
    result = {"content": [{"type": "text", "text": "done"}]}
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result}))


def call_of(tool: str, message_id: Any, arguments: Any = None) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments or {"secret": SECRET}}
    return {"jsonrpc": "2.0", "id": message_id, "method": "tools/call", "params": params}


async def honest(sidecar: Running, number: int, tool: str = "t") -> None:
    """Calls of somebody else's, which get what they asked for."""
    _, _, body = await sidecar.post(call_of(tool, number, {"n": number}))
    assert body["id"] == number, body
    assert "result" in body, body


async def at_rest(sidecar: Running) -> None:
    """Nothing is held that a call held."""
    plane = sidecar.sidecar.plane

    def held() -> dict[str, Any]:
        connections = [c for c in plane.pool._all if c._receiver is not None and c.patience is not None]
        return {
            "in flight": len(plane.in_flight),
            "refreshing": len(plane.refreshing),
            "slots": plane.bulkhead.in_flight,
            "queued": len(plane.bulkhead.queue),
            "flights": len(plane.flights),
            "pairs": len(plane.pairs),
            "connections": len(connections),
        }

    try:
        await until(lambda: not any(held().values()), "everything to be let go of")
    except AssertionError as error:
        raise AssertionError(f"still held: {held()}") from error
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, Exchange)]
    assert not left, f"{len(left)} exchanges are still in memory"


async def errors(sidecar: Running) -> dict[str, float]:
    """Internal errors by their stage."""
    name = "mcpace_internal_errors_total"
    samples = await sidecar.metrics()
    return {key[len(name) + 8 : -2]: value for key, value in samples.items() if key.startswith(name)}


async def test_a_listener_that_raises_costs_no_call_its_answer(scripted: Scripted, start: Start) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)

    def broken(_: Any) -> None:
        raise KeyError(SECRET)

    heard: list[Any] = []
    sidecar.sidecar.plane.listeners = (broken, heard.append)
    await asyncio.gather(*(honest(sidecar, number) for number in range(20)))
    assert len(heard) == 20, "the others hear of it all the same"
    assert await errors(sidecar) == {"record": 20}
    await at_rest(sidecar)


class Odd(MemoryResults):
    """A store that does what a test says where a call asks it."""

    def __init__(self, does: str) -> None:
        super().__init__(1_000_000)
        self.does = does

    def far(self, places: Sequence[Place], life: float, done: Any) -> None:
        if self.does == "raises":
            raise RecursionError(SECRET)
        if self.does == "never answers":
            return
        super().far(places, life, done)

    def near(self, key: bytes) -> Entry | None:
        if self.does == "raises at last" and self._entries:
            raise KeyError(SECRET)
        return super().near(key)


async def test_a_store_that_raises_ends_the_calls_that_ask_it_and_no_other(
    scripted: Scripted, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    sidecar.sidecar.plane.results = Odd("raises")
    asking = [asyncio.ensure_future(sidecar.post(call_of("cached", n))) for n in range(10)]
    await asyncio.gather(*(honest(sidecar, number) for number in range(10)))
    for number, each in enumerate(asking):
        status, _, body = await each
        assert (status, body["id"], body["error"]["code"]) == (200, number, -32603)
    assert await errors(sidecar) == {"request": 10}
    assert "RecursionError" in caplog.text
    assert "in far" in caplog.text, "the frames are told"
    assert SECRET not in caplog.text, "and nothing that was in them"
    await at_rest(sidecar)


async def test_those_who_joined_a_call_that_broke_ask_for_themselves(
    scripted: Scripted, start: Start
) -> None:
    go = asyncio.Event()

    async def slowly(heard: Heard) -> Any:
        await go.wait()
        yield answered(heard)

    sidecar = await start(scripted.port, CONFIG)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = slowly
    sidecar.sidecar.plane.results = Odd("raises at last")
    calls = [asyncio.ensure_future(sidecar.post(call_of("cached", n))) for n in range(8)]
    await until(lambda: len(sidecar.sidecar.plane.in_flight) == 8, "all calls to be in flight")
    go.set()
    bodies = [(await each)[2] for each in calls]
    assert [body["id"] for body in bodies] == list(range(8))
    await at_rest(sidecar)


async def test_a_call_that_nothing_would_lead_on_is_found_answered_and_counted(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    sidecar.sidecar.plane.results = Odd("never answers")
    lost = asyncio.ensure_future(sidecar.post(call_of("cached", "x")))
    await until(lambda: sidecar.sidecar.plane.in_flight, "the call to ask the store")
    await honest(sidecar, 1)
    _, _, body = await lost
    assert (body["id"], body["error"]["code"]) == ("x", -32603)
    assert await errors(sidecar) == {"lost": 1}
    await at_rest(sidecar)


async def test_a_slot_that_outlived_its_call_is_given_to_the_next(scripted: Scripted, start: Start) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    bulkhead = sidecar.sidecar.plane.bulkhead

    class Dead:
        ended = True
        deadline = 0.0

        def seated(self, left: float) -> None: ...

        def overdue(self) -> None: ...

    for _ in range(8):
        assert bulkhead.enter(Dead())
    samples = await sidecar.metrics()
    assert (samples["mcpace_slots_taken"], samples["mcpace_full"]) == (8, 0)
    status, _ = await sidecar.admin_get("/healthz")
    assert status == 200
    await asyncio.gather(*(honest(sidecar, number) for number in range(3)))
    assert (await errors(sidecar))["lost"] == 8
    await at_rest(sidecar)


async def test_the_end_does_not_wait_for_the_dead(scripted: Scripted, start: Start) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    sidecar.sidecar.plane.results = Odd("never answers")
    lost = asyncio.ensure_future(sidecar.post(call_of("cached", "x")))
    await until(lambda: sidecar.sidecar.plane.in_flight, "the call to ask the store")
    sidecar.sidecar.end()
    async with asyncio.timeout(LOST_AFTER + 5):
        await sidecar.waiting
    assert (await lost)[2]["error"]["code"] == -32603


def test_the_same_fault_is_counted_each_time_and_logged_once_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics(lambda: iter(()))
    faults = Faults(metrics)

    def deeper(text: str) -> None:
        raise ValueError(text)

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            try:
                deeper(SECRET)
            except ValueError as error:
                faults.tell("answer", error)
    assert metrics.counts["mcpace_internal_errors"][("answer",)] == 3
    assert [record.message.count("in deeper") for record in caplog.records] == [1]
    assert SECRET not in caplog.text
