"""The operator's own port, which any pod of the cluster may reach."""

from __future__ import annotations

import asyncio

from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_operator.health import CONNECTIONS, Health


async def test_whoever_holds_many_connections_keeps_nobody_out_and_is_let_go():
    port = free_port()
    health = Health(port, lambda: iter(()))
    await health.start()
    held = []
    try:
        for _ in range(3 * CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 4000)  # and no more
            held.append((reader, writer))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            assert b"healthy" in await reader.read()
        writer.close()
        await until(
            lambda: sum(reader.at_eof() for reader, _ in held) >= 2 * CONNECTIONS, "the oldest to be let go"
        )
    finally:
        for _, writer in held:
            writer.close()
        await health.close()
