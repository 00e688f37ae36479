"""What becomes of sessions over replicas when all else fails: Redis, the network, clocks, keys, processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from tests.kit.rawsession import RawSession
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.replicas import KEY, Part, Replicas, replicas
from tests.kit.waiting import until

from mcpace_sidecar.sessions.sealing import UNBOUND, Owner, Sealed, Sealer


async def begun(server: Replicas, at: int = 0) -> RawSession:
    """A session that one replica holds, through the Service."""
    session = await RawSession(server.all[at].url).begin()
    session.url = server.url
    return session


async def holder(server: Replicas, session: RawSession) -> int:
    return server.holder(await session.call("process"))


async def counts(session: RawSession, calls: int) -> list[int]:
    return sorted(map(int, await asyncio.gather(*(session.call("count") for _ in range(calls)))))


class Away:
    """A Redis that is not there: it has ended, or it takes connections and says nothing."""

    def __init__(self, server: RedisServer, how: str) -> None:
        self._server = server
        self._how = how

    def goes(self) -> None:
        if self._how == "ended":
            self._server.stop()
        else:
            self._server.send(signal.SIGSTOP)

    def comes(self) -> None:
        if self._how == "ended":
            self._server.start()
        else:
            self._server.send(signal.SIGCONT)


@pytest.mark.parametrize("how", ["ended", "silent"])
async def test_a_redis_that_is_away_before_during_or_after_a_loss_loses_no_session(
    how: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    away = Away(redis_server, how)
    async with replicas(tmp_path, 3, MCPACE_LIMITS_URL=redis_server.url) as server:

        async def loses(session: RawSession) -> int:
            lost = await holder(server, session)
            await server.all[lost].kill()
            return lost

        # Away as the session begins and is lost; there again afterwards.
        away.goes()
        session = await begun(server)
        assert await counts(session, 1) == [1]
        lost = await loses(session)
        assert await counts(session, 20) == list(range(1, 21))
        away.comes()
        await server.all[lost].start()
        assert await counts(session, 3) == [21, 22, 23]
        # There as it is lost, away before it is begun again.
        other = await begun(server, await holder(server, session))
        lost = await loses(session)
        away.goes()
        for each in (session, other):
            assert await counts(each, 20) == list(range(1, 21))
        away.comes()
        await server.all[lost].start()
        # Away while it lives, there as it is lost.
        away.goes()
        assert await counts(session, 3) == [21, 22, 23]
        away.comes()
        await loses(session)
        assert await counts(session, 20) == list(range(1, 21))


async def test_a_replica_whose_node_vanishes_costs_its_calls_and_no_session(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Nothing is acknowledged any more, and nobody is told so."""
    async with replicas(tmp_path, 3, MCPACE_LIMITS_URL=redis_server.url) as server:
        sessions = [await begun(server) for _ in range(4)]
        for session in sessions:
            assert await counts(session, 3) == [1, 2, 3]
        server.goes_on = 1
        calls = [
            asyncio.create_task(session.asks("write", word=str(number), seconds=60))
            for number, session in enumerate(sessions)
        ]
        await until(lambda: len(server.done) == 3 + len(calls), "the calls to run")
        server.goes_on = None
        server.all[0].vanish()
        for told in await asyncio.gather(*calls):
            assert "effect is unknown" in told.answer["error"]["message"], told
        for session in sessions:
            assert await counts(session, 20) == list(range(1, 21))


async def test_a_replica_that_vanished_is_waited_for_by_nobody_a_second_time(tmp_path: Path) -> None:
    async with replicas(tmp_path, 3) as server:
        sessions = [await begun(server) for _ in range(30)]
        server.all[0].vanish()
        for number, session in enumerate(sessions):
            session.url = server.all[1 + number % 2].url
            assert await session.call("count") == "1"
        opened = [await each.metric("mcpace_session_revived_total") for each in server.all[1:]]
        assert sum(opened) == len(sessions)


async def test_clocks_that_are_ten_minutes_apart_change_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    clocks = (0.0, 600.0, -600.0)
    async with replicas(tmp_path, 3, clocks=clocks, MCPACE_LIMITS_URL=redis_server.url) as server:
        sessions = [await begun(server, number) for number in range(3)]
        for lost in (0, 1, 2):
            for session in sessions:
                assert await session.call("count")
            await server.all[lost].kill()
            for session in sessions:
                last = int(await session.call("count"))
                assert await counts(session, 10) == list(range(last + 1, last + 11))
            await server.all[lost].start()


async def test_a_key_is_replaced_under_sessions_and_they_go_on(tmp_path: Path) -> None:
    """Some replicas know the old key alone, some both; in the end the new one is enough for new sessions."""
    new = "a7" * 32
    both = {"MCPACE_SESSION_KEY": new, "MCPACE_SESSION_KEY_PREVIOUS": KEY}
    async with replicas(tmp_path, 3) as server:
        sessions = [await begun(server, number) for number in range(3)]
        for replica in server.all:
            await replica.kill()
            replica.environment = both
            await replica.start()
            sessions.append(await begun(server, server.all.index(replica)))  # by one that knows both
            for session in sessions:
                last = int(await session.call("count"))
                assert await counts(session, 6) == list(range(last + 1, last + 7))
        for replica in server.all:  # the old one is forgotten, all at once
            await replica.kill()
        for replica in server.all:
            replica.environment = {"MCPACE_SESSION_KEY": new}
            await replica.start()
        for session in sessions:
            assert (await session.asks("count")).status == 404
        session = await begun(server)
        assert await counts(session, 6) == [1, 2, 3, 4, 5, 6]


async def test_an_id_that_is_forged_or_replayed_is_none_and_nothing_comes_of_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with replicas(tmp_path, 3, MCPACE_LIMITS_URL=redis_server.url) as server:
        session = await begun(server)
        assert await counts(session, 3) == [1, 2, 3]
        good, ended = session.id, await begun(server)
        assert (await ended.send("DELETE")).status == 200
        place = Owner("127.0.0.2", server.relay, 7)
        sealed = Sealed(
            2**31, place, UNBOUND, b"2025-11-25", b"0" * 32, b'{"protocolVersion":"2025-11-25"}'
        )
        another_servers = Sealer("ns/other", [bytes.fromhex(KEY)]).seal(sealed).decode()
        anothers_key = Sealer("ns/session", [bytes(32)]).seal(sealed).decode()
        changed = [good[:n] + ("A" if good[n] != "A" else "B") + good[n + 1 :] for n in (0, 1, 5, 40, 99)]
        forged = [ended.id, another_servers, anothers_key, good[:-4], good + "AAAA", "0" * 32, *changed]
        with redis_server.client() as store:
            keys = sorted(store.scan_iter("*:session:*"))
            for replica, session.id in itertools.product(server.all, forged):
                for method in ("POST", "GET", "DELETE"):
                    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}' if method == "POST" else b""
                    told = await session.send(method, body, replica.url)
                    assert told.status == 404, (session.id, method, told)
            assert sorted(store.scan_iter("*:session:*")) == keys
        assert [await each.metric("mcpace_session_revived_total") for each in server.all] == [0, 0, 0]
        session.id = good
        assert await counts(session, 3) == [4, 5, 6]


@pytest.mark.repeated
@pytest.mark.timeout(3600)
async def test_a_call_that_must_not_run_twice_does_not_whatever_is_killed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """What was answered has run once; what was told that it was lost, once at most."""
    chance = random.Random(1)
    told: dict[str, str] = {}
    ending = asyncio.Event()

    async def writes(server: Replicas, name: int, session: RawSession) -> None:
        for number in itertools.count():
            if ending.is_set():
                return
            ingress = server.all[(name + number) % 3]
            sidecar = ingress.processes.get("sidecar")
            word, told_of = f"{name}-{number}", None
            if ingress.ready:
                with contextlib.suppress(OSError):
                    seconds = chance.random() / 4
                    told_of = (await session.asks("write", ingress.url, word=word, seconds=seconds)).answer
                if not told_of:
                    assert ingress.processes.get("sidecar") is not sidecar, "an answer ends only so"
                elif "result" not in told_of:
                    assert "effect is unknown" in told_of["error"]["message"], told_of
                told[word] = "wrote" if told_of and "result" in told_of else "lost"
            else:
                await asyncio.sleep(0.01)

    def ran() -> Counter[str]:
        return Counter(each["word"] for each in server.done if each["did"] == "write")

    async with replicas(tmp_path, 3, MCPACE_LIMITS_URL=redis_server.url) as server:
        sessions = [await begun(server, number % 3) for number in range(6)]
        writing = [asyncio.create_task(writes(server, n, each)) for n, each in enumerate(sessions)]
        for kill in range(repetitions(200)):
            replica, before = server.all[chance.randrange(3)], len(told)
            await until(lambda before=before: len(told) > before + 6, "calls to run")  # type: ignore[misc]
            parts: tuple[Part, ...] = (("server",), ("sidecar",), ("server", "sidecar"))[kill % 3]
            await replica.kill(*parts)
            await replica.start(*parts)
            failed = [task for task in writing if task.done()]
            assert not failed, [task.exception() for task in failed]
        ending.set()
        await asyncio.gather(*writing)
        times = ran()
        assert {
            word: times[word] for word, what in told.items() if what == "wrote" and times[word] != 1
        } == {}
        assert [word for word, number in times.items() if number > 1] == []
        assert "wrote" in told.values()
