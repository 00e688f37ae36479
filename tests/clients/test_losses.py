"""Official clients whose replica is lost: every kind of client, at whatever moment, whichever part, in either way.

Each session begins at the first replica and goes on through the second. A call that was in flight in what was
killed is told so, once; whatever else there is goes on.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.replicas import CLIENTS, Client, Part, Replicas, client, replicas
from tests.kit.waiting import DEADLINE, until

Lost = Literal["owner", "its server", "ingress"]
CONFIG = {"drainTimeout": "6s"}


class Loss:
    """What is lost, and how."""

    def __init__(self, what: Lost, by: signal.Signals) -> None:
        self.what = what
        self.by = by
        self.over = False

    async def happens(self, server: Replicas) -> None:
        replica = server.all[1 if self.what == "ingress" else 0]
        parts: tuple[Part, ...] = ("server",) if self.what == "its server" else ()
        if self.is_told:
            await replica.leave()
        else:
            await replica.kill(*parts, by=self.by)
        self.over = True

    @property
    def is_told(self) -> bool:
        """Whether the pod knows that it ends, and does so while its clients go on."""
        return self.by is signal.SIGTERM and self.what != "its server"

    @property
    def keeps_calls(self) -> bool | None:
        """Whether calls in flight are answered; None: that is for the server to say."""
        if self.what == "its server":
            return None if self.by is signal.SIGTERM else False
        return self.what == "ingress" or self.by is signal.SIGTERM

    def judge(self, told: dict[str, Any], result: str) -> None:
        """Of a call that was in flight: it was answered, or told that it was lost."""
        if self.keeps_calls or (self.keeps_calls is None and "result" in told):
            assert told["result"]["content"][0]["text"] == result, told
        else:
            assert "effect is unknown" in str(told.get("error")), told


Ended = Callable[[], Awaitable[None]]
"""Judges what became of it."""


async def idle(session: Client, loss: Loss, _: Replicas) -> Ended:
    assert await session.call("count") == "1"

    async def ended() -> None:
        counted = [1]
        while len(counted) < 3 or not loss.over:  # before it has moved, and afterwards
            counted.append(int(await session.call("count")))
            assert counted[-1] in (1, counted[-2] + 1), counted
        counted.append(int(await session.call("count")))
        assert counted.count(1) == (1 if loss.what == "ingress" else 2), counted

    return ended


async def calling(session: Client, loss: Loss, server: Replicas) -> Ended:
    word = session.name
    slow = session.ask("call", tool="slow", arguments={"steps": 20, "seconds": 0.25}, progress=True)
    write = session.ask("call", tool="write", arguments={"word": word, "seconds": 5})

    def progress() -> list[float]:
        return [each["progress"] for each in session.heard if each["heard"] == "progress"]

    def written() -> int:
        return sum((each["did"], each.get("word")) == ("write", word) for each in server.done)

    await until(lambda: progress() and written(), "both calls to run")

    async def ended() -> None:
        loss.judge(await slow, "20 steps")
        loss.judge(await write, f"wrote {word}")
        told = progress()
        assert told == list(range(1, len(told) + 1))
        assert len(told) == 20 or not loss.keeps_calls
        assert await session.call("write", word=f"{word} again") == f"wrote {word} again"
        assert written() == 1

    return ended


async def listening(session: Client, loss: Loss, _: Replicas) -> Ended:
    await session.do("level", level="info")

    def said() -> list[str]:
        return [str(each.get("data")) for each in session.heard if each["heard"] == "notifications/message"]

    async def listens(since: str) -> None:
        texts = (f"{since} {number}" for number in range(1000))

        async def hears() -> bool:
            assert await session.call("say", text=next(texts)) == "said"
            return any(text.startswith(since) for text in said())

        await until(hears, f"{session.name} to listen", pause=0.2)
        assert await session.call("say", text=since) == "said"
        await session.hears("notifications/message", data=since)

    await listens("before")

    async def ended() -> None:
        await listens("after")
        texts = [text for text in said() if text.startswith(("before", "after"))]
        assert sorted(texts) == sorted(set(texts)), "nothing is heard twice"
        if loss.what != "ingress":
            await session.hears("notifications/message", logger="mcpace", level="warning")

    return ended


async def sampling(session: Client, loss: Loss, _: Replicas) -> Ended:
    first = session.ask("call", tool="sample", arguments={"text": "seconds=2.5"})
    await session.hears("sampling/createMessage")

    async def ended() -> None:
        if loss.keeps_calls is False:  # its answer comes while the next is asked, under the same number
            loss.judge(await first, "")
            assert await session.call("sample", text="seconds=3") == "sampled seconds=3"
        else:
            loss.judge(await first, "sampled seconds=2.5")
        assert await session.call("sample", text="last") == "sampled last"

    return ended


MOMENTS = (idle, calling, listening, sampling)


@pytest.mark.repeated
@pytest.mark.parametrize("turn", range(repetitions(10)))
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("what", ["owner", "its server", "ingress"])
async def test_a_client_notices_no_loss_but_that_of_what_was_in_flight(
    what: Lost, by: signal.Signals, turn: int, tmp_path: Path, redis_server: RedisServer
) -> None:
    """With Redis and without it in turns; all clients and moments at once."""
    loss = Loss(what, by)
    with_redis = (turn + (by is signal.SIGKILL)) % 2
    environment = {"MCPACE_LIMITS_URL": redis_server.url} if with_redis else {}
    async with replicas(tmp_path, 3, CONFIG, **environment) as server, AsyncExitStack() as stack:
        service = await server.service(begins=0, goes_on=1)
        cases = [(name, moment) for name in CLIENTS for moment in MOMENTS]
        sessions = await asyncio.gather(
            *(stack.enter_async_context(client(name, service.url)) for name, _ in cases)
        )
        ends = await asyncio.gather(
            *(moment(each, loss, server) for (_, moment), each in zip(cases, sessions, strict=True))
        )
        lost = asyncio.ensure_future(loss.happens(server))
        if not loss.is_told:
            await lost
        outcomes = await asyncio.gather(
            *(asyncio.wait_for(ended(), DEADLINE) for ended in ends), return_exceptions=True
        )
        await lost
        wrong = {
            f"{name}, {moment.__name__}": repr(outcome)
            for (name, moment), outcome in zip(cases, outcomes, strict=True)
            if outcome is not None
        }
        assert not wrong, f"{server.folder}: " + "\n".join(map(": ".join, wrong.items()))
