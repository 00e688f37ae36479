"""Whoever has a server's Redis credential: what they can do to the others, in a Redis as the chart starts it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from tests.kit.programs import ROOT
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import until
from tools.cluster.binaries import program

from mcpace_operator.masterkey import MasterKey, write_login
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores import shares
from mcpace_operator.stores.redis import Stores, username
from mcpace_sidecar.contract.scripts import BEFORE, PRESENT, TAKE

KEY = MasterKey(b"k" * 32)
HOSTILE, HONEST = (Server(Key("default", name), name, 1, {}, {}) for name in ("hostile", "honest"))
LIMITED = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 600, "requestsPerDay": 10}]}}


def started(folder: Path, store: str, **values: str) -> RedisServer:
    """A Redis with the configuration that the chart renders, in a folder."""
    (folder / "key").mkdir(exist_ok=True)
    (folder / "key/current").write_bytes(KEY.current)
    write_login(store, folder / "key", folder / "users.acl")
    settings = [f"--set=redis.{store}.{name}={value}" for name, value in values.items()]
    command = [str(program("helm")), "template", "x", str(ROOT / "charts/mcpace"), *settings]
    rendered = subprocess.run(
        [*command, "-s", "templates/redis/configmap.yaml"], capture_output=True, text=True, check=True
    )
    configs = [d for d in yaml.safe_load_all(rendered.stdout) if d and d["kind"] == "ConfigMap"]
    (config,) = [c for c in configs if c["metadata"]["name"].endswith(store)]
    (folder / "redis.conf").write_text(config["data"]["redis.conf"].replace("/data", str(folder)))
    password = KEY.derive("redis-admin", store)
    server = RedisServer(folder, config=folder / "redis.conf", password=password)
    server.start()
    return server


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[RedisServer]:
    server = started(tmp_path, "limits", maxMemory="20mb")
    yield server
    server.stop()


@pytest.fixture
async def stores(embedded: RedisServer) -> AsyncIterator[Stores]:
    """The operator's half, with both servers' users made."""
    settings = OperatorSettings(limits_url=embedded.url, embedded=frozenset({"limits"}), master_key=KEY)
    stores = Stores(settings)
    await look(stores)
    yield stores
    await stores.close()


async def look(stores: Stores) -> None:
    """What the operator does every two seconds."""
    await stores.check()
    for server in (HOSTILE, HONEST):
        await stores.credentials(server)
    assert stores.limits is not None
    await stores.limits.tend([HOSTILE.key, HONEST.key])


async def url(stores: Stores, server: Server) -> str:
    return (await stores.credentials(server)).limits_url or ""


def client(embedded: RedisServer, server: Server = HOSTILE) -> redis.Redis:
    password = KEY.derive("redis", server.uid)
    return redis.Redis(port=embedded.port, username=username(server.key), password=password)


async def alone(*sidecars: Running) -> float:
    """How many calls were judged without Redis."""
    mode = 'mcpace_decided_without_redis_total{mode="local"}'
    return sum([(await sidecar.metrics())[mode] for sidecar in sidecars])


@pytest.mark.parametrize(
    "command",
    [
        ("EVAL", "while true do end", 0), ("EVAL_RO", "while true do end", 0), ("EVALSHA_RO", "0" * 40, 0),
        ("SCRIPT", "LOAD", "while true do end"), ("SCRIPT", "FLUSH"), ("SCRIPT", "KILL"),
        ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() end)"),
        ("FUNCTION", "FLUSH"), ("FUNCTION", "DELETE", "x"), ("FUNCTION", "KILL"),
        ("BLPOP", "mcpace:{default/hostile}:x", 0), ("SUBSCRIBE", "mcpace:{default/honest}:purges"),
        ("KEYS", "*"), ("SCAN", 0), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("MONITOR",),
        ("SHUTDOWN", "NOSAVE"), ("ACL", "LIST"), ("MULTI",), ("WAIT", 1, 0),
        ("SET", "mcpace:{default/hostile}:x", "1"), ("APPEND", "mcpace:{default/hostile}:x", "1"),
        ("GET", "mcpace:{default/honest}:minute"), ("HSET", "mcpace:{default/honest}:minute", "tokens", "0"),
    ],
    ids=lambda command: " ".join(map(str, command[:2])),
)  # fmt: skip
def test_a_servers_user_may_not(command: tuple[Any, ...], embedded: RedisServer, stores: Stores) -> None:
    with client(embedded) as hostile, pytest.raises(redis.exceptions.NoPermissionError):
        hostile.execute_command(*command)


def test_a_digest_that_nobody_loaded_is_no_program(embedded: RedisServer, stores: Stores) -> None:
    with client(embedded) as hostile:
        with pytest.raises(redis.exceptions.NoScriptError):
            hostile.execute_command("EVALSHA", "0" * 40, 0)
        keys = [f"mcpace:{{default/hostile}}:{n}" for n in range(5_000)]
        with pytest.raises(redis.exceptions.ResponseError, match="too many keys"):
            hostile.execute_command("FCALL", TAKE.function, len(keys), *keys, 1)


async def test_sidecars_of_before_are_judged_by_the_digests_of_scripts_that_are_loaded(
    embedded: RedisServer, stores: Stores
) -> None:
    charge = ("1", "bucket", "10", "1")
    arguments = [charge, (*charge, "0"), ("me", "15")]
    with client(embedded) as before:
        for number, script in enumerate((*BEFORE, PRESENT)):
            key = f"mcpace:{{default/hostile}}:{number}"
            before.execute_command("EVALSHA", script.digest, 1, key, *arguments[number])


async def test_a_redis_that_restarts_without_the_operator_loses_no_exactness(
    embedded: RedisServer, stores: Stores, scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    where = await url(stores, HONEST)
    await stores.limits.tend([HOSTILE.key, HONEST.key])  # type: ignore[union-attr]
    sidecars = [
        await start(scripted.port, LIMITED, name="default/honest", limits_url=where) for _ in range(2)
    ]
    answered = [("result" in (await sidecars[n % 2].call("t"))[2]) for n in range(6)]
    assert all(answered)
    await stores.close()
    links = [sidecar.links[0] for sidecar in sidecars]
    assert await alone(*sidecars) == 0, "all were judged by Redis"
    connections = [link._nodes.current for link in links]
    embedded.terminate()  # as a kubelet does: what was counted is written
    embedded.start()
    for link, old in zip(links, connections, strict=True):
        # `up` alone would be the connection of before, whose end nobody has read yet.
        await until(
            lambda link=link, old=old: link.up and link._nodes.current is not old, "Redis to be found again"
        )
    later = [("result" in (await sidecars[n % 2].call("t"))[2]) for n in range(8)]
    assert (sum(later), await alone(*sidecars)) == (4, 0), "ten a day, six of which were made before"
    assert all(sidecar.links[0]._functions for sidecar in sidecars)


def fill(hostile: redis.Redis, size: int) -> bool:
    """Keep so many bytes, a thousand at once; whether there was no room for all."""
    answers: list[Any] = []
    pipeline = hostile.pipeline(transaction=False)
    for number in range(size // 1000):
        pipeline.hset(f"mcpace:{{default/hostile}}:{number}", "x", "y" * 900)
        if number % 100 == 99:
            answers += pipeline.execute(raise_on_error=False)
    return any(isinstance(answer, redis.exceptions.OutOfMemoryError) for answer in answers)


async def test_who_fills_the_store_is_cut_off_and_the_others_are_judged_as_before(
    embedded: RedisServer, stores: Stores, scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(
        scripted.port, LIMITED, name="default/honest", limits_url=await url(stores, HONEST)
    )
    assert "result" in (await sidecar.call("t"))[2]
    assert stores.limits is not None
    with client(embedded) as hostile:
        assert fill(hostile, 40_000_000)
        await look(stores)
        with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.AuthenticationError)):
            hostile.ping()
    assert "more than its share" in stores.limits.state(HOSTILE.key).unusable
    assert stores.limits.state(HONEST.key).up
    before = await alone(sidecar)
    assert [("result" in (await sidecar.call("t"))[2]) for _ in range(12)].count(True) == 9, "ten a day"
    assert await alone(sidecar) == before
    await look(stores)
    with client(embedded) as hostile, pytest.raises(redis.exceptions.AuthenticationError):
        hostile.ping()
    stores.limits._cut = dict.fromkeys(stores.limits._cut, 0.0)  # ten minutes later
    await look(stores)
    await look(stores)
    with client(embedded) as hostile:
        assert hostile.ping()


async def test_who_takes_the_connections_is_cut_off(embedded: RedisServer, stores: Stores) -> None:
    with embedded.client(password=KEY.derive("redis-admin", "limits")) as admin:
        admin.config_set("maxclients", 50)
    taken = [client(embedded) for _ in range(45)]
    for each in taken:
        assert each.ping()
    await look(stores)
    with client(embedded, HONEST) as honest:
        assert honest.ping()
    with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.AuthenticationError)):
        taken[0].ping()


async def test_a_store_that_is_not_filling_is_not_weighed(embedded: RedisServer, stores: Stores) -> None:
    assert stores.limits is not None
    await stores.check()
    (node,) = stores.limits._nodes
    assert not shares.is_filling(node.told)
    assert node.told["maxmemory"] == 20 << 20


async def test_the_user_of_a_server_that_went_while_the_operator_was_away_goes(
    embedded: RedisServer, stores: Stores
) -> None:
    settings = OperatorSettings(limits_url=embedded.url, embedded=frozenset({"limits"}), master_key=KEY)
    restarted = Stores(settings)
    await restarted.check()
    await restarted.credentials(HONEST)
    assert restarted.limits is not None
    await restarted.limits.tend([HONEST.key])
    with embedded.client(password=KEY.derive("redis-admin", "limits")) as admin:
        assert sorted(admin.acl_users()) == ["default", "mcpace:default/honest"]
    await restarted.close()


async def test_a_redis_of_yours_that_is_both_stores_gives_one_user_both_parts(
    redis_server: RedisServer, scripted: Scripted, start: Start
) -> None:
    both = OperatorSettings(limits_url=redis_server.url, cache_url=redis_server.url, master_key=KEY)
    stores = Stores(both)
    await stores.check()
    given = await stores.credentials(HONEST)
    scripted.answer = lambda _: json_answer(RESULT)
    config = LIMITED | {"cache": {"tools": [{"name": "cached", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(
        scripted.port, config, name="default/honest", limits_url=given.limits_url, cache_url=given.cache_url
    )
    assert "result" in (await sidecar.call("cached"))[2]
    with redis_server.client() as admin:
        await until(lambda: admin.keys("mcpace:{default/honest}:result:*"), "the result in Redis")
        assert admin.keys("mcpace:{default/honest}:day:*")
    samples = await sidecar.metrics()
    assert samples['mcpace_redis_failures_total{store="limits"}'] == 0
    await stores.close()


@pytest.mark.parametrize("store", ["limits", "cache"])
def test_the_charts_configuration_is_one_that_redis_starts_with(tmp_path: Path, store: str) -> None:
    server = started(tmp_path, store)
    try:
        with server.client(password=KEY.derive("redis-admin", store)) as admin:
            assert admin.config_get("maxmemory-clients")["maxmemory-clients"] == "25%"
    finally:
        server.stop()
