"""Official clients whose server's process is killed under their session."""

import asyncio
import signal
from pathlib import Path

import pytest
from tests.kit.repeating import repetitions
from tests.kit.replicas import CLIENTS, Client, Replicas, client, replicas
from tests.kit.waiting import until

KEY = "5e" * 32


async def restarts(server: Replicas, *parts: str, by: signal.Signals = signal.SIGKILL) -> None:
    await server.all[0].kill(*parts, by=by)
    await server.all[0].start(*parts)


async def counts(session: Client, calls: int) -> list[int]:
    return sorted(map(int, await asyncio.gather(*(session.call("count") for _ in range(calls)))))


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_session_outlives_the_servers_process_and_the_sidecars(name: str, tmp_path: Path) -> None:
    async with (
        replicas(tmp_path, 1, MCPACE_SESSION_KEY=KEY) as server,
        client(name, server.url) as session,
    ):
        assert await counts(session, 3) == [1, 2, 3]
        await session.do("level", level="info")
        await session.do("subscribe", uri="memo://one")
        await restarts(server, "server")
        await session.hears("notifications/message", logger="mcpace", level="warning")
        await session.hears("notifications/resources/updated")
        assert await session.call("say", text="again") == "said"
        await session.hears("notifications/message", data="again")
        done = [each["did"] for each in server.done]
        assert done == ["start", "level", "subscribe", "start", "level", "subscribe"]
        for parts in (("sidecar",), ("server", "sidecar")):
            await restarts(server, *parts)
            assert await session.call("sample", text="hi") == "sampled hi"
            assert "count" in await session.do("list")
        assert await counts(session, 2) == [1, 2]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
async def test_a_call_in_flight_is_told_that_its_server_has_ended(
    name: str, by: signal.Signals, tmp_path: Path
) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        call = session.ask("call", tool="write", arguments={"word": "a", "seconds": 30})
        await until(lambda: server.done[-1]["did"] == "write", "the call to run")
        await restarts(server, "server", by=by)
        async with asyncio.timeout(30):
            told = await call
        assert "error" in told, told
        assert await session.call("write", word="b") == "wrote b"
        assert [each["word"] for each in server.done if each["did"] == "write"] == ["a", "b"]


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_session_outlives_the_rotation_of_the_key_until_the_old_one_is_forgotten(
    name: str, tmp_path: Path
) -> None:
    rotated = {"MCPACE_SESSION_KEY": "a5" * 32, "MCPACE_SESSION_KEY_PREVIOUS": KEY}
    async with replicas(tmp_path, 1, MCPACE_SESSION_KEY=KEY) as server:
        async with client(name, server.url) as session:
            assert await counts(session, 2) == [1, 2]
            server.environment.update(rotated)
            await restarts(server, "sidecar")
            assert await counts(session, 2) == [3, 4], "it is the session that it was"
            await restarts(server, "server")
            assert await counts(session, 2) == [1, 2], "and is begun again as ever"
            async with client(name, server.url) as later:
                assert await counts(later, 1) == [1]
                await restarts(server, "sidecar")
                assert await counts(later, 1) == [2]
            del server.environment["MCPACE_SESSION_KEY_PREVIOUS"]
            await restarts(server, "sidecar")
            assert "error" in await session.ask("call", tool="count", arguments={})
        async with client(name, server.url) as anew:
            assert await counts(anew, 1) == [1]


@pytest.mark.repeated
async def test_sixty_calls_at_once_after_a_loss_begin_one_session(tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client("python v1", server.url) as session:
        await session.call("count")
        for _ in range(repetitions(50)):
            await restarts(server, "server")
            assert await counts(session, 60) == list(range(1, 61))


async def test_calls_wait_while_the_server_is_away(tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client("python v2", server.url) as session:
        assert await counts(session, 1) == [1]
        await server.all[0].kill("server")
        waiting = asyncio.gather(*(session.call("count") for _ in range(10)))
        await server.all[0].start("server")
        assert sorted(map(int, await waiting)) == list(range(1, 11))


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_late_answer_to_a_lost_process_is_not_given_to_the_next_one(
    name: str, tmp_path: Path
) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        late = session.ask("call", tool="sample", arguments={"text": "seconds=1.5"})
        await session.hears("sampling/createMessage")
        await restarts(server, "server")
        async with asyncio.timeout(30):
            assert "error" in await late
        asked = session.ask("call", tool="sample", arguments={"text": "seconds=2.5"})
        async with asyncio.timeout(30):
            told = await asked
        assert told["result"]["content"][0]["text"] == "sampled seconds=2.5", told
        assert await session.call("sample", text="hi") == "sampled hi"
