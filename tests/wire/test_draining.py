"""A pod's end, as its preStop begins it: by the sidecar's own port, whoever process 1 is."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import msgspec
import pytest
from tests.kit.calls import ANSWER, PING
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_operator.children.sidecar import DRAIN
from mcpace_sidecar.admin import drained

TOKEN = "the-admin-token"
ASK = b"GET /drained HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def drain(port: int, token: str) -> tuple[int, str]:
    """Run the command that the pod runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *DRAIN[1:], str(port),
        env=os.environ | {"MCPACE_ADMIN_TOKEN": token}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_command_of_the_pod_drains_the_sidecar(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, admin_token=TOKEN)
    assert await drain(sidecar.admin, TOKEN) == (0, "")
    assert sidecar.plane.draining
    status, _ = await sidecar.admin_get("/readyz")
    assert status == 503


@pytest.mark.parametrize("token", ["", "another"])
async def test_who_has_not_the_token_drains_nothing(scripted: Scripted, start: Start, token: str) -> None:
    sidecar = await start(scripted.port, admin_token=TOKEN)
    code, said = await drain(sidecar.admin, token)
    assert (code, said) == (1, "The sidecar answered HTTP 401\n")
    status, _ = await sidecar.admin_get("/drain", Authorization=f"Bearer {TOKEN}")
    assert status == 405, "reading is not asking"
    assert not sidecar.plane.draining


async def test_a_sidecar_that_is_gone_keeps_no_pod_from_ending() -> None:
    code, said = await drain(free_port(), TOKEN)
    assert code == 1
    assert "The sidecar was not reached" in said


@pytest.fixture
def release(scripted: Scripted) -> asyncio.Event:
    """What tool calls wait for."""
    release = asyncio.Event()

    async def slowly(_: Heard):
        await release.wait()
        yield json_answer(RESULT)

    usual = scripted.answer
    scripted.answer = lambda heard: slowly(heard) if b"tools/call" in heard.body else usual(heard)
    return release


async def waiting(sidecar: Running, waiters: int) -> None:
    await until(lambda: len(sidecar.drained.waiting) == waiters, f"{waiters} to wait")


async def test_the_server_is_told_to_end_when_its_last_call_has_ended(
    scripted: Scripted, start: Start, release: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drained, "SETTLING", 0.2)
    sidecar = await start(scripted.port)
    await sidecar.ready()
    call = asyncio.create_task(sidecar.call("slow"))
    await sidecar.busy(1)
    sidecar.drain()
    began = time.monotonic()
    asked = asyncio.create_task(sidecar.admin_get("/drained"))
    await waiting(sidecar, 1)
    await until(lambda: time.monotonic() - began > 1.0, "more time than Services need")
    assert not asked.done(), "a call is in flight"
    release.set()
    assert (await call)[0] == 200
    assert await asked == (200, {"drained": True})


async def test_services_get_time_to_forget_the_pod_before_its_idle_server_is_told(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drained, "SETTLING", 1.0)
    sidecar = await start(scripted.port)
    sidecar.drain()
    since = sidecar.plane.draining_since
    assert await sidecar.admin_get("/drained") == (200, {"drained": True})
    assert time.monotonic() - since >= 1.0


async def test_a_server_whose_call_outlasts_the_drain_is_told_all_the_same(
    scripted: Scripted, start: Start, release: asyncio.Event
) -> None:
    sidecar = await start(scripted.port, {"drainTimeout": "500ms"})
    await sidecar.ready()
    call = asyncio.create_task(sidecar.call("slow"))
    await sidecar.busy(1)
    sidecar.drain()
    assert await sidecar.admin_get("/drained") == (200, {"drained": False})
    release.set()
    assert (await call)[0] == 200


async def test_a_call_that_outlasts_the_sidecar_is_told_so(
    scripted: Scripted, start: Start, release: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpace_sidecar.process.sidecar.LAST_WORDS", 0.2)
    sidecar = await start(scripted.port, {"drainTimeout": "200ms"})
    await sidecar.ready()
    call = asyncio.create_task(sidecar.call("slow"))
    await sidecar.busy(1)
    sidecar.end()
    _, _, told = await call
    assert "ends before the call did" in told["error"]["message"]
    assert not release.is_set()


async def test_asking_whether_it_is_drained_changes_nothing(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drained, "SETTLING", 0.2)
    sidecar = await start(scripted.port, admin_token=TOKEN)
    await sidecar.ready()
    assert await sidecar.admin_get("/drained") == (200, {"drained": False}), "a hung server is not kept"
    assert (await sidecar.raw(ASK.replace(b"GET", b"POST"), port=sidecar.admin)).startswith(
        b"HTTP/1.1 405 "
    )
    assert not sidecar.plane.draining
    assert (await sidecar.admin_get("/readyz"))[0] == 200


async def test_nobody_takes_the_place_of_the_kubelet(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = await start(scripted.port)
    writers = []
    for number in range(140):  # more than there may be connections
        _, writer = await asyncio.open_connection(
            "127.0.0.1", sidecar.admin, local_addr=(f"127.0.0.{2 + number % 2}", 0)
        )
        writer.write(ASK)
        writers.append(writer)
    await waiting(sidecar, 2 * drained.MOST_EACH)
    kubelet = asyncio.create_task(sidecar.raw(ASK, port=sidecar.admin))
    await waiting(sidecar, 2 * drained.MOST_EACH + 1)
    assert (await sidecar.admin_get("/healthz"))[0] == 200
    for writer in writers:
        writer.close()
    await waiting(sidecar, 1)
    monkeypatch.setattr(drained, "SETTLING", 0.0)
    assert (await kubelet).startswith(b"HTTP/1.1 200 ")


async def test_ending_finishes_the_calls_in_flight_and_closes_open_streams(
    scripted: Scripted, start: Start
) -> None:
    release = asyncio.Event()

    async def answers(heard: Heard):
        if heard.line.startswith(b"GET"):
            yield SSE + chunk(b": open\n\n")
            await asyncio.Event().wait()
        await release.wait()
        yield json_answer(ANSWER)

    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = answers
    call = asyncio.ensure_future(sidecar.call("t"))
    stream = asyncio.ensure_future(sidecar.raw(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    await until(lambda: len(scripted.calls) == 2, "both to reach the server")
    await until(lambda: any(e.endless for e in sidecar.in_flight), "the stream to open")
    sidecar.end()
    assert (await stream).endswith(b"0\r\n\r\n")
    with pytest.raises(OSError):
        await until(lambda: _connect(sidecar), "new connections to be refused")
    release.set()
    assert "result" in (await call)[2]
    await sidecar.waiting


async def test_ending_lets_a_list_that_arrives_in_pieces_arrive(scripted: Scripted, start: Start) -> None:
    release = asyncio.Event()

    async def slowly(_: Heard):
        yield SSE + chunk(b": wait\n\n")
        await release.wait()
        yield chunk(b"data: " + ANSWER + b"\n\n") + b"0\r\n\r\n"

    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = slowly
    listing = asyncio.ensure_future(sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
    await until(lambda: any(e.begun for e in sidecar.in_flight), "the answer to begin")
    sidecar.end()
    await until(lambda: sidecar.plane.draining, "the sidecar to drain")
    release.set()
    assert ANSWER in (await listing)[2]
    await sidecar.waiting


async def _connect(sidecar: Running) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.close()
    return False


async def test_draining_turns_unready_and_sends_clients_elsewhere_with_their_answer(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    sidecar.drain()
    assert (await sidecar.admin_get("/readyz"))[0] == 503
    body = msgspec.json.encode(PING)
    answer = await sidecar.raw(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body),
        end=False,
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close\r\n" in answer
