"""Rollouts under load: replica after replica leaves and comes back, and no call of any session fails."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests.kit.rawsession import RawSession
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.replicas import CLIENTS, Replicas, client, replicas
from tests.kit.waiting import DEADLINE, until

CALLS = 20.0
"""A second, of all sessions."""


class Calls(Protocol):
    """Something that calls tools."""

    async def call(self, tool: str, **arguments: object) -> str: ...


class Load:
    """Sessions that call until they are told to stop; each knows what it may be answered."""

    def __init__(self, sessions: list[tuple[str, Calls]]) -> None:
        self.sessions = sessions
        self.failed: list[str] = []
        self.calls = 0
        self.words: list[str] = []
        """What was to be written, once each."""
        self.revivals: Counter[str] = Counter()
        """Of each session: how often what it had in memory was lost."""
        self._stopping = False

    async def _call(self, name: str, session: Calls) -> None:
        """Count, and write every fourth time."""
        last = 0
        for number in itertools.count():
            if self._stopping:
                return
            try:
                if number % 4 == 3:
                    self.words.append(word := f"{name} {number}")
                    assert await session.call("write", word=word, seconds=0.6) == f"wrote {word}"
                else:
                    counted = int(await session.call("count"))
                    assert counted in (1, last + 1), f"counted {counted} after {last}"
                    self.revivals[name] += counted == 1 and last > 0
                    last = counted
                self.calls += 1
            except Exception as error:
                self.failed.append(f"{name}, call {number}: {error!r}")
            await asyncio.sleep(len(self.sessions) / CALLS)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """Load as long as the block lasts, and a little longer."""
        running = [asyncio.create_task(self._call(*each)) for each in self.sessions]
        try:
            await self._call_on()
            yield
            await self._call_on()
        finally:
            self._stopping = True
            await asyncio.gather(*running)

    async def _call_on(self) -> None:
        enough = self.calls + 2 * len(self.sessions)
        await until(lambda: self.calls >= enough or self.failed, "all to call twice", 120.0)


SESSIONS = 40 if repetitions(10) == 1 else 1000
DRAIN = 6 + SESSIONS // 20
"""Seconds that a replica has to hand its sessions over; by default a manifest gives it sixty."""


async def rolls(server: Replicas) -> None:
    """One replica after another leaves, and comes back once it is gone."""
    for replica in server.all:
        assert await replica.leave(DRAIN + DEADLINE), "no session stays there"
        await replica.start()


@pytest.mark.repeated
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["redis", "alone"])
async def test_a_rolling_restart_under_load_fails_no_call(
    store: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Each session is begun again at most twice, and nothing is done twice."""
    environment = {"MCPACE_LIMITS_URL": redis_server.url} if store == "redis" else {}
    async with (
        replicas(tmp_path, 3, {"drainTimeout": f"{DRAIN}s"}, **environment) as server,
        AsyncExitStack() as stack,
    ):
        begun: list[tuple[str, Calls]] = [
            (name, await stack.enter_async_context(client(name, server.url))) for name in CLIENTS
        ]
        begun += [(str(number), await RawSession(server.url).begin()) for number in range(SESSIONS)]
        load = Load(begun)
        async with load.runs():
            await rolls(server)
        assert not load.failed, f"{len(load.failed)} of {load.calls}: {load.failed[:20]}"
        assert sum(load.revivals.values()) > len(begun) / 2, "most were moved"
        assert max(load.revivals.values()) <= len(server.all) - 1, load.revivals.most_common(5)
        assert Counter(each["word"] for each in server.done if each["did"] == "write") == Counter(
            load.words
        )
        print(f"{load.calls} calls of {len(begun)} sessions, {sum(load.revivals.values())} revivals")
