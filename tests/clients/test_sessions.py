"""Sessions of the official clients, whose server keeps something for each."""

from pathlib import Path

import pytest
from tests.kit.replicas import CLIENTS, client, replicas


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_session_counts_asks_tells_and_is_told(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        assert "count" in await session.do("list")
        assert [await session.call("count") for _ in range(3)] == ["1", "2", "3"]
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
        assert [each["did"] for each in server.done] == ["start", "level", "subscribe"]
