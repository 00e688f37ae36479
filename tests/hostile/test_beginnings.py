"""Who begins sessions, and begins them only: nothing counts `initialize`, so all that it leaves is bounded."""

import asyncio
import itertools
import random

import msgspec
import pytest
from tests.kit.connection import POST, Client
from tests.kit.forgetful import INITIALIZE
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.sidecars import Running, Start, relaying
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.process.heap import resident

LIMITS = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 600, "requestsPerDay": 3}]}}
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
MIB = 1 << 20


class Beginning:
    """A server that begins a session for whoever asks, and remembers none."""

    def __init__(self, server: Scripted) -> None:
        self._server = server
        self._numbers = itertools.count()

    def __call__(self, heard: Heard) -> bytes:
        self._server.heard.clear()
        message = heard.message if heard.body else {}
        if message.get("method") != "initialize":
            return json_answer(RESULT) if "id" in message else ACCEPTED
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return json_answer(body, extra=b"Mcp-Session-Id: %032x\r\n" % next(self._numbers))


async def flood(sidecar: Running, count: int) -> None:
    """Begin sessions, some with more to say of their client than an id carries; use some, and end some."""
    line = await Client.to(sidecar)
    for number in range(count):
        name = random.randbytes(3500).hex() if number % 4 == 0 else "flood"
        params = INITIALIZE | {"clientInfo": {"name": name, "version": "1"}}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        line.writer.write(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        *lines, _, _ = (await line.reads(b"\r\n\r\n")).split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (each.partition(b": ") for each in lines[1:])}
        await line.reader.readexactly(int(fields[b"content-length"]))
        for verb, body in ((b"POST", INITIALIZED), (b"DELETE", b""))[: number % 3]:
            head = b"%b%bMcp-Session-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
            session = fields[b"mcp-session-id"]
            line.writer.write(head % (verb, POST.removeprefix(b"POST"), session, len(body), body))
            assert (await line.reads(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
    line.leave()


@pytest.mark.repeated
@pytest.mark.timeout(1200)
async def test_a_flood_of_initialize_is_bounded_and_moves_no_other_servers_limits(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    """Nothing counts who begins sessions, and the Redis in which they are recorded is every server's."""
    scripted.answer = Beginning(scripted)
    with redis_server.client() as store:
        store.flushall()
        flooded = await start(scripted.port, name="ns/flooded", limits_url=redis_server.url, **relaying())
        other = await start(scripted.port, LIMITS, name="ns/other", limits_url=redis_server.url)
        for each in (flooded, other):
            await until(lambda each=each: each.links[0].up, "Redis to be found")
        assert "result" in (await other.call("t"))[2]
        before, whole = store.info("memory")["used_memory"], repetitions(100_000)
        await asyncio.gather(*(flood(flooded, whole // 16) for _ in range(4)))
        resident_then = resident()
        await asyncio.gather(*(flood(flooded, whole * 3 // 16) for _ in range(4)))
        assert resident() - resident_then < 24 * MIB, "it holds what has come"
        assert (await flooded.metrics())["mcpace_sessions"] <= 10_000
        assert 0 < store.info("memory")["used_memory"] - before < 12 * MIB
        assert store.dbsize() > 1000, "some are recorded"
        for _ in range(2):
            assert "result" in (await other.call("t"))[2]
        assert (await other.call("t"))[2]["error"]["code"] == 42900, "three a day, as ever"
        assert not any(other.shared_limits.decided_without.values()), "Redis has decided"
        store.flushall()
