"""Sidecars that are asked: many of them, slow ones, and those that are no more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mcpace_cli.cluster.sidecars import hear
from mcpace_operator.cluster.client import CONNECTIONS

MANY = 1000


class Counting:
    """A sidecar that says how many are being asked beside it."""

    now = most = 0

    def __init__(self, number: int) -> None:
        self.name = f"weather-{number}"

    async def ask(self, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
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
