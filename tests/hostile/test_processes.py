"""Processes of stdio that end, hang, never begin, or do not want to end."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.kit.processes import ACCEPT, BOTH, INITIALIZE, SERVER, Serve, delete, lives, said, session
from tests.kit.sidecars import Start
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_sidecar.stdio import strays


@BOTH
async def test_a_call_in_which_the_process_ends_is_an_error_and_the_next_has_a_new_process(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines(processes=processes)
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    status, _, answer = await sidecar.call("die", **client)
    assert (status, answer["error"]["code"]) == (200, 50200)
    told = "The server's process ended with exit code 3. Whether the call took effect is unknown."
    assert told in answer["error"]["message"]
    assert said((await sidecar.call("pid", **client))[2]) != first
    metrics = await sidecar.metrics()
    assert metrics["mcpace_stdio_crashes_total"] == 1


async def test_a_session_with_an_id_of_ours_goes_on_in_a_new_process(serve_lines: Serve):
    sidecar = await serve_lines(idleTimeout="1s")
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    assert (await sidecar.call("die", **client))[2]["error"]["code"] in (50200, 50300)
    second = said((await sidecar.call("pid", **client))[2])
    assert second != first
    await until(lambda: not sidecar.plane.pool.table, "its process to end, as nobody calls")
    assert said((await sidecar.call("pid", **client))[2]) not in (first, second)


async def test_all_calls_in_flight_of_a_process_that_ends_get_one_error_each(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared", callsPerProcess=8)
    client = await session(sidecar)
    held = [asyncio.create_task(sidecar.call("hold", **client)) for _ in range(5)]
    await sidecar.busy(5)
    await sidecar.call("die", **client)
    answers = await asyncio.gather(*held)
    assert [answer["error"]["code"] for _, _, answer in answers] == [50200] * 5
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'


async def test_sessions_beyond_the_bound_wait_and_nobody_loses_a_process(serve_lines: Serve):
    sidecar = await serve_lines(maxProcesses=2, warm=0)
    clients = [await session(sidecar) for _ in range(2)]
    waiting = asyncio.create_task(sidecar.post(INITIALIZE, Accept=ACCEPT))
    await until(lambda: sidecar.plane.pool.waiting == 1, "a session to wait")
    for client in clients:
        assert said((await sidecar.call("count", **client))[2]) == "1"
    assert (await sidecar.raw(delete(clients[0]))).startswith(b"HTTP/1.1 204")
    assert (await waiting)[0] == 200
    assert said((await sidecar.call("count", **clients[1]))[2]) == "2"
    assert (await sidecar.call("count", **clients[0]))[0] == 404


async def test_a_session_that_waits_too_long_is_refused_with_a_reason(serve_lines: Serve):
    sidecar = await serve_lines(maxProcesses=1, warm=0, startTimeout="1s")
    await session(sidecar)
    _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert answer["error"]["code"] == 50300
    assert (
        "All 1 processes of the server are other sessions' (`stdio.maxProcesses`)"
        in answer["error"]["message"]
    )


async def test_a_session_whose_client_has_left_ends_and_one_that_listens_does_not(serve_lines: Serve):
    sidecar = await serve_lines(idleTimeout="600ms", warm=0)
    _, listens = await session(sidecar), await session(sidecar)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {listens['Mcp-Session-Id']}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    await until(lambda: len(sidecar.plane.pool.table) == 1, "the session that was left to end")
    assert said((await sidecar.call("count", **listens))[2]) == "1"
    writer.close()
    await until(lambda: sidecar.plane.recordings.away, "its leaving to be noticed")
    await sidecar.forsaken()
    await until(lambda: not sidecar.plane.pool.table, "the other to end once nobody listens")
    await until(
        lambda: len(sidecar.launch.groups) == 1, "their processes to end"
    )  # the sidecar's own stays


async def test_a_server_that_nobody_calls_for_long_keeps_no_process_but_those_ahead(serve_lines: Serve):
    """A day is a second here; who calls afterwards is served as before."""
    sidecar = await serve_lines(processes="shared", maxProcesses=4, idleTimeout="1s")
    held = [await sidecar.begin("hold") for _ in range(4)]
    await until(lambda: len(sidecar.launch.groups) == 4, "a process for each call")
    for _, writer in held:
        writer.close()
    await until(lambda: len(sidecar.launch.groups) == 1, "the others to end", 30)
    client = await session(sidecar)
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'


async def test_sessions_that_nobody_calls_for_long_keep_no_process_but_those_ahead(serve_lines: Serve):
    sidecar = await serve_lines("leaves", idleTimeout="1s", warm=2)
    clients = [await session(sidecar) for _ in range(6)]
    marks = [said((await sidecar.call("mark", **client))[2]) for client in clients]
    await until(lambda: not sidecar.plane.pool.table, "the sessions' processes to be asked to end")
    await until(lambda: len(sidecar.launch.groups) == 3, "all but the warm ones and its own to end", 30)
    assert not any(map(strays.alive, marks))
    assert said((await sidecar.call("pid", **clients[0]))[2]).isdigit(), "its session goes on in another"


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
    serve_lines: Serve, processes: str, how: str, words: str, reason: str
):
    sidecar = await serve_lines(how, processes, ready=False, startTimeout="1s")
    _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert words in answer["error"]["message"]
    await until(
        lambda: words in sidecar.handshake.problem, f"the handshake to say so: {sidecar.handshake.problem}"
    )
    assert (await sidecar.admin_get("/readyz"))[0] == 503
    assert (await sidecar.metrics())[f'mcpace_stdio_failed_starts_total{{reason="{reason}"}}'] > 0
    assert (await sidecar.admin_get("/stats"))[1]["processes"]["failed"][reason] > 0
    assert words in (await sidecar.admin_get("/stats"))[1]["processes"]["problem"]


async def test_a_server_that_keeps_ending_is_started_ever_more_rarely(serve_lines: Serve):
    sidecar = await serve_lines("exits", ready=False, warm=0)
    await until(lambda: sidecar.sidecar.processes.in_a_row >= 4, "some failures")
    processes = sidecar.sidecar.processes
    assert processes._not_before > 0
    failed = processes.in_a_row
    # The first may have lived until it was asked which protocol it speaks: then it has not failed to start.
    assert failed <= processes.starts <= 1 + failed


@pytest.mark.parametrize("how", ["deaf", "forks"])
async def test_nothing_is_left_of_a_process_that_does_not_want_to_end(serve_lines: Serve, how: str):
    sidecar = await serve_lines(how)
    client = await session(sidecar)
    pid = int(said((await sidecar.call("pid", **client))[2]))
    await sidecar.raw(delete(client))
    await until(lambda: pid not in sidecar.launch.groups, "its group to end")
    assert not lives(pid)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


async def test_what_has_left_its_group_ends_with_the_process_that_started_it(serve_lines: Serve):
    sidecar = await serve_lines("leaves")
    one, other = await session(sidecar), await session(sidecar)
    pid = int(said((await sidecar.call("pid", **one))[2]))
    marks = [said((await sidecar.call("mark", **client))[2]) for client in (one, other)]
    assert all(map(strays.alive, marks))
    await sidecar.raw(delete(one))
    await until(lambda: pid not in sidecar.launch.groups, "all of it to end")
    assert not strays.alive(marks[0])
    assert strays.alive(marks[1]), "what is another's goes on"


async def test_a_process_that_ignores_the_end_of_its_input_is_asked_to_end(
    serve_lines: Serve, tmp_path: Path
):
    sidecar = await serve_lines(f"trap:{tmp_path}/said")
    client = await session(sidecar)
    pid = int(said((await sidecar.call("pid", **client))[2]))
    await sidecar.raw(delete(client))
    await until(lambda: not lives(pid), "it to end")
    assert (tmp_path / "said").read_text() == "trapped"


async def test_a_process_that_ends_when_its_input_does_is_not_killed(serve_lines: Serve):
    sidecar = await serve_lines()
    client = await session(sidecar)
    pid = int(said((await sidecar.call("pid", **client))[2]))
    await sidecar.raw(delete(client))
    await until(lambda: not lives(pid), "it to end", 1.9)


Listen = Callable[[int], Awaitable[int]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Makes each connection to a port a process, as in a pod."""
    servers: list[asyncio.Server] = []
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

    async def listen(port: int) -> int:
        servers.append(await asyncio.start_server(serve, "127.0.0.1", port))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield listen
    for server in servers:
        server.close()
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@BOTH
async def test_a_process_behind_a_connection_is_as_one_behind_pipes(
    start: Start, listen: Listen, processes: str
):
    sidecar = await start(await listen(0), {"transport": "stdio", "stdio": {"processes": processes}})
    await sidecar.ready()
    client = await session(sidecar)
    first = int(said((await sidecar.call("pid", **client))[2]))
    assert len(said((await sidecar.call("big", {"bytes": 4 << 20}, **client))[2])) == 4 << 20
    if processes == "perSession":
        other = await session(sidecar)
        assert int(said((await sidecar.call("pid", **other))[2])) != first
        await sidecar.raw(delete(other))
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


async def test_a_container_that_does_not_listen_yet_is_no_failure(start: Start, listen: Listen):
    """As while its image is pulled: it is looked for as often as at first."""
    port = free_port()
    sidecar = await start(port, {"transport": "stdio"})
    processes = sidecar.sidecar.processes
    await until(lambda: processes.starts >= 8, "it to be tried some times", 30)
    assert (dict(processes.failed), processes.in_a_row) == ({}, 0)
    assert "nothing answers on 127.0.0.1:" in sidecar.handshake.problem
    await listen(port)
    await until(lambda: sidecar.handshake.ready, "it to be found within seconds", 10)


async def test_a_server_that_refuses_the_handshake_is_not_started_without_end(serve_lines: Serve):
    sidecar = await serve_lines("refuses", "shared", ready=False)
    await until(
        lambda: "refuses `initialize`: no licence" in sidecar.handshake.problem, "the handshake to say so"
    )
    await until(lambda: sidecar.sidecar.processes.in_a_row >= 3, "it to be tried again")
    assert not sidecar.sidecar.processes.may_start(time.monotonic())


async def test_who_lets_processes_end_locks_nobody_else_out(serve_lines: Serve):
    sidecar = await serve_lines(warm=0)
    for _ in range(6):
        client = await session(sidecar)
        assert "error" in (await sidecar.call("die", **client))[2]
    assert sidecar.plane.pool.processes.may_start(time.monotonic())
    assert said((await sidecar.call("echo", {"a": 1}, **await session(sidecar)))[2]) == '{"a": 1}'


async def test_a_handshake_whose_result_is_none_of_mcp_is_said(serve_lines: Serve):
    sidecar = await serve_lines("odd", "shared", ready=False)
    await until(lambda: "none of MCP" in sidecar.handshake.problem, "the handshake to say so")
