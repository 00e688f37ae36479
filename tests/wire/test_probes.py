"""What a kubelet asks of a pod that starts."""

import asyncio
import time

import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

from mcpace_sidecar.admin import port


async def test_a_probe_that_waits_is_answered_once_the_server_answers(
    scripted: Scripted, start: Start
) -> None:
    await scripted.stop()
    sidecar = await start(scripted.port, {})
    for path in ("/readyz", "/serverz"):
        assert (await sidecar.admin_get(path))[0] == 503, "the others are answered at once"
    waiting = asyncio.create_task(sidecar.admin_get("/readyz?wait"))
    asked = asyncio.create_task(sidecar.admin_get("/healthz"))
    await asked
    assert not waiting.done()
    await scripted.start()
    assert (await waiting)[0] == 200
    await scripted.stop()
    sidecar.handshake.doubt()
    await until(lambda: not sidecar.handshake.ready, "the loss to be seen")
    status, _ = await sidecar.admin_get("/readyz?wait")
    assert status == 503, "it waits for a start, and for nothing else"


async def test_a_probe_waits_less_long_than_a_kubelet(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert port._WAITED < 5
    monkeypatch.setattr(port, "_WAITED", 0.1)
    await scripted.stop()
    sidecar = await start(scripted.port, {})
    began = time.monotonic()
    status, body = await sidecar.admin_get("/readyz?wait")
    assert (status, body["ready"]) == (503, False)
    assert time.monotonic() - began >= 0.1


async def test_readiness_waits_for_the_handshake(weather: int, start: Start) -> None:
    sidecar = await start(weather, {})
    status, body = await sidecar.admin_get("/readyz?wait")
    assert (status, body) == (200, {"ready": True})


async def health(sidecar: Running, path: str = "/healthz", method: str = "GET") -> bytes:
    return await sidecar.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def test_balancers_may_ask_the_data_port_without_a_credential(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, {"clients": {"anonymous": "deny"}})
    await sidecar.ready()
    assert (await health(sidecar)).startswith(b"HTTP/1.1 200 ")
    assert (await health(sidecar, method="HEAD")).startswith(b"HTTP/1.1 200 ")
    assert (await health(sidecar, method="POST")).split()[1] in (b"404", b"405")
    assert not scripted.calls, "the server hears nothing of it"
    await scripted.stop()
    sidecar.handshake.doubt()
    await until(lambda: not sidecar.handshake.ready, "the sidecar to be unready")
    assert (await health(sidecar)).startswith(b"HTTP/1.1 503 ")


async def test_the_health_path_moves_gives_way_and_goes(scripted: Scripted, start: Start) -> None:
    moved = await start(scripted.port, {"healthPath": "/"})
    await moved.ready()
    assert (await health(moved, "/")).startswith(b"HTTP/1.1 200 ")
    assert (await health(moved)).startswith(b"HTTP/1.1 404 ")
    none = await start(scripted.port, {"healthPath": ""})
    assert (await health(none)).startswith(b"HTTP/1.1 404 ")
    theirs = await start(scripted.port, {"passPaths": ["/healthz"]})
    assert b'"result"' in await health(theirs), "the server's own path is answered by the server"


async def test_probes_that_wait_take_no_room_from_those_that_do_not(
    scripted: Scripted, start: Start
) -> None:
    await scripted.stop()
    sidecar = await start(scripted.port, {})
    writers = []
    for _ in range(130):  # more than there may be connections
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.admin)
        writer.write(b"GET /readyz?wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writers.append(writer)
        if len(writers) == port.MOST_HELD + 1:
            assert (await sidecar.admin_get("/readyz?wait"))[0] == 503, "one more is answered at once"
    for path in ("/healthz", "/metrics"):
        assert (await sidecar.admin_get(path))[0] == 200
    for writer in writers:
        writer.close()
