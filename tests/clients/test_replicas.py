"""Sessions of the official clients over several replicas, each request at another: none notices what becomes of them."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.kit.rawsession import RawSession
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.replicas import CLIENTS, Replicas, Started, client, converse, replicas, starting
from tests.kit.waiting import DEADLINE

ONE = "python v1"


@pytest.fixture(params=["redis", "alone"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Started:
    return starting(request, tmp_path)


async def owner(server: Replicas, session: Any) -> int:
    """Which replica holds the session."""
    return server.holder(await session.call("process"))


@pytest.mark.parametrize("name", CLIENTS)
async def test_any_replica_serves_any_session(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path) as server, client(name, server.url) as session:
        assert "count" in await session.do("list")
        assert [await session.call("count") for _ in range(7)] == [*"1234567"]
        assert len({await session.call("process") for _ in range(6)}) == 1
        await converse(session)


async def test_a_session_outlives_its_owner_with_all_that_it_was_told(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        await session.do("level", level="info")
        await session.do("subscribe", uri="memo://one")
        assert [await session.call("count") for _ in range(3)] == [*"123"]
        await server.all[await owner(server, session)].kill()
        assert await session.call("count") == "1"
        assert await session.call("count") == "2"
        await session.hears("notifications/message", logger="mcpace")  # it listens to the new one
        assert await session.call("say", text="after") == "said"
        await session.hears("notifications/message", data="after")
        told = [each["did"] for each in server.done if each["did"] != "start"]
        assert told[:2] == ["level", "subscribe"]
        if server.environment:
            assert told[2:] == ["level", "subscribe"]
        else:  # who begins it again knows what came in there
            assert set(told[2:]) <= {"level", "subscribe"}


@pytest.mark.repeated
@pytest.mark.timeout(600)
async def test_sixty_calls_at_once_after_a_loss_find_one_session(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        await session.call("count")
        for number in range(repetitions(25)):
            holds = await owner(server, session)
            parts = ((), ("sidecar",), ("server",))[number % 3]
            await server.all[holds].kill(*parts)
            counts = await asyncio.gather(*(session.call("count") for _ in range(60)))
            assert sorted(map(int, counts)) == list(range(1, 61)), f"loss {number} of {parts}"
            await server.all[holds].start(*parts)


async def test_calls_that_come_over_after_a_loss_wait_for_the_slots_of_who_takes_them(
    started: Started,
) -> None:
    async with started(2, {"concurrency": {"maxInFlight": 1, "maxQueued": 100}}) as server:
        session = await RawSession(server.url).begin()
        await server.all[server.holder(await session.call("process"))].kill()
        told = await asyncio.gather(*(session.call("write", word="w", seconds=0.05) for _ in range(12)))
        assert told == ["wrote w"] * 12
        assert [each["did"] for each in server.done if each["did"] != "start"] == ["write", "wrote"] * 12


async def test_a_call_whose_owner_ends_is_told_so_and_the_session_goes_on(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        holds = await owner(server, session)
        server.next = (holds + 1) % 3
        call = session.ask("call", tool="write", arguments={"word": "once", "seconds": 30})
        while not any(each["did"] == "write" for each in server.done):
            await asyncio.sleep(0.01)
        await server.all[holds].kill()
        async with asyncio.timeout(DEADLINE):
            told = await call
        assert "effect is unknown" in str(told), told
        assert await session.call("count") == "1"
        assert [each["did"] for each in server.done].count("write") == 1


async def test_a_session_outlives_the_replica_that_took_its_requests(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        holds = await owner(server, session)
        assert await session.call("count") == "1"
        await server.all[(holds + 1) % 3].kill()
        assert [await session.call("count") for _ in range(4)] == [*"2345"]


async def test_a_session_moves_where_only_its_server_ends(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        holds = await owner(server, session)
        await server.all[holds].kill("server")
        assert [await session.call("count") for _ in range(6)] == [*"123456"]
        assert await owner(server, session) != holds


async def test_one_replica_after_another_is_lost_and_comes_back(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        for _ in range(4):
            holds = await owner(server, session)
            await server.all[holds].kill()
            assert await session.call("count") == "1"
            await server.all[holds].start()


async def test_a_flushed_redis_loses_no_session(redis_server: RedisServer, tmp_path: Path) -> None:
    async with (
        replicas(tmp_path, MCPACE_LIMITS_URL=redis_server.url) as server,
        client(ONE, server.url) as session,
    ):
        holds = await owner(server, session)
        with redis_server.client() as store:
            store.flushall()
        assert await session.call("count") == "1"
        await server.all[holds].kill()
        assert await session.call("count") == "1"


async def test_a_redis_that_goes_away_loses_no_session(tmp_path: Path) -> None:
    redis_server = RedisServer(tmp_path)
    redis_server.start()
    try:
        async with (
            replicas(tmp_path, MCPACE_LIMITS_URL=redis_server.url) as server,
            client(ONE, server.url) as session,
        ):
            holds = await owner(server, session)
            redis_server.stop()
            assert await session.call("count") == "1"
            await server.all[holds].kill()
            assert [await session.call("count") for _ in range(5)] == [*"12345"]
            redis_server.start()
            holds = await owner(server, session)
            await server.all[holds].kill(by=signal.SIGTERM)
            assert [await session.call("count") for _ in range(2)] == [*"12"]
    finally:
        redis_server.stop()


async def test_another_credential_on_a_lost_session_is_refused_and_nothing_is_made_or_changed(
    started: Started, redis_server: RedisServer
) -> None:
    def records() -> list[dict[bytes, bytes]]:
        with redis_server.client() as store:
            return [store.hgetall(key) for key in store.scan_iter("*:session:*")]

    async with started() as server:
        server.begins = 0
        session = await RawSession(server.url, Authorization="Bearer one").begin()
        assert await session.call("count") == "1"
        recorded = records()
        assert len(recorded) == bool(server.environment)
        await server.all[0].kill()
        for _ in range(4):
            assert (await session.asks("count", headers={"Authorization": "Bearer two"})).status == 404
            session.headers, credential = {}, session.headers
            assert (await session.asks("count")).status == 404
            session.headers = credential
        assert records() == recorded
        assert [await session.call("count") for _ in range(3)] == [*"123"]


async def test_a_session_that_its_client_has_ended_is_ended_at_every_replica(started: Started) -> None:
    async with started() as server:
        server.begins = 0
        session = await RawSession(server.url).begin()
        assert (await session.send("DELETE", url=server.all[1].url)).status == 200
        for number in (2, 1, 0, 2):
            assert (await session.asks("count", server.all[number].url)).status == 404
        await server.all[0].kill()
        for number in (2, 1):
            assert (await session.asks("count", server.all[number].url)).status == 404


async def test_what_sidecars_tell_each_other_no_client_can_say_and_none_hears(started: Started) -> None:
    async with started() as server:
        server.begins = 0
        session = await RawSession(server.url).begin()
        said = {
            "Mcpace-Epoch": "7 7", "Mcpace-Binding": "00" * 8, "Mcpace-Adopt": "127.0.0.9 9 9 9",
            "Mcpace-Reason": "asks", "Mcpace-Client": "WyJhbm4iLG51bGwsZmFsc2UsIiJd",
        }  # fmt: skip
        for replica in server.all:
            told = await session.asks("count", replica.url, said)
            assert told.status == 200
            assert not any(name.startswith("mcpace") for name in told.fields)


async def test_a_call_is_limited_and_counted_where_it_comes_in_and_nowhere_else(started: Started) -> None:
    config = {"rateLimits": {"tiers": [{"name": "all", "requestsPerMinute": 6}]}}
    async with started(2, config) as server:
        server.begins = 0
        session = await RawSession(server.url).begin()
        assert (await session.asks("count", server.all[1].url)).status == 200
        assert [await each.metric("mcp_tool_calls_total") for each in server.all] == [0, 1]
