"""Servers of stdio that end, hang, write what is none, or are deaf; and clients that share one."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.kit.programs import ROOT
from tests.kit.sidecars import Running, Start
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.stdio.pipes import Pipes

SERVER = str(ROOT / "tests/kit/lineserver.py")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
BOTH = pytest.mark.parametrize("processes", ["perSession", "shared"])
ACCEPT = "application/json, text/event-stream"

Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
def serve(start: Start) -> Serve:
    """A sidecar in front of the server that misbehaves."""

    async def begin(
        how: str = "", processes: str = "perSession", ready: bool = True, **more: Any
    ) -> Running:
        config = more.pop("config", {}) | {"transport": "stdio", "stdio": {"processes": processes} | more}
        launch = Pipes((sys.executable, "-I", SERVER, how), os.environ, "lines")
        sidecar = await start(1, config, launch=launch)
        sidecar.launch = launch
        if ready:
            await sidecar.ready()
        return sidecar

    return begin


async def session(sidecar: Running) -> dict[str, str]:
    """Begin one: the headers of its requests. Shared processes have none."""
    status, headers, _ = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert status == 200
    lines = {"Accept": ACCEPT}
    if "mcp-session-id" in headers:
        lines["Mcp-Session-Id"] = headers["mcp-session-id"]
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await sidecar.post(note, **lines))[0] == 202
    return lines


def said(answer: Any) -> str:
    return answer["result"]["content"][0]["text"]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@BOTH
async def test_a_call_in_which_the_process_ends_is_an_error_and_the_next_has_a_new_process(
    serve: Serve, processes: str
):
    sidecar = await serve(processes=processes)
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    status, _, answer = await sidecar.call("die", **client)
    assert (status, answer["error"]["code"]) == (200, 50200)
    assert "The server's process ended with exit code 3." in answer["error"]["message"]
    assert said((await sidecar.call("pid", **client))[2]) != first
    metrics = await sidecar.metrics()
    assert metrics["mcpace_stdio_crashes_total"] == 1


async def test_a_session_with_an_id_of_ours_goes_on_in_a_new_process(serve: Serve):
    sidecar = await serve(idleTimeout="1s")
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    assert (await sidecar.call("die", **client))[2]["error"]["code"] in (50200, 50300)
    second = said((await sidecar.call("pid", **client))[2])
    assert second != first
    await until(lambda: not sidecar.plane.pool.table, "its process to end, as nobody calls")
    assert said((await sidecar.call("pid", **client))[2]) not in (first, second)


async def test_all_calls_in_flight_of_a_process_that_ends_get_one_error_each(serve: Serve):
    sidecar = await serve(processes="shared", callsPerProcess=8)
    client = await session(sidecar)
    held = [asyncio.create_task(sidecar.call("hold", **client)) for _ in range(5)]
    await sidecar.busy(5)
    await sidecar.call("die", **client)
    answers = await asyncio.gather(*held)
    assert [answer["error"]["code"] for _, _, answer in answers] == [50200] * 5
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'


@BOTH
async def test_lines_that_are_no_messages_are_counted_and_passed_over(serve: Serve, processes: str):
    sidecar = await serve(processes=processes)
    client = await session(sidecar)
    assert said((await sidecar.call("junk", **client))[2]) == "well"
    assert (await sidecar.metrics())["mcpace_stdio_junk_lines_total"] == 3


@BOTH
async def test_line_ends_in_a_body_and_separators_in_its_strings_make_no_lines(
    serve: Serve, processes: str
):
    sidecar = await serve(processes=processes)
    client = await session(sidecar)
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": "é\u2028\u2029\r\n"}}},
        indent=1, ensure_ascii=False,
    ).replace("\n", "\r\n")  # fmt: skip
    _, _, answer = await sidecar.post(body.encode(), **client)
    assert json.loads(said(answer)) == {"a": "é\u2028\u2029\r\n"}


@BOTH
async def test_four_mebibytes_pass_both_ways(serve: Serve, processes: str):
    sidecar = await serve(processes=processes, config={"maxRequestBytes": "5Mi"})
    client = await session(sidecar)
    assert len(said((await sidecar.call("big", {"bytes": 4 << 20}, **client))[2])) == 4 << 20
    given = {"a": "x" * (4 << 20)}
    assert json.loads(said((await sidecar.call("echo", given, **client))[2])) == given
    assert sidecar.plane.pool.gathered.held == 0


@BOTH
async def test_an_answer_longer_than_there_is_room_for_fails_its_call_alone(serve: Serve, processes: str):
    sidecar = await serve(processes=processes)
    client = await session(sidecar)
    sidecar.plane.pool.gathered.most = 1 << 20
    _, _, answer = await sidecar.call("big", {"bytes": 3 << 20}, **client)
    assert "longer than there is room for" in answer["error"]["message"]
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'
    assert sidecar.plane.pool.gathered.held == 0


async def test_what_a_server_asks_of_shared_clients_is_refused_at_once(serve: Serve):
    sidecar = await serve(processes="shared")
    client = await session(sidecar)
    _, _, answer = await sidecar.call("ask", **client)
    assert json.loads(said(answer))["code"] == -32601


async def test_clients_that_share_a_process_keep_their_own_ids_and_tokens(serve: Serve):
    sidecar = await serve(processes="shared", callsPerProcess=8)

    async def client(number: int) -> None:
        for mine in (1, "1", number):
            params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": mine}}
            message = {"jsonrpc": "2.0", "id": mine, "method": "tools/call", "params": params}
            _, _, raw = await sidecar.post(message, Accept=ACCEPT)
            events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
            told, answer = [json.loads(event) if isinstance(event, str) else event for event in events]
            assert told["params"] == {"progressToken": mine, "progress": 1, "total": 2}
            assert answer["id"] == mine
            assert type(answer["id"]) is type(mine)
            used, token = json.loads(answer["result"]["content"][0]["text"])
            assert used == token

    await asyncio.gather(*(client(number) for number in range(2, 10)))


async def test_shared_processes_offer_nothing_that_nobody_would_hear(serve: Serve):
    sidecar = await serve(processes="shared")
    _, headers, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert "mcp-session-id" not in headers
    assert answer["result"]["capabilities"] == {"tools": {"listChanged": True}, "resources": {}}
    older = INITIALIZE | {"params": INITIALIZE["params"] | {"protocolVersion": "2025-03-26"}}
    _, _, answer = await sidecar.post(older, Accept=ACCEPT)
    assert answer["result"]["protocolVersion"] == "2025-03-26"
    level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "info"}}
    assert (await sidecar.post(level, Accept=ACCEPT))[2]["result"] == {}
    subscribe = {"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "a:b"}}
    assert (await sidecar.post(subscribe, Accept=ACCEPT))[2]["error"]["code"] == -32601


async def test_a_call_that_its_client_gives_up_frees_its_process(serve: Serve):
    sidecar = await serve(processes="shared")
    client = await session(sidecar)
    _, writer = await sidecar.begin("hang")
    await sidecar.busy(1)
    writer.close()
    await sidecar.idle()
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'
    question = {"jsonrpc": "2.0", "id": 1, "method": "test/cancelled"}
    _, _, answer = await sidecar.post(question, **client)
    assert len(answer["result"]["cancelled"]) == 1


async def test_a_process_that_hangs_in_a_call_that_was_given_up_is_replaced(serve: Serve):
    sidecar = await serve(processes="shared")
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    _, _, answer = await sidecar.call("deaf", **client)
    assert said(answer) == "deaf"
    _, writer = await sidecar.begin("echo")
    await sidecar.busy(1)
    writer.close()
    await sidecar.idle()
    assert said((await sidecar.call("pid", **client))[2]) != first


async def test_sessions_beyond_the_bound_wait_and_nobody_loses_a_process(serve: Serve):
    sidecar = await serve(maxProcesses=2, warm=0)
    clients = [await session(sidecar) for _ in range(2)]
    waiting = asyncio.create_task(sidecar.post(INITIALIZE, Accept=ACCEPT))
    await until(lambda: sidecar.plane.pool.waiting == 1, "a session to wait")
    for client in clients:
        assert said((await sidecar.call("count", **client))[2]) == "1"
    one = (
        f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {clients[0]['Mcp-Session-Id']}\r\n\r\n"
    )
    assert (await sidecar.raw(one.encode())).startswith(b"HTTP/1.1 204")
    assert (await waiting)[0] == 200
    assert said((await sidecar.call("count", **clients[1]))[2]) == "2"
    assert (await sidecar.call("count", **clients[0]))[0] == 404


async def test_a_session_that_waits_too_long_is_refused_with_a_reason(serve: Serve):
    sidecar = await serve(maxProcesses=1, warm=0, startTimeout="1s")
    await session(sidecar)
    _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert answer["error"]["code"] == 50300
    assert (
        "All 1 processes of the server are other sessions' (`stdio.maxProcesses`)"
        in answer["error"]["message"]
    )


async def test_a_session_whose_client_has_left_ends_and_one_that_listens_does_not(serve: Serve):
    sidecar = await serve(idleTimeout="600ms", warm=0)
    _, listens = await session(sidecar), await session(sidecar)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {listens['Mcp-Session-Id']}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    await until(lambda: len(sidecar.plane.pool.table) == 1, "the session that was left to end")
    assert said((await sidecar.call("count", **listens))[2]) == "1"
    writer.close()
    await until(lambda: not sidecar.plane.pool.table, "the other to end once nobody listens")
    await until(
        lambda: len(sidecar.launch.groups) == 1, "their processes to end"
    )  # the sidecar's own stays


async def test_what_a_server_says_on_its_own_waits_for_whoever_listens(serve: Serve):
    sidecar = await serve()
    client = await session(sidecar)
    plain = client | {"Accept": "application/json"}
    assert said((await sidecar.call("log", **plain))[2]) == "logged"
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {client['Mcp-Session-Id']}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b'"data": "here"')
    writer.close()


@pytest.mark.parametrize(
    ("how", "words", "reason"),
    [
        ("exits", "The server's process ended with exit code 1 before it answered `initialize`.", "ended"),
        ("banner", "It wrote a line to its standard output that are no MCP", "wrote"),
        ("silent", "The server's process did not answer `initialize` within 1 s.", "silent"),
    ],
)
@BOTH
async def test_what_a_server_gets_wrong_at_its_start_is_said(
    serve: Serve, processes: str, how: str, words: str, reason: str
):
    sidecar = await serve(how, processes, ready=False, startTimeout="1s")
    _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert words in answer["error"]["message"]
    await until(
        lambda: words in sidecar.handshake.problem, f"the handshake to say so: {sidecar.handshake.problem}"
    )
    assert (await sidecar.admin_get("/readyz"))[0] == 503
    assert (await sidecar.metrics())[f'mcpace_stdio_failed_starts_total{{reason="{reason}"}}'] > 0
    assert (await sidecar.admin_get("/stats"))[1]["processes"]["failed"][reason] > 0
    assert words in (await sidecar.admin_get("/stats"))[1]["processes"]["problem"]


async def test_a_server_that_keeps_ending_is_started_ever_more_rarely(serve: Serve):
    sidecar = await serve("exits", ready=False, warm=0)
    await until(lambda: sidecar.sidecar.processes.in_a_row >= 4, "some failures")
    processes = sidecar.sidecar.processes
    assert processes._not_before > 0
    assert processes.starts == processes.in_a_row


@pytest.mark.parametrize("how", ["deaf", "forks"])
async def test_nothing_is_left_of_a_process_that_does_not_want_to_end(serve: Serve, how: str):
    sidecar = await serve(how)
    client = await session(sidecar)
    pid = int(said((await sidecar.call("pid", **client))[2]))
    one = f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {client['Mcp-Session-Id']}\r\n\r\n"
    await sidecar.raw(one.encode())
    await until(lambda: pid not in sidecar.launch.groups, "its group to end")
    assert not lives(pid)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


async def test_a_process_that_ends_when_its_input_does_is_not_killed(serve: Serve):
    sidecar = await serve()
    client = await session(sidecar)
    pid = int(said((await sidecar.call("pid", **client))[2]))
    one = f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {client['Mcp-Session-Id']}\r\n\r\n"
    await sidecar.raw(one.encode())
    await until(lambda: not lives(pid), "it to end", 1.9)


async def test_a_foreign_or_missing_session_is_refused_as_by_official_servers(serve: Serve):
    sidecar = await serve()
    assert (await sidecar.call("echo", Accept=ACCEPT))[0] == 400
    assert (await sidecar.call("echo", Accept=ACCEPT, Mcp_Session_Id="0" * 32))[0] == 404
    raw = await sidecar.raw(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: x\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 404")


async def test_an_id_that_is_in_use_is_refused_in_its_own_session_alone(serve: Serve):
    sidecar = await serve()
    one, other = await session(sidecar), await session(sidecar)
    held = asyncio.create_task(sidecar.call("hold", **one))
    await sidecar.busy(1)
    assert (await sidecar.call("echo", **one))[0] == 400
    assert said((await sidecar.call("echo", {"a": 2}, **other))[2]) == '{"a": 2}'
    release = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "release"}}
    await sidecar.post(release, **one)
    assert said((await held)[2]) == "held"


async def test_a_cancelled_call_is_answered_though_its_server_never_does(serve: Serve):
    sidecar = await serve()
    client = await session(sidecar)
    hanging = asyncio.create_task(sidecar.call("hang", **client))
    await sidecar.busy(1)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await sidecar.post(note, **client))[0] == 202
    assert (await hanging)[2]["error"]["message"] == "Request cancelled"
    question = {"jsonrpc": "2.0", "id": 2, "method": "test/cancelled"}
    assert (await sidecar.post(question, **client))[2]["result"]["cancelled"] == [1]


async def test_a_silent_server_times_out_unless_it_waits_for_its_client(serve: Serve):
    sidecar = await serve(config={"upstream": {"timeout": "1s"}})
    client = await session(sidecar)
    asks = asyncio.create_task(sidecar.call("ask", **client))
    await sidecar.busy(1)
    hang = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "hang"}}
    other = await session(sidecar)
    _, _, answer = await sidecar.post(hang, **other)
    assert answer["error"]["code"] == 50400
    assert not asks.done()
    reply = {"jsonrpc": "2.0", "id": "q1", "result": {"role": "assistant"}}
    assert (await sidecar.post(reply, **client))[0] == 202
    assert b"assistant" in (await asks)[2]


async def test_limits_and_the_cache_know_no_difference(serve: Serve):
    config = {
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3}]},
        "cache": {"tools": [{"name": "count", "ttl": "1m", "scope": "shared"}]},
    }
    sidecar = await serve(processes="shared", config=config)
    client = await session(sidecar)
    assert [said((await sidecar.call("count", **client))[2]) for _ in range(3)] == ["1", "1", "1"]
    assert (await sidecar.call("count", **client))[2]["error"]["code"] == 42900


@pytest.fixture
async def container() -> AsyncIterator[int]:
    """A port at which each connection is a process, as in a pod."""
    started: list[asyncio.subprocess.Process] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", SERVER, stdin=pipe, stdout=pipe
        )
        started.append(process)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, process.stdin), pump(process.stdout, writer))
        await process.wait()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@BOTH
async def test_a_process_behind_a_connection_is_as_one_behind_pipes(
    start: Start, container: int, processes: str
):
    sidecar = await start(container, {"transport": "stdio", "stdio": {"processes": processes}})
    await sidecar.ready()
    client = await session(sidecar)
    first = int(said((await sidecar.call("pid", **client))[2]))
    assert len(said((await sidecar.call("big", {"bytes": 4 << 20}, **client))[2])) == 4 << 20
    if processes == "perSession":
        other = await session(sidecar)
        assert int(said((await sidecar.call("pid", **other))[2])) != first
        one = (
            f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {other['Mcp-Session-Id']}\r\n\r\n"
        )
        await sidecar.raw(one.encode())
    _, _, answer = await sidecar.call("die", **client)
    assert answer["error"]["code"] == 50200
    if processes == "perSession":
        client = await session(sidecar)
    assert int(said((await sidecar.call("pid", **client))[2])) != first
    await until(lambda: not lives(first), "the first process to end")


async def test_a_container_that_starts_no_processes_is_said(start: Start):
    sidecar = await start(free_port(), {"transport": "stdio"})
    _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert (
        "No process of the server can be started: nothing answers on 127.0.0.1:"
        in answer["error"]["message"]
    )


async def test_a_server_that_refuses_the_handshake_is_not_started_without_end(serve: Serve):
    sidecar = await serve("refuses", "shared", ready=False)
    await until(
        lambda: "refuses `initialize`: no licence" in sidecar.handshake.problem, "the handshake to say so"
    )
    await until(lambda: sidecar.sidecar.processes.in_a_row >= 3, "it to be tried again")
    assert not sidecar.sidecar.processes.may_start(time.monotonic())


def test_the_bound_of_shared_processes_is_one_until_it_is_written():
    assert SidecarConfig(transport="stdio", stdio={"processes": "shared"}).stdio.most == 1
    assert SidecarConfig(transport="stdio").stdio.most == 16


async def test_who_lets_processes_end_locks_nobody_else_out(serve: Serve):
    sidecar = await serve(warm=0)
    for _ in range(6):
        client = await session(sidecar)
        assert "error" in (await sidecar.call("die", **client))[2]
    assert sidecar.plane.pool.processes.may_start(time.monotonic())
    assert said((await sidecar.call("echo", {"a": 1}, **await session(sidecar)))[2]) == '{"a": 1}'


async def test_a_handshake_whose_result_is_none_of_mcp_is_said(serve: Serve):
    sidecar = await serve("odd", "shared", ready=False)
    await until(lambda: "none of MCP" in sidecar.handshake.problem, "the handshake to say so")
