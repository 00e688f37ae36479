"""Every call ends, once: what raises is counted and harms no other, and what nobody would lead on is found."""

import asyncio
import logging
from typing import Any

import pytest
from tests.kit.breaking import CONFIG, SECRET, Odd, answered, at_rest, call_of, errors, honest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted
from tests.kit.waiting import until

from mcpace_sidecar.call.answer import LOST_AFTER
from mcpace_sidecar.telemetry.faults import Faults
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies


async def test_a_listener_that_raises_costs_no_call_its_answer(scripted: Scripted, start: Start) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)

    def broken(_: Any) -> None:
        raise KeyError(SECRET)

    heard: list[Any] = []
    sidecar.plane.listeners = (broken, heard.append)
    await asyncio.gather(*(honest(sidecar, number) for number in range(20)))
    assert len(heard) == 20, "the others hear of it all the same"
    assert await errors(sidecar) == {"record": 20}
    await at_rest(sidecar)


async def test_a_store_that_raises_ends_the_calls_that_ask_it_and_no_other(
    scripted: Scripted, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    sidecar.plane.results = Odd("raises")
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
    sidecar.plane.results = Odd("raises at last")
    calls = [asyncio.ensure_future(sidecar.post(call_of("cached", n))) for n in range(8)]
    await sidecar.busy(8)
    go.set()
    bodies = [(await each)[2] for each in calls]
    assert [body["id"] for body in bodies] == list(range(8))
    await at_rest(sidecar)


async def test_a_call_that_nothing_would_lead_on_is_found_answered_and_counted(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    sidecar.plane.results = Odd("never answers")
    lost = asyncio.ensure_future(sidecar.post(call_of("cached", "x")))
    await until(lambda: sidecar.in_flight, "the call to ask the store")
    await honest(sidecar, 1)
    _, _, body = await lost
    assert (body["id"], body["error"]["code"]) == ("x", -32603)
    assert await errors(sidecar) == {"lost": 1}
    await at_rest(sidecar)


async def test_a_slot_that_outlived_its_call_is_given_to_the_next(scripted: Scripted, start: Start) -> None:
    scripted.answer = answered
    sidecar = await start(scripted.port, CONFIG)
    bulkhead = sidecar.plane.bulkhead

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
    sidecar.plane.results = Odd("never answers")
    lost = asyncio.ensure_future(sidecar.post(call_of("cached", "x")))
    await until(lambda: sidecar.in_flight, "the call to ask the store")
    sidecar.end()
    async with asyncio.timeout(LOST_AFTER + 5):
        await sidecar.waiting
    assert (await lost)[2]["error"]["code"] == -32603


def test_the_same_fault_is_counted_each_time_and_logged_once_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics(Tallies(), lambda: iter(()))
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
