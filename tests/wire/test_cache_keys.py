"""A manifest's own keys on the wire: calls that differ in what it does not name are one, and no others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.kit.caching import Counting
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


def keyed(**more: Any) -> dict[str, Any]:
    key = {"arguments": ["city"], "ignoreCase": True}
    return {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared", "key": key} | more]}}


async def number(sidecar: Running, arguments: dict[str, Any], **headers: str) -> int:
    return int((await sidecar.call("t", arguments, **headers))[2]["result"]["n"])


async def written(sidecar: Running, arguments: bytes) -> Any:
    """The answer to a call with arguments as they are written here."""
    params = b'{"name":"t","arguments":%b}' % arguments
    return (await sidecar.post(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params))[2]


async def test_spellings_of_one_city_are_one_call_of_the_server_whatever_else_is_asked(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed())
    for city in ("Oslo", "OSLO", " oslo\n"):
        assert await number(sidecar, {"city": city}) == 1
        assert await number(sidecar, {"lang": "no", "city": city, "days": 3}) == 1
    assert await number(sidecar, {"city": "Bergen"}) == 2
    assert await number(sidecar, {"city": ["Oslo"]}) == 3
    for _ in range(2):
        assert await number(sidecar, {}) == 4
    assert server.calls == 4


async def test_spellings_of_one_city_that_come_at_once_are_one_call_of_the_server(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed())
    server.go.clear()
    cities = [{"city": "Oslo"}, {"city": "oslo", "lang": "no"}, {"city": "OSLO "}]
    calls = [asyncio.ensure_future(number(sidecar, each)) for each in cities]
    await until(lambda: server.calls == 1, "one to lead")
    await sidecar.busy(3)
    server.go.set()
    assert await asyncio.gather(*calls) == [1] * 3
    assert server.calls == 1


async def test_an_old_result_is_fetched_anew_once_for_all_spellings(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed(staleWhileRevalidate="1h"))
    assert await number(sidecar, {"city": "Oslo"}) == 1
    for entry in sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001
    server.go.clear()
    assert await number(sidecar, {"city": "OSLO"}) == 1
    await until(lambda: server.calls == 2, "the refresh to reach the server")
    assert await number(sidecar, {"city": "oslo", "lang": "no"}) == 1
    server.go.set()
    await until(lambda: not sidecar.plane.flights, "the refresh to land")
    for city in ("Oslo", "oslo"):
        assert await number(sidecar, {"city": city}) == 2
    assert server.calls == 2


async def test_each_client_has_its_own_result_of_a_city(scripted: Scripted, start: Start) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed(scope="client"))
    for city in ("Oslo", "OSLO"):
        assert await number(sidecar, {"city": city}, Authorization="Bearer a") == 1
        assert await number(sidecar, {"city": city}, Authorization="Bearer b") == 2
    assert server.calls == 2


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"city":"Oslo","city":"Bergen"}',
        b'{"city":"Bergen","city":"Oslo"}',
        b'{"city":"Oslo","c\\u0069ty":"Bergen"}',
        b'{"city":"Oslo","other":{"a":1,"a":2}}',
    ],
)
async def test_arguments_in_which_a_name_stands_twice_reach_neither_the_server_nor_the_cache(
    scripted: Scripted, start: Start, arguments: bytes
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed())
    for calls in (0, 1):
        answer = await written(sidecar, arguments)
        assert "stands twice" in answer["error"]["message"], answer
        assert server.calls == calls
        assert await number(sidecar, {"city": "Oslo"}) == 1
    assert await number(sidecar, {"city": "Bergen"}) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"City":"Bergen"}',
        b'{"city":"Oslo","CITY":"Bergen"}',
        b'{"lang":"no"}',
        b'["Oslo"]',
        b'"Oslo"',
        b"null",
        b'{"city":"Oslo","n":-0}',
        b'{"city":"\\ud800Oslo"}',
    ],
)
async def test_what_servers_may_read_otherwise_is_asked_each_time_and_kept_for_nobody(
    scripted: Scripted, start: Start, arguments: bytes
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, keyed())
    answers = [await written(sidecar, arguments) for _ in range(2)]
    assert [answer["result"]["n"] for answer in answers] == [1, 2]
    assert await number(sidecar, {"city": "Oslo"}) == 3
    assert await number(sidecar, {}) == 4
    assert (await written(sidecar, arguments))["result"]["n"] == 5
    assert await number(sidecar, {"city": "Oslo"}) == 3
    assert server.calls == 5
