"""Sidecars that are asked: many of them, and those that take their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from tests.kit.upstream import Scripted
from tests.kit.waiting import DEADLINE

from mcpace_cli.cluster import sidecars
from mcpace_cli.cluster.access import SilentError
from mcpace_cli.cluster.sidecars import AdminPort, hear
from mcpace_operator.cluster.client import CONNECTIONS

MANY = 1000


class Counting:
    """A sidecar that says how many are being asked beside it."""

    now = most = 0

    def __init__(self, number: int) -> None:
        self.name = f"weather-{number}"

    async def ask(self, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
        del path, query, body
        cls = type(self)
        cls.now += 1
        cls.most = max(cls.most, cls.now)
        await asyncio.sleep(0)
        cls.now -= 1
        return b"{}"


async def test_no_more_are_asked_at_a_time_than_there_are_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Counting, "most", 0)
    heard = await hear([Counting(number) for number in range(MANY)], "/stats", dict[str, Any])
    assert len(heard.told) == MANY
    assert Counting.most == CONNECTIONS


async def test_one_that_answers_byte_by_byte_has_no_more_time_than_others(monkeypatch: pytest.MonkeyPatch):
    async def byte_by_byte() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    monkeypatch.setattr(sidecars, "ASKING", 0.2)
    slow = Scripted()
    slow.answer = lambda _: byte_by_byte()
    await slow.start()
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SilentError, match=r"does not answer within 0\.2 s"):
                await AdminPort.of(f"http://127.0.0.1:{slow.port}").ask("/stats", {})
    finally:
        await slow.stop()
