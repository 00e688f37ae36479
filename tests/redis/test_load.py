"""Faults in the midst of load: no call is lost that was not in a dead server's hands."""

import asyncio
import contextlib
import resource
from collections import Counter
from typing import Any

import pytest
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, SSE, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}'
REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"MCP-Protocol-Version: 2026-07-28\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Load:
    """Clients that call without a pause over kept connections, and count what they are answered."""

    def __init__(self, sidecar: Running, clients: int = 8) -> None:
        self.port = sidecar.data  # a client that is asked away goes wherever this leads by then
        self.answers: Counter[str] = Counter()
        self.stopping = False
        self.tasks = [asyncio.ensure_future(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        while not self.stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.answers["no connection"] += 1
                if self.answers["no connection"] > 50:
                    return
                await asyncio.sleep(0.01)
                continue
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._call(reader, writer)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.stopping:
            writer.write(REQUEST)
            head = b""
            try:
                async with asyncio.timeout(DEADLINE):
                    head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = await reader.readexactly(length)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.answers["closed without an answer" if not head else "cut"] += 1
                raise
            if b'"result"' in body:
                self.answers["result"] += 1
            else:
                self.answers[body.partition(b'"code":')[2].partition(b",")[0].decode()] += 1
            if b"connection: close" in head.lower():
                return

    async def reach(self, count: int) -> None:
        wanted = self.answers["result"] + count
        await until(lambda: self.answers["result"] >= wanted, f"{wanted} results, of {dict(self.answers)}")

    async def stop(self) -> Counter[str]:
        self.stopping = True
        await asyncio.gather(*self.tasks)
        return self.answers


@pytest.fixture
def echo(scripted: Scripted) -> Scripted:
    scripted.answer = lambda _: json_answer(RESULT)
    return scripted


def limited(when_down: str, per_minute: int = 1_000_000) -> dict[str, Any]:
    tiers = [{"name": "free", "requestsPerMinute": per_minute}]
    return {"rateLimits": {"tiers": tiers, "whenRedisIsDown": when_down}}


@pytest.mark.parametrize("when_down", ["local", "open", "closed"])
async def test_redis_ended_and_brought_back_empty_under_load(
    echo: Scripted, start: Start, redis_server: RedisServer, when_down: str
) -> None:
    config = limited(when_down) | {"cache": {"tools": [{"name": "other", "ttl": "1m"}]}}
    urls = {"limits_url": redis_server.url, "cache_url": redis_server.url}
    sidecar = await start(echo.port, config, **urls)
    load = Load(sidecar)
    await load.reach(300)
    redis_server.stop()
    limits = sidecar.sidecar._redis_limits
    await until(lambda: limits.decided_without[when_down] > 50, "decisions without Redis")
    redis_server.start()
    await until(lambda: limits.link.up, "Redis to be found again")
    await load.reach(300)
    answers = await load.stop()
    assert set(answers) <= ({"result", "42900"} if when_down == "closed" else {"result"}), answers


async def test_a_slow_redis_is_left_alone_and_no_call_waits_for_it(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecar = await start(echo.port, limited("open", 600), limits_url=redis_server.url)
    load = Load(sidecar)
    await load.reach(100)
    with redis_server.client() as client:
        client.client_pause(2_000)
        limits = sidecar.sidecar._redis_limits
        await until(lambda: not limits.link.up, "Redis to count as down")
        await load.reach(300)
    answers = await load.stop()
    assert set(answers) <= {"result", "42900"}, answers


async def test_a_flushed_redis_admits_at_most_one_fresh_bucket_more(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecars = [
        await start(echo.port, limited("local", 300), limits_url=redis_server.url) for _ in range(2)
    ]
    loop = asyncio.get_running_loop()
    began = loop.time()
    loads = [Load(sidecar, 4) for sidecar in sidecars]

    def results() -> int:
        return sum(load.answers["result"] for load in loads)

    await until(lambda: results() >= 300, "the bucket to be empty")
    with redis_server.client() as client:
        client.flushall()
    await until(lambda: sum(load.answers["42900"] for load in loads) > 500, "refusals")
    answers = [await load.stop() for load in loads]
    admitted = sum(a["result"] for a in answers)
    assert admitted <= 600 + (loop.time() - began) * 5 + 1
    assert all(set(a) <= {"result", "42900"} for a in answers)


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
    sidecar = await start(echo.port, limited("local"))
    load = Load(sidecar)
    for number in range(100):
        sidecar.config["rateLimits"]["tiers"][0]["requestsPerMinute"] = 1_000_000 - number
        sidecar.sidecar.reload()
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
    sidecar.sidecar.drain()
    sidecar.sidecar.end()
    await sidecar.waiting
    await load.reach(300)
    answers = await load.stop()
    assert set(answers) == {"result"}, answers


async def flood(heard: Heard) -> Any:
    """A server whose stream never ends."""
    if not heard.line.startswith(b"GET"):
        yield json_answer(RESULT)
        return
    yield SSE
    while True:
        yield b"8000\r\n" + b"x" * 32768 + b"\r\n"


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
    connections = sidecar.sidecar._connections.open

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
