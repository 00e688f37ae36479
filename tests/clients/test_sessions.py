"""Sessions of the official clients, whose server keeps something for each."""

from pathlib import Path

import pytest
from tests.kit.replicas import CLIENTS, client, converse, replicas


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_session_counts_asks_tells_and_is_told(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as server, client(name, server.url) as session:
        assert "count" in await session.do("list")
        assert [await session.call("count") for _ in range(3)] == ["1", "2", "3"]
        await converse(session)
        assert [each["did"] for each in server.done] == ["start", "level", "subscribe"]
