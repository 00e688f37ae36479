"""What the admin port shows of calls that hang: where each is, and nothing of what it was given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.admin import calls

SECRET = "correct-horse-battery-staple"
TOKEN = {"Authorization": "Bearer t0ken"}
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'


async def shown(sidecar: Running) -> list[str]:
    status, text = await sidecar.admin_get("/debug/calls", **TOKEN)
    assert status == 200
    return str(text).splitlines()


@contextlib.asynccontextmanager
async def hanging(scripted: Scripted, sidecar: Running, count: int = 1) -> AsyncIterator[None]:
    """So many calls that the server does not answer while this lasts."""
    go = asyncio.Event()

    async def answer(_: Heard) -> Any:
        await go.wait()
        yield json_answer(RESULT)

    scripted.answer = answer
    called = [
        asyncio.ensure_future(
            sidecar.call("get-weather", {"city": SECRET}, X_Api_Key=SECRET, X_Other=SECRET)
        )
        for _ in range(count)
    ]
    try:
        await until(lambda: len(sidecar.in_flight) == count, "the calls to be in flight")
        yield
    finally:
        go.set()
        await asyncio.gather(*called)


async def test_a_call_that_hangs_is_shown_with_what_it_waits_for(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, {"concurrency": {"maxInFlight": 1}}, admin_token="t0ken")
    async with hanging(scripted, sidecar, 2):
        await until(lambda: scripted.calls, "the server to be asked")
        lines = await shown(sidecar)
    assert "2 calls in flight, the longest first" in lines
    first, second = lines[-2:]
    assert "waits for the server" in first, lines
    assert "waits for a slot" in second, lines
    assert any(line.startswith("<Bulkhead 1/1 slots, 1/") for line in lines), lines
    assert any(line.startswith("<Pool 1/1024 connections, 0 idle, 0 waiting") for line in lines), lines
    assert "0 calls in flight, the longest first" in await shown(sidecar)


async def test_neither_arguments_nor_credentials_are_shown(
    scripted: Scripted, start: Start, redis_server: Any
) -> None:
    sidecar = await start(
        scripted.port, {"rateLimits": {}, "cache": {"tools": [{"name": "get-weather", "ttl": "1m"}]}},
        admin_token="t0ken", limits_url=redis_server.url, cache_url=redis_server.url,
    )  # fmt: skip
    async with hanging(scripted, sidecar):
        text = "\n".join(await shown(sidecar))
    assert "<Link limits up" in text, text
    assert "<Link cache up" in text, text
    assert SECRET not in text
    assert "t0ken" not in text


async def test_of_very_many_calls_those_that_have_been_there_for_the_longest_are_shown(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MOST", 3)
    sidecar = await start(scripted.port, admin_token="t0ken")
    async with hanging(scripted, sidecar, 5):
        lines = await shown(sidecar)
    assert "5 calls in flight, the longest first" in lines
    assert lines[-1] == "and 2 more"
    assert len(lines) - lines.index("5 calls in flight, the longest first") == 5, lines


async def test_nothing_is_shown_without_the_token(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, admin_token="t0ken")
    assert (await sidecar.admin_get("/debug/calls"))[0] == 401
    assert (await sidecar.admin_get("/debug/calls", Authorization="Bearer wrong"))[0] == 401
