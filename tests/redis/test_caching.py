"""The cache that replicas share: joined, purged and leased through a real Redis."""

from __future__ import annotations

import asyncio

import pytest
from tests.kit.caching import SHARED, Counting, number
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until


async def test_identical_calls_of_two_replicas_are_one_call_of_the_server(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    server = Counting(scripted)
    server.go.clear()
    one, other = [await start(scripted.port, SHARED, cache_url=redis_server.url) for _ in range(2)]
    first = asyncio.ensure_future(number(one))
    await until(lambda: server.calls == 1, "the first to reach the server")
    second = asyncio.ensure_future(number(other))
    await until(lambda: len(other.plane.flights) == 1, "the second to look")
    server.go.set()
    assert await asyncio.gather(first, second) == [1, 1]
    assert server.calls == 1


async def test_spellings_of_one_city_are_one_result_for_all_replicas_that_have_the_same_key(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    """In a rollout some have another: under it, what the first spelling was answered may be wrong."""
    server = Counting(scripted)
    folding = {"arguments": ["city"], "ignoreCase": True}
    sidecars = []
    for key in (folding, folding, {"arguments": ["city"]}, None):
        tool = {"name": "t", "ttl": "1m", "scope": "shared"} | ({"key": key} if key is not None else {})
        config = {"cache": {"tools": [tool]}}
        sidecars.append(await start(scripted.port, config, cache_url=redis_server.url))
    for city in ("oslo", "OSLO", "oslo"):
        answers = [(await sidecar.call("t", {"city": city}))[2]["result"]["n"] for sidecar in sidecars]
        assert answers == ([1, 1, 2, 3] if city == "oslo" else [1, 1, 4, 5])
    assert server.calls == 5


async def test_a_replica_that_dies_while_it_leads_holds_the_others_up_only_for_its_lease(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, SHARED, cache_url=redis_server.url)
    await number(sidecar)  # the marks are made
    with redis_server.client() as client:
        (key,) = client.keys("*:result:*")
        client.delete(key)
        sidecar.memory.resize(0, 1)
        client.set(key.replace(b":result:", b":lead:"), b"of-a-dead-replica", px=400)
    assert await number(sidecar) == 2
    assert server.calls == 2


@pytest.mark.parametrize("shared", [False, True])
async def test_a_tool_that_writes_makes_the_results_of_others_old(
    scripted: Scripted, start: Start, redis_server: RedisServer, shared: bool
) -> None:
    server = Counting(scripted)
    config = {
        "cache": {
            "tools": [
                {"name": "t", "ttl": "1m", "scope": "shared"},
                {"name": "write", "invalidates": ["t"]},
            ]
        }
    }
    urls = {"cache_url": redis_server.url} if shared else {}
    one = await start(scripted.port, config, **urls)
    other = await start(scripted.port, config, **urls) if shared else one
    assert [await number(one), await number(other)] == [1, 1]
    await number(one, "write")
    assert await number(one) == 3
    if shared:

        async def fresh() -> bool:
            return await number(other) == 3

        await until(fresh, "the other replica to hear of it")
    assert server.calls == 3


async def test_a_credential_that_the_server_refuses_is_answered_from_the_cache_no_more(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    Counting(scripted)
    config = {"cache": {"tools": [{"name": "t", "ttl": "1m"}]}}
    one, other = [await start(scripted.port, config, cache_url=redis_server.url) for _ in range(2)]
    for sidecar in (one, other):
        assert await number(sidecar, Authorization="Bearer a") == 1
        assert await number(sidecar, Authorization="Bearer b") in (2, 3)
    scripted.answer = lambda _: json_answer(b"{}", b"401 Unauthorized")
    status, _, _ = await one.call("another", Authorization="Bearer a")
    assert status == 401
    for sidecar in (one, other):

        async def refused(sidecar: Running = sidecar) -> bool:
            return (await sidecar.call("t", Authorization="Bearer a"))[0] == 401

        await until(refused, "the revoked credential to be refused everywhere")
        assert (await sidecar.call("t", Authorization="Bearer b"))[0] == 200, (
            "the other one is as good as before"
        )
