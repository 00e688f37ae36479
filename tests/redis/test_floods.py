"""What nothing counts fills no store that others share: who begins sessions without end, and ends them."""

import asyncio
import os
import re
from typing import Any

import msgspec
import pytest
from tests.kit.forgetful import INITIALIZE, Forgetful
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted
from tools.ports import free_port

from mcpace_sidecar.http.address import Address

FLOOD = 50_000
CONNECTIONS = 10
LONG = INITIALIZE | {"clientInfo": {"name": "flood", "version": os.urandom(3000).hex()}}
"""What no id carries, so that all of it would be recorded."""
TIERS: dict[str, Any] = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3}]}}


async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The head of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head


async def begins_and_ends(sidecar: Running, sessions: int) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": LONG}
    body = msgspec.json.encode(message)
    host = b"Host: localhost\r\n"
    begin = b"POST /mcp HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        host, len(body), body,
    )  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    for number in range(sessions):
        named = re.search(rb"(?i)mcp-session-id: [^\r]+\r\n", await asks(reader, writer, begin))
        assert named is not None
        if number % 2:
            await asks(reader, writer, b"DELETE /mcp HTTP/1.1\r\n%b%b\r\n" % (host, named[0]))
    writer.close()


@pytest.mark.repeated
@pytest.mark.timeout(1200)
async def test_a_flood_of_sessions_moves_no_other_servers_limits(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    scripted.answer = Forgetful()
    flooded = await start(
        scripted.port, TIERS, name="ns/flooded", limits_url=redis_server.url, session_keys=(b"k" * 32,),
        relay_listen=Address("127.0.0.1", free_port()),
    )  # fmt: skip
    other = await start(scripted.port, TIERS, name="ns/other", limits_url=redis_server.url)
    with redis_server.client() as client:
        before = client.info("memory")["used_memory"]
        client.config_set("maxmemory", before + (16 << 20))
        each = repetitions(FLOOD) // CONNECTIONS
        await asyncio.gather(*(begins_and_ends(flooded, each) for _ in range(CONNECTIONS)))
        grown = client.info("memory")["used_memory"] - before
    assert grown < 12 << 20, f"{grown >> 10} KiB of {each * CONNECTIONS} sessions"
    assert (await flooded.metrics())["mcpace_sessions"] <= 10_000
    codes = [(await other.call("t"))[2]["error"]["code"] for _ in range(5)]  # its server knows no session
    assert codes == [-32600, -32600, -32600, 42900, 42900]
    assert not any(other.shared_limits.decided_without.values()), "Redis has decided"
