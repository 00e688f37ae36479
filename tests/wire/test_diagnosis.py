"""A server that is not where the manifest says: the sidecar says where it is, and whether it lives."""

import socket
from typing import Any

import msgspec
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until
from tools.ports import free_port


async def problem(sidecar: Running, words: str) -> str:
    """The reason for not being ready, once it holds these words."""

    async def said() -> str | None:
        reason = (await sidecar.admin_get("/readyz"))[1].get("reason", "")
        return reason if words in reason else None

    return str(await until(said, f"{words!r} to be said, not {sidecar.handshake.problem!r}"))


async def test_another_path_is_named(weather: int, start: Start):
    sidecar = await start(weather, {"path": "/api"})
    assert "HTTP 404" in await problem(sidecar, "write `path: /mcp`")
    assert (await sidecar.admin_get("/serverz"))[0] == 200, "it lives, and is not restarted"


async def test_the_older_transport_is_named(everything: int, start: Start):
    sidecar = await start(everything)
    await problem(sidecar, "write `transport: sse` and `path: /sse`")


async def test_the_newer_transport_is_named(weather: int, start: Start):
    sidecar = await start(weather, {"transport": "sse"})
    await problem(sidecar, "write `transport: streamable-http` and `path: /mcp`")


async def test_a_server_that_speaks_no_mcp_anywhere_is_said(scripted: Scripted, start: Start):
    scripted.answer = lambda _: json_answer(b"{}", status=b"404 Not Found")
    sidecar = await start(scripted.port)
    await problem(sidecar, "No usual path of its answers MCP")


async def test_a_port_with_nothing_behind_it_is_said_and_so_is_the_one_that_is_there(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sidecar = await start(free_port(), in_pod=True)
        said = await problem(sidecar, "if the server is there, write `port:")
        assert str(port) in said
        assert (await sidecar.admin_get("/serverz"))[0] == 503


async def test_on_a_laptop_the_ports_of_others_are_nobodys_business(start: Start):
    sidecar = await start(free_port())
    await until(lambda: not sidecar.handshake.ready and sidecar.handshake.problem, "a problem")
    assert "listens" not in await problem(sidecar, "does not accept connections")


async def test_a_server_that_speaks_something_else_than_http_is_said(scripted: Scripted, start: Start):
    scripted.answer = lambda _: b"220 mail.example ESMTP\r\n"
    sidecar = await start(scripted.port)
    await problem(sidecar, "HTTP without TLS")


async def test_once_it_answers_all_is_well(scripted: Scripted, start: Start):
    there = False

    def answer(heard: Heard) -> bytes:
        if not there:
            return json_answer(b"{}", status=b"404 Not Found")
        result: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {}}
        return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result}))

    scripted.answer = answer
    sidecar = await start(scripted.port)
    await problem(sidecar, "No usual path")
    there = True
    await sidecar.ready()
    assert (await sidecar.admin_get("/readyz"))[1] == {"ready": True}
