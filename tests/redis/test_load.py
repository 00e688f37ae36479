"""A Redis that fails in the midst of load: no call is lost, and few are too many."""

import asyncio
from typing import Any

import pytest
from tests.kit.load import Load
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


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
    limits = sidecar.shared_limits
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
        limits = sidecar.shared_limits
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
