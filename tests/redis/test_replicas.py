"""What replicas share through a real Redis, and what happens without it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.contract.scripts import library
from mcpace_sidecar.limits.bucket import Charge, Charges, Verdict
from mcpace_sidecar.limits.redis import RedisLimits
from mcpace_sidecar.redis.link import Link


def tier(minute: int, when_down: str = "local", day: int | None = None) -> dict[str, Any]:
    free: dict[str, Any] = {"name": "free", "requestsPerMinute": minute}
    if day is not None:
        free["requestsPerDay"] = day
    return {"rateLimits": {"tiers": [free], "whenRedisIsDown": when_down}}


async def taken(limits: RedisLimits, charges: Charges) -> Verdict:
    """Take, and wait for the verdict where it must be waited for."""
    told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    verdict = limits.take(charges)
    if verdict is None:
        limits.ask(charges, told.set_result)
        verdict = await told
    return verdict


async def answered(sidecars: list[Running], calls: int) -> int:
    """Make calls at once, in turn through each sidecar; return how many were answered."""
    results = await asyncio.gather(*(sidecars[n % len(sidecars)].call("t") for n in range(calls)))
    for _, _, body in results:
        assert "result" in body or body["error"]["code"] == 42900, body
    return sum("result" in body for _, _, body in results)


async def exactly(sidecars: list[Running], calls: int, limit: int, per_minute: int | None = None) -> None:
    """Make calls at once: the limit is answered, and what refilled meanwhile."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    got = await answered(sidecars, calls)
    refill = (loop.time() - began) * (per_minute or limit) / 60
    assert limit <= got <= limit + refill + 1, f"{got} answered, {limit} + {refill:.2f} allowed"


@pytest.fixture
def echo(scripted: Scripted) -> Scripted:
    scripted.answer = lambda _: json_answer(RESULT)
    return scripted


async def test_several_sidecars_never_answer_more_than_the_limit_together(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecars = [await start(echo.port, tier(10), limits_url=redis_server.url) for _ in range(3)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    got = await answered(sidecars, 30)
    refill = (loop.time() - began) * 10 / 60
    alone = sum([(await s.metrics())['mcpace_decided_without_redis_total{mode="local"}'] for s in sidecars])
    assert 10 <= got <= 10 + refill, f"{got} answered, {alone:.0f} decided without Redis"


async def test_a_day_quota_is_shared_and_ends_at_midnight_utc(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecars = [await start(echo.port, tier(1000, day=7), limits_url=redis_server.url) for _ in range(2)]
    assert await answered(sidecars, 20) == 7
    _, _, body = await sidecars[0].call("t")
    assert body["error"]["data"]["limit"] == "day"
    with redis_server.client() as client:
        seconds, _ = client.time()
        left = 86400 - seconds % 86400
        assert abs(body["error"]["data"]["retryAfterMs"] / 1000 - left) < 5
        (key,) = client.keys("*:day:*")
        assert abs(client.ttl(key) - left) < 5


async def test_the_charges_of_one_call_are_taken_in_redis_all_or_none(redis_server: RedisServer) -> None:
    link = Link("limits", RedisAddress(redis_server.url), "p:")
    await link.connect()
    limits = RedisLimits(link, lambda: "closed")
    wide, narrow = Charge("wide", "minute", 10), Charge("narrow", "tool", 1)
    both, one = Charges([wide, narrow]), Charges([wide])
    assert (await taken(limits, both)).allowed
    refused = await taken(limits, both)
    assert (refused.allowed, refused.kind) == (False, "tool")
    assert 0 < refused.retry_after <= 60
    assert [(await taken(limits, one)).allowed for _ in range(11)].count(True) == 9
    await link.close()


async def test_a_bucket_in_redis_is_refilled_at_its_rate(redis_server: RedisServer) -> None:
    link = Link("limits", RedisAddress(redis_server.url), "p:")
    await link.connect()
    limits, slow = RedisLimits(link, lambda: "closed"), Charges([Charge("slow", "minute", 20, rate=6)])
    assert all([(await taken(limits, slow)).allowed for _ in range(20)])
    refused = await taken(limits, slow)
    assert not refused.allowed
    assert 60 / 20 < refused.retry_after <= 60 / 6
    with redis_server.client() as client:
        assert 60_000 < client.pttl("p:slow") <= 200_000
    await link.close()


async def test_a_result_cached_by_one_replica_is_a_hit_in_another(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    config = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    one, other = [await start(echo.port, config, cache_url=redis_server.url) for _ in range(2)]
    await one.call("t")
    with redis_server.client() as client:
        await until(lambda: client.keys("*:result:*"), "the result in Redis")
        (key,) = client.keys("*:result:*")
        assert 0 < client.pttl(key) <= 60_000
    assert "result" in (await other.call("t"))[2]
    assert len(echo.calls) == 1
    assert (await other.metrics())['mcpace_cache_requests_total{result="redis",tool="t"}'] == 1
    await other.call("t")
    assert (await other.metrics())['mcpace_cache_requests_total{result="memory",tool="t"}'] == 1


async def test_servers_of_one_name_in_two_namespaces_share_nothing(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    config = tier(1) | {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    urls = {"limits_url": redis_server.url, "cache_url": redis_server.url}
    one = await start(echo.port, config, name="a/weather", **urls)
    other = await start(echo.port, config, name="b/weather", **urls)
    for sidecar in (one, other):
        assert "result" in (await sidecar.call("t"))[2]
    assert len(echo.calls) == 2


async def test_without_redis_each_replica_gives_its_share_and_afterwards_at_most_one_fresh_bucket(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecars = [await start(echo.port, tier(20), limits_url=redis_server.url) for _ in range(2)]
    await until(
        lambda: all(s.shared_limits.replicas == 2 for s in sidecars[1:]),
        "the replicas to be counted",
    )
    for sidecar in sidecars:
        sidecar.shared_limits.local.replicas = 2  # the first learns it a little later
    await exactly(sidecars, 30, 20)
    redis_server.stop()
    await exactly(sidecars, 40, 20)  # ten each, from memory
    samples = await sidecars[0].metrics()
    assert samples['mcpace_decided_without_redis_total{mode="local"}'] >= 10
    assert samples['mcpace_redis_up{store="limits"}'] == 0
    redis_server.start()
    for sidecar in sidecars:
        await until(lambda s=sidecar: s.shared_limits.link.up, "Redis to be found again")
    await exactly(sidecars, 40, 20)
    await exactly(sidecars, 10, 0, per_minute=20)


async def test_open_answers_every_call_while_redis_is_down(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecar = await start(echo.port, tier(1, "open"), limits_url=redis_server.url)
    redis_server.stop()
    assert await answered([sidecar], 10) == 10
    assert (await sidecar.metrics())['mcpace_decided_without_redis_total{mode="open"}'] == 10


async def test_closed_refuses_every_call_while_redis_is_down(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecar = await start(echo.port, tier(10, "closed"), limits_url=redis_server.url)
    redis_server.stop()
    assert await answered([sidecar], 10) == 0
    _, headers, body = await sidecar.call("t")
    assert body["error"]["message"] == "Limits cannot be checked now: retry shortly."
    assert headers["retry-after"] == "1"


async def test_a_sidecar_starts_without_redis_and_uses_it_once_it_is_there(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    redis_server.stop()
    sidecar = await start(echo.port, tier(5), limits_url=redis_server.url)
    await exactly([sidecar], 10, 5)
    redis_server.start()
    await until(lambda: sidecar.shared_limits.link.up, "Redis to be found")
    await exactly([sidecar], 10, 5)


async def test_a_hung_redis_holds_no_call_up_for_long(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    config = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(echo.port, config, cache_url=redis_server.url)
    with redis_server.client() as client:
        client.client_pause(5_000)
    assert "result" in (await sidecar.call("t"))[2]
    assert not sidecar.plane.results.link.up
    assert "result" in (await sidecar.call("t"))[2]


async def test_a_limited_redis_user_is_enough(
    echo: Scripted, start: Start, redis_server: RedisServer
) -> None:
    from mcpace_operator.stores.redis import COMMANDS  # noqa: PLC0415 - the operator's half of this contract

    with redis_server.client() as client:
        for name in ("one", "two"):
            client.execute_command(
                "ACL",
                "SETUSER",
                f"u-{name}",
                "on",
                f">{name}",
                "resetkeys",
                f"~mcpace:{{ns/{name}}}:*",
                "resetchannels",
                f"&mcpace:{{ns/{name}}}:*",
                "-@all",
                *(f"+{command}" for command in COMMANDS["limits"] + COMMANDS["cache"]),
            )
        client.function_load(library())
    url = redis_server.url.replace("//", "//u-one:one@")
    config = tier(2) | {"cache": {"tools": [{"name": "cached", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(echo.port, config, name="ns/one", limits_url=url, cache_url=url)
    assert await answered([sidecar], 5) == 2
    await sidecar.call("cached")
    with redis_server.client() as client:
        await until(lambda: client.keys("mcpace:{ns/one}:*"), "its keys")
        keys = client.keys("*")
    assert (await sidecar.metrics())['mcpace_redis_failures_total{store="limits"}'] == 0
    with redis_server.client(username="u-two", password="two") as other:
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.publish("mcpace:{ns/one}:purges", "all")
        for key in keys:
            for command in (("GET", key), ("HGETALL", key), ("DEL", key), ("SET", key, "x")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    other.execute_command(*command)
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.keys("*")
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.execute_command("SCAN", 0)
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.eval("return redis.call('GET', KEYS[1])", 1, keys[0])


async def test_passwords_reach_neither_logs_nor_metrics(
    echo: Scripted, start: Start, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    url = redis_server.url.replace("//", "//user:hush-hush@")
    sidecar = await start(echo.port, tier(1), limits_url=url, cache_url=url, admin_token="t0ken")
    await sidecar.call("t")
    assert "hush-hush" not in caplog.text
    assert "hush-hush" not in msgspec.json.encode(await sidecar.metrics()).decode()


async def test_a_redis_without_functions_is_sent_scripts(
    echo: Scripted, start: Start, tmp_path: Path
) -> None:
    """As before version 7: neither command is known."""
    unknown = [part for name in ("FCALL", "FUNCTION") for part in ("--rename-command", name, "")]
    server = RedisServer(tmp_path, *unknown)
    server.start()
    try:
        stores = Stores(OperatorSettings(limits_url=server.url, master_key=MasterKey(b"k" * 32)))
        await stores.check()
        given = await stores.credentials(Server(Key("ns", "one"), "uid", 1, {}, {}))
        await stores.close()
        for url in (server.url, given.limits_url):
            sidecars = [
                await start(echo.port, tier(600, day=5), name="ns/one", limits_url=url) for _ in range(2)
            ]
            assert await answered(sidecars, 12) == 5
            with server.client() as client:
                client.script_flush()  # as a restart forgets them
                client.delete(*client.keys("*:day:*"))
            await until(lambda s=sidecars[0]: s.links[0].up, "the link")
            for sidecar in sidecars:
                sidecar.shared_limits._accounts.clear()
            assert await answered(sidecars, 12) == 5
            for sidecar in sidecars:
                assert (await sidecar.metrics())['mcpace_decided_without_redis_total{mode="local"}'] == 0
            with server.client() as client:
                client.flushall()
    finally:
        server.stop()
