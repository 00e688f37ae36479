"""Real servers of stdio, through the sidecar, with the official clients."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ElicitResult
from tests.clients.test_clients_and_servers import CLIENTS, scenario
from tests.kit.programs import ROOT
from tests.kit.sidecars import Running, Start
from tests.kit.waiting import until
from tools.packages.install import modules, node, python_v1, servers

from mcpace_sidecar.stdio.pipes import Pipes
from mcpace_sidecar.stdio.sessions import Sessions

NPM = modules() / "@modelcontextprotocol"
PYTHON = python_v1().parent
EVERYTHING = [node(), NPM / "server-everything/dist/index.js", "stdio"]
MEMORY = [node(), NPM / "server-memory/dist/index.js"]

# The server's command, a call that it answers, and what the answer says.
SERVERS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "everything": (EVERYTHING, {"tool": "echo", "arguments": {"message": "hällo"}}, "Echo: hällo"),
    "memory": (MEMORY, {"tool": "read_graph", "arguments": {}}, "entities"),
    "filesystem": (
        [node(), NPM / "server-filesystem/dist/index.js", "FOLDER"],
        {"tool": "list_allowed_directories", "arguments": {}},
        "FOLDER",
    ),
    "time": (
        [PYTHON / "mcp-server-time", "--local-timezone", "UTC"],
        {"tool": "get_current_time", "arguments": {"timezone": "UTC"}},
        '"timezone": "UTC"',
    ),
    "git": (
        [PYTHON / "mcp-server-git", "--repository", "FOLDER"],
        {"tool": "git_status", "arguments": {"repo_path": "FOLDER"}},
        "Repository status",
    ),
    "fetch": (
        [servers() / "mcp-server-fetch", "--ignore-robots-txt", "--allow-private-ips"],
        {"tool": "fetch", "arguments": {"url": "PAGE"}},
        "A page of this machine",
    ),
}

Serve = Callable[..., Awaitable[Running]]


def pipes(command: list[Any], name: str = "server", **environment: str) -> Pipes:
    return Pipes(tuple(map(str, command)), os.environ | environment, name)


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Serve:
    """A sidecar in front of a real server of stdio."""

    async def begin(command: list[Any], processes: str = "perSession", **stdio: Any) -> Running:
        config: dict[str, Any] = {"transport": "stdio", "stdio": {"processes": processes} | stdio}
        file = str(tmp_path / "memory.jsonl")
        sidecar = await start(1, config, launch=pipes(command, MEMORY_FILE_PATH=file))
        await sidecar.ready()
        return sidecar

    return begin


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """The URL of a page of this machine."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html><body><p>A page of this machine</p></body></html>"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


@pytest.mark.parametrize("processes", ["perSession", "shared"])
@pytest.mark.parametrize("name", SERVERS)
async def test_every_official_client_lists_and_calls(
    name: str, processes: str, serve: Serve, tmp_path: Path, page: str
) -> None:
    command, call, words = SERVERS[name]
    folder = str(tmp_path.resolve())
    init = await asyncio.create_subprocess_exec("git", "init", "-q", folder)
    assert await init.wait() == 0
    call, words = json.loads(json.dumps([call, words]).replace("FOLDER", folder).replace("PAGE", page))
    sidecar = await serve([folder if word == "FOLDER" else word for word in command], processes)
    for client in CLIENTS:
        got = await scenario(client, sidecar.url, [call, call])
        assert call["tool"] in got["tools"], client
        assert [words in result["text"] for result in got["results"]] == [True, True], (client, got)


MODERN = [sys.executable, ROOT / "tests/conformance/server.py"]
DISCOVERING = ["python v2, modern", "typescript v2, modern"]


@pytest.mark.parametrize("processes", ["perSession", "shared"])
async def test_clients_without_a_handshake_are_served_by_one_process_that_needs_none(
    serve: Serve, processes: str
) -> None:
    sidecar = await serve(MODERN, processes)
    call = {"tool": "test_simple_text", "arguments": {}}
    seen = await asyncio.gather(*(scenario(client, sidecar.url, [call, call]) for client in DISCOVERING))
    for got in seen:
        assert [result["text"][:9] for result in got["results"]] == ["This is a"] * 2
    async with Client(sidecar.url, mode="auto", elicitation_callback=named) as client:
        assert client.protocol_version == "2026-07-28"
        asked = await client.call_tool("test_input_required_result_elicitation", {})
        assert asked.content[0].text == "Hello, Ada!"
        steps = []

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            del message
            steps.append((done, total))

        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
        assert steps == [(0, 100), (50, 100), (100, 100)]
        async with client.listen(tools_list_changed=True) as subscription:
            await client.call_tool("test_trigger_tool_change", {})
            assert type(await anext(aiter(subscription))).__name__ == "ToolsListChanged"
    if processes == "perSession":
        assert isinstance(sidecar.plane.pool, Sessions)
        assert not sidecar.plane.pool.table, "none of them has a session"
    shaken = await scenario("typescript v1", sidecar.url, [call])
    assert shaken["results"][0]["text"].startswith("This is a")


async def named(context: Any, params: Any) -> ElicitResult:
    del context, params
    return ElicitResult(action="accept", content={"name": "Ada"})


@pytest.mark.parametrize("processes", ["perSession", "shared"])
@pytest.mark.parametrize("name", ["everything", "time"])
async def test_clients_without_a_handshake_begin_a_session_by_themselves_where_the_server_needs_one(
    name: str, processes: str, serve: Serve
) -> None:
    command, call, words = SERVERS[name]
    sidecar = await serve(command, processes)
    async with Client(sidecar.url, mode="auto") as client:
        assert client.protocol_version == "2025-11-25"
        result = await client.call_tool(call["tool"], call["arguments"])
        assert words in result.content[0].text
        if processes == "perSession":
            assert isinstance(sidecar.plane.pool, Sessions)
            assert len(sidecar.plane.pool.table) == 1
    got = await scenario("typescript v2, modern", sidecar.url, [call])
    assert words in got["results"][0]["text"]
    async with Client(sidecar.url, mode="2026-07-28") as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool(call["tool"], call["arguments"])
    assert refused.value.error.code == -32022
    assert "2025-11-25" in refused.value.error.data["supported"]


async def seen(sidecar: Running) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        python_v1(), ROOT / "tests/clients/python_v1_everything.py", sidecar.url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def test_a_sessions_process_may_ask_its_client_and_tell_it_of_progress(serve: Serve) -> None:
    sidecar = await serve(EVERYTHING)
    both = await asyncio.gather(seen(sidecar), seen(sidecar))
    for got in both:
        assert "Long running operation completed" in got["long"]
        assert got["steps"] == [[float(n), 5.0] for n in range(1, 6)]
        assert "sampled" in got["sampling"]
        assert "Ada" in got["elicitation"]
        assert "file:///work/here" in got["roots"]
        assert len(got["together"]) == 3
        assert got["logged"]


async def test_a_server_that_keeps_a_file_keeps_every_write_where_its_process_is_shared(
    serve: Serve, tmp_path: Path
) -> None:
    sidecar = await serve(MEMORY, "shared")
    writes = [
        {"tool": "create_entities", "arguments": {"entities": [{"name": f"{client}-{number}", "entityType": "t", "observations": []}]}}
        for client in range(4)
        for number in range(25)
    ]  # fmt: skip
    await asyncio.gather(
        *(scenario("python v1", sidecar.url, writes[at : at + 25]) for at in range(0, 100, 25))
    )
    kept = (tmp_path / "memory.jsonl").read_text().splitlines()
    assert len({json.loads(line)["name"] for line in kept}) == 100


@pytest.mark.parametrize("processes", ["perSession", "shared"])
async def test_a_server_that_asks_a_client_what_it_cannot_answer_hangs_in_nobodys_call(
    serve: Serve, processes: str
) -> None:
    sidecar = await serve(MODERN, processes)
    calls = [
        {"tool": "test_sampling", "arguments": {"prompt": "anything"}},
        {"tool": "test_simple_text", "arguments": {}},
    ]
    for client in CLIENTS:
        asked, after = (await scenario(client, sidecar.url, calls))["results"]
        assert asked.get("isError") or asked.get("code"), (client, asked)
        assert after["text"].startswith("This is a"), (client, after)


async def test_a_client_whose_process_is_killed_in_a_call_sees_one_error(serve: Serve) -> None:
    sidecar = await serve(EVERYTHING, "shared")
    slow = {"tool": "trigger-long-running-operation", "arguments": {"duration": 60, "steps": 1}}
    echo = {"tool": "echo", "arguments": {"message": "again"}}
    calling = asyncio.create_task(scenario("python v1", sidecar.url, [echo, slow, echo]))
    await sidecar.busy(1)
    await until(
        lambda: any(each.call.label == slow["tool"] for each in sidecar.in_flight), "the slow call to begin"
    )
    launch = sidecar.sidecar._options.launch
    assert isinstance(launch, Pipes)
    (group,) = launch.groups
    os.killpg(group, signal.SIGKILL)
    first, lost, after = (await calling)["results"]
    assert "again" in first["text"]
    assert lost["code"] == 50200
    assert "again" in after["text"]
