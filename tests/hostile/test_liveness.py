"""A server that is at work is not taken for a dead one, nor a dead one for one at work."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.server import handshake, session


class OneAtATime:
    """A server that works on one request at a time, on a tool's call until it is told to end it."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.work = asyncio.Event()
        self.working = asyncio.Event()

    async def answer(self, heard: Heard) -> AsyncIterator[bytes]:
        async with self.free:
            if b"tools/call" in heard.body:
                self.working.set()
                await self.work.wait()
            yield json_answer(RESULT)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes are given up soon, so that many fit into a test."""
    monkeypatch.setattr(session, "TIMEOUT", 0.1)
    monkeypatch.setattr(handshake, "LATELY", 0.2)
    monkeypatch.setattr(handshake, "AGAIN_AFTER_FAILURE", 0.02)
    monkeypatch.setattr(handshake, "AGAIN_AFTER_SUCCESS", 0.02)


async def probes(sidecar: Running) -> tuple[int, int]:
    return (await sidecar.admin_get("/readyz"))[0], (await sidecar.admin_get("/serverz"))[0]


async def test_a_server_that_does_one_thing_at_a_time_is_alive_and_ready_while_it_does_it(
    scripted: Scripted, start: Start, hasty: None
) -> None:
    server = OneAtATime()
    scripted.answer = server.answer
    sidecar = await start(scripted.port, {"upstream": {"timeout": "60s"}})
    await sidecar.ready()
    call = asyncio.ensure_future(sidecar.call("t"))
    await server.working.wait()
    asked = len(scripted.heard) + 5

    async def still_well() -> bool:
        assert await probes(sidecar) == (200, 200), "it is at work, not dead"
        return len(scripted.heard) >= asked

    await until(still_well, "five handshakes in vain")
    server.work.set()
    assert (await call)[2]["result"]["isError"] is False


async def test_a_server_that_hangs_is_given_up_though_calls_keep_coming(
    scripted: Scripted, start: Start, hasty: None
) -> None:
    sidecar = await start(scripted.port, {"upstream": {"timeout": "500ms"}})
    await sidecar.ready()

    async def hang(_: Heard) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    scripted.answer = hang

    done = asyncio.Event()

    async def call_on() -> None:
        while not done.is_set():
            await sidecar.call("t")

    async def given_up() -> bool:
        return await probes(sidecar) == (503, 503)

    callers = [asyncio.ensure_future(call_on()) for _ in range(4)]
    await until(given_up, "a server that answers nobody to be neither ready nor alive")
    done.set()
    await asyncio.gather(*callers)


async def test_a_server_that_has_gone_is_unready_at_once(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    await sidecar.ready()
    await sidecar.call("t")
    await scripted.stop()
    await sidecar.call("t")
    await until(lambda: not sidecar.handshake.ready, "the sidecar to be unready", seconds=20)


async def test_a_server_on_either_loopback_is_found_and_found_again(
    scripted: Scripted, start: Start
) -> None:
    await scripted.stop()
    sidecar = await start(scripted.port, host="localhost")
    for host in ("::1", "127.0.0.1", "::1"):
        await scripted.start(host)
        assert "result" in (await sidecar.call("t"))[2], host
        await scripted.stop()
