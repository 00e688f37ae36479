"""Official clients whose connections break in the midst of a session."""

import asyncio
from pathlib import Path

import pytest
from tests.kit.replicas import CLIENTS, client, replicas
from tests.kit.waiting import until

KEY = "5e" * 32


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_call_whose_connection_breaks_is_answered_and_run_once(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        arguments = {"steps": 8, "seconds": 0.5}
        slow = session.ask("call", tool="slow", arguments=arguments, progress=True)
        write = session.ask("call", tool="write", arguments={"word": "a", "seconds": 3})
        await session.hears("progress", progress=2)
        await until(lambda: server.done[-1]["did"] == "write", "the call to run")
        server.cut()
        async with asyncio.timeout(20):
            told, wrote = await slow, await write
        assert told["result"]["content"][0]["text"] == "8 steps", told
        assert wrote["result"]["content"][0]["text"] == "wrote a", wrote
        assert [each["progress"] for each in session.heard if each["heard"] == "progress"] == [*range(1, 9)]
        assert [each["did"] for each in server.done] == ["start", "write", "wrote"]


@pytest.mark.parametrize("name", CLIENTS)
async def test_what_the_server_says_while_a_connection_is_broken_is_heard_once(
    name: str, tmp_path: Path
) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        await session.do("level", level="info")
        assert await session.call("say", text="before") == "said"
        await session.hears("notifications/message", data="before")
        server.cut()
        assert await session.call("say", text="meanwhile") == "said"
        await session.hears("notifications/message", data="meanwhile")
        assert await session.call("say", text="after") == "said"
        await session.hears("notifications/message", data="after")
        assert [each["data"] for each in session.heard if each["heard"] == "notifications/message"] == [
            "before",
            "meanwhile",
            "after",
        ]


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_question_is_answered_though_its_connection_breaks(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        asked = session.ask("call", tool="sample", arguments={"text": "seconds=2"})
        await session.hears("sampling/createMessage")
        server.cut()
        async with asyncio.timeout(20):
            told = await asked
        assert told["result"]["content"][0]["text"] == "sampled seconds=2", told


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_call_outlives_the_replica_that_passed_it_on(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 3, MCPACE_SESSION_KEY=KEY) as server:
        through = await server.service(begins=0, goes_on=1)
        async with client(name, through.url) as session:
            assert server.holder(await session.call("process")) == 0
            slow = session.ask("call", tool="slow", arguments={"steps": 8, "seconds": 0.5}, progress=True)
            await session.hears("progress", progress=2)
            await server.all[1].kill()
            async with asyncio.timeout(30):
                told = await slow
            assert told["result"]["content"][0]["text"] == "8 steps", told
            heard = [each["progress"] for each in session.heard if each["heard"] == "progress"]
            assert heard == [*range(1, 9)]
            assert server.holder(await session.call("process")) == 0


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_call_whose_replica_was_lost_is_told_once_that_it_is_lost(
    name: str, tmp_path: Path
) -> None:
    async with replicas(tmp_path, 3, MCPACE_SESSION_KEY=KEY) as server:
        through = await server.service(begins=0, goes_on=1)
        async with client(name, through.url) as session:
            slow = session.ask("call", tool="slow", arguments={"steps": 40, "seconds": 0.5}, progress=True)
            await session.hears("progress", progress=2)
            await server.all[0].kill()
            async with asyncio.timeout(30):
                told = await slow
            assert "error" in told, told
            assert await session.call("count") == "1"
