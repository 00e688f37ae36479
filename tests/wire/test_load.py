"""Faults in the midst of load: no call is lost that was not in a dead server's hands."""

from __future__ import annotations

import asyncio
import resource

from tests.kit.load import Load, flood
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


async def test_a_server_killed_and_started_again_costs_only_what_it_held(
    echo: Scripted, start: Start
) -> None:
    sidecar = await start(echo.port, {"upstream": {"connectTimeout": "1s"}})
    load = Load(sidecar)
    await load.reach(300)
    await echo.stop()
    await until(lambda: load.answers["50200"] > 20, "errors of calls")
    await echo.start()
    await load.reach(300)
    answers = await load.stop()
    assert set(answers) == {"result", "50200"}, answers


async def test_a_hundred_reloads_under_load_lose_no_call(echo: Scripted, start: Start) -> None:
    sidecar = await start(
        echo.port, {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1_000_000}]}}
    )
    load = Load(sidecar)
    for number in range(100):
        sidecar.config["rateLimits"]["tiers"][0]["requestsPerMinute"] = 1_000_000 - number
        sidecar.reload()
        await load.reach(5)
    answers = await load.stop()
    assert set(answers) == {"result"}, answers
    assert (await sidecar.metrics())['mcpace_config_reloads_total{result="ok"}'] == 100


async def test_the_end_under_load_loses_no_call_that_was_accepted(echo: Scripted, start: Start) -> None:
    """As in a pod: the Service leads elsewhere, clients are asked away with their answers, then it ends."""
    sidecar, other = await start(echo.port), await start(echo.port)
    load = Load(sidecar)
    await load.reach(300)
    load.port = other.data
    sidecar.drain()
    sidecar.end()
    await sidecar.waiting
    await load.reach(300)
    answers = await load.stop()
    assert set(answers) == {"result"}, answers


async def test_twenty_readers_that_stop_reading_an_endless_stream_hold_no_memory(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = flood
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stalled = []
    for _ in range(20):
        _reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data, limit=1024)
        writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stalled.append(writer)
    connections = sidecar.connections.open

    def held() -> int:
        return sum(c._transport.get_write_buffer_size() for c in connections if c._transport is not None)

    await until(lambda: len(connections) >= 20 and held() > 0, "the streams to stall")
    seen = []
    for _ in range(10):
        await asyncio.sleep(0.1)
        seen.append(held())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert max(seen) < 5_000_000, f"{max(seen)} bytes are held for clients that do not read"
    assert grown < 60, f"the process (with its upstream and its clients) grew by {grown:.0f} MB"
    for writer in stalled:
        writer.transport.abort()
