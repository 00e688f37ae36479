"""Sessions of the official clients over several replicas, each request at another: none notices what becomes of them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.kit.redis import RedisServer
from tests.kit.replicas import CLIENTS, Replicas, client, replicas

Started = Callable[..., AbstractAsyncContextManager[Replicas]]
ONE = "python v1"


@pytest.fixture(params=["redis", "alone"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Started:
    """Replicas that share a Redis, or know each other only."""

    @asynccontextmanager
    async def start(number: int = 3, config: dict[str, Any] | None = None) -> AsyncIterator[Replicas]:
        environment = {}
        if request.param == "redis":
            redis_server: RedisServer = request.getfixturevalue("redis_server")
            with redis_server.client() as store:
                store.flushall()
            environment["MCPACE_LIMITS_URL"] = redis_server.url
        async with replicas(tmp_path, number, config, **environment) as made:
            yield made

    return start


async def owner(server: Replicas, session: Any) -> int:
    """Which replica holds the session."""
    process = int(await session.call("process"))
    return next(
        n
        for n, each in enumerate(server.all)
        if "server" in each.processes and each.processes["server"].pid == process
    )


@pytest.mark.parametrize("name", CLIENTS)
async def test_any_replica_serves_any_session(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path) as server, client(name, server.url) as session:
        assert "count" in await session.do("list")
        assert [await session.call("count") for _ in range(7)] == [*"1234567"]
        assert len({await session.call("process") for _ in range(6)}) == 1
        assert await session.call("sample", text="hi") == "sampled hi"
        assert await session.call("ask") == "accept Ada"
        told = await session.do("call", tool="slow", arguments={"steps": 3, "seconds": 0.02}, progress=True)
        assert told["content"][0]["text"] == "3 steps"
        assert [each["progress"] for each in session.heard if each["heard"] == "progress"] == [1, 2, 3]
        await session.do("level", level="info")
        await session.do("subscribe", uri="memo://one")
        assert await session.call("say", text="hello") == "said"
        await session.hears("notifications/message", data="hello")
        await session.hears("notifications/tools/list_changed")
        await session.hears("notifications/resources/updated")


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
        assert told in (
            [["level", "subscribe"] * 2]
            if server.environment
            else [["level", "subscribe"] * n for n in (1, 2)]
        )


async def test_sixty_calls_at_once_after_a_loss_find_one_session(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        await session.call("count")
        await server.all[await owner(server, session)].kill()
        counts = await asyncio.gather(*(session.call("count") for _ in range(60)))
        assert sorted(map(int, counts)) == list(range(1, 61))


async def test_a_call_whose_owner_ends_is_told_so_and_the_session_goes_on(started: Started) -> None:
    async with started() as server, client(ONE, server.url) as session:
        holds = await owner(server, session)
        server.next = (holds + 1) % 3
        call = session.ask("call", tool="write", arguments={"word": "once", "seconds": 30})
        while not any(each["did"] == "write" for each in server.done):
            await asyncio.sleep(0.01)
        await server.all[holds].kill()
        async with asyncio.timeout(20):
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


async def post(
    server: Replicas, message: dict[str, Any], **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request through the Service: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
    body = json.dumps({"jsonrpc": "2.0"} | message).encode()
    lines = {
        "Host": "localhost", "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json", "Content-Length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(20):
        answer = await reader.read(-1)
    writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    status, *fields = top.decode().split("\r\n")
    return int(status.split()[1]), {n.lower(): v for n, _, v in (f.partition(": ") for f in fields)}, rest


HELLO = {
    "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
}  # fmt: skip


def called(tool: str) -> dict[str, Any]:
    return {"id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


async def begun(server: Replicas, **headers: str) -> str:
    """A session that has begun at the first replica."""
    server.next = 0
    status, told, body = await post(server, HELLO, **headers)
    assert status == 200, body
    session = told["mcp-session-id"]
    status, _, _ = await post(
        server, {"method": "notifications/initialized"}, mcp_session_id=session, **headers
    )
    assert status == 202
    return session


async def test_another_credential_on_a_lost_session_is_refused_and_nothing_is_made(
    started: Started,
) -> None:
    async with started() as server:
        session = await begun(server, authorization="Bearer one")
        assert (
            b"1"
            in (await post(server, called("count"), mcp_session_id=session, authorization="Bearer one"))[2]
        )
        await server.all[0].kill()
        for _ in range(4):
            status, _, _ = await post(
                server, called("count"), mcp_session_id=session, authorization="Bearer two"
            )
            assert status == 404
            assert (await post(server, called("count"), mcp_session_id=session))[0] == 404
        for count in (b'"1"', b'"2"', b'"3"'):
            status, _, body = await post(
                server, called("count"), mcp_session_id=session, authorization="Bearer one"
            )
            assert status == 200
            assert b'"text":' + count in body.replace(b": ", b":")


async def test_a_session_that_its_client_has_ended_is_ended_at_every_replica(started: Started) -> None:
    async with started() as server:
        session = await begun(server)
        reader, writer = await asyncio.open_connection(server.all[1].address, server.data)
        writer.write(
            f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\nConnection: close\r\n\r\n".encode()
        )
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        for number in (2, 1, 0, 2):
            server.next = number
            assert (await post(server, called("count"), mcp_session_id=session))[0] == 404


async def test_what_sidecars_tell_each_other_no_client_can_say_and_none_hears(started: Started) -> None:
    async with started() as server:
        session = await begun(server)
        for number in (0, 1, 2):
            server.next = number
            status, told, _ = await post(
                server, called("count"), mcp_session_id=session, mcpace_epoch="7 7", mcpace_binding="00" * 8,
                mcpace_adopt="127.0.0.9 9 9 9", mcpace_reason="asks",
            )  # fmt: skip
            assert status == 200
            assert not any(name.startswith("mcpace") for name in told)


async def test_a_call_is_limited_and_counted_where_it_comes_in_and_nowhere_else(started: Started) -> None:
    config = {"rateLimits": {"tiers": [{"name": "all", "requestsPerMinute": 6}]}}
    async with started(2, config) as server:
        session = await begun(server)
        server.next = 1
        assert (await post(server, called("count"), mcp_session_id=session))[0] == 200
        counted = [await counter(each.address, server.admin, "mcp_tool_calls_total") for each in server.all]
        assert counted == [0, 1]


async def counter(address: str, port: int, name: str) -> float:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = (await reader.read(-1)).decode()
    writer.close()
    samples = [line for line in answer.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in samples)
