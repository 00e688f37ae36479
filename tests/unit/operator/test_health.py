"""The operator's own port, which any pod of the cluster may reach."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_operator.health import CONNECTIONS, Health
from mcpace_operator.settings import DEFAULTS


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


async def test_what_the_chart_asks_for_is_answered_where_it_asks():
    folder = Path(__file__).parents[3] / "charts/mcpace/templates/operator"
    text = "\n".join(path.read_text() for path in folder.glob("*.yaml"))
    paths = set(re.findall(r"^\s*path: (/\S+)$", text, flags=re.MULTILINE))
    ports = set(re.findall(r"^\s*(?:containerPort|port): ([0-9]+)$", text, flags=re.MULTILINE))
    assert paths >= {"/healthz", "/readyz", "/metrics"}
    assert ports == {str(DEFAULTS.health_port)}
    port = free_port()
    health = Health(port, lambda: iter(()))
    await health.start()
    try:
        async with aiohttp.ClientSession() as session:
            for path in sorted(paths):
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    assert answer.status == 200, path
    finally:
        await health.close()
