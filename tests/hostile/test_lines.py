"""What clients and a process of stdio say to each other: junk, line ends, much of it, and ids."""

import asyncio
import json

from tests.kit.processes import ACCEPT, BOTH, Serve, delete, said, session
from tests.kit.waiting import until


@BOTH
async def test_lines_that_are_no_messages_are_counted_and_passed_over(serve_lines: Serve, processes: str):
    sidecar = await serve_lines(processes=processes)
    client = await session(sidecar)
    assert said((await sidecar.call("junk", **client))[2]) == "well"
    assert (await sidecar.metrics())["mcpace_stdio_junk_lines_total"] == 3


@BOTH
async def test_line_ends_in_a_body_and_separators_in_its_strings_make_no_lines(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines(processes=processes)
    client = await session(sidecar)
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": "é\u2028\u2029\r\n"}}},
        indent=1, ensure_ascii=False,
    ).replace("\n", "\r\n")  # fmt: skip
    _, _, answer = await sidecar.post(body.encode(), **client)
    assert json.loads(said(answer)) == {"a": "é\u2028\u2029\r\n"}


@BOTH
async def test_four_mebibytes_pass_both_ways(serve_lines: Serve, processes: str):
    sidecar = await serve_lines(processes=processes, config={"maxRequestBytes": "5Mi"})
    client = await session(sidecar)
    assert len(said((await sidecar.call("big", {"bytes": 4 << 20}, **client))[2])) == 4 << 20
    given = {"a": "x" * (4 << 20)}
    assert json.loads(said((await sidecar.call("echo", given, **client))[2])) == given
    await until(lambda: sidecar.plane.pool.gathered.held == 0, "nothing to be held")


@BOTH
async def test_what_is_no_utf_8_in_an_answer_is_replaced_and_the_rest_is_exact(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines(processes=processes)
    client = await session(sidecar)
    assert said((await sidecar.call("latin", **client))[2]) == "Café, ☕, \ufffd"


async def test_what_a_process_does_not_read_is_counted_and_bounded_for_all_together(serve_lines: Serve):
    sidecar = await serve_lines()
    client = await session(sidecar)
    gathered = sidecar.plane.pool.gathered
    gathered.most = 3 << 20
    assert said((await sidecar.call("deaf", **client))[2]) == "deaf"
    note = {"jsonrpc": "2.0", "method": "notifications/a", "params": {"a": "x" * (700 << 10)}}
    taken = 0
    while (answer := await sidecar.post(note, **client))[0] == 202:
        taken += 1
        assert taken < 8, "it takes without end"
        assert gathered.held > 600 << 10
    assert "does not read what it is given" in answer[2]["error"]["message"]
    assert 2 <= taken <= 5
    assert gathered.held <= gathered.most
    other = await session(sidecar)
    assert said((await sidecar.call("echo", {"a": 1}, **other))[2]) == '{"a": 1}'
    await sidecar.raw(delete(client))
    assert gathered.held == 0


@BOTH
async def test_an_answer_longer_than_there_is_room_for_fails_its_call_alone(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines(processes=processes)
    client = await session(sidecar)
    sidecar.plane.pool.gathered.most = 1 << 20
    _, _, answer = await sidecar.call("big", {"bytes": 3 << 20}, **client)
    assert "longer than there is room for" in answer["error"]["message"]
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'
    await until(lambda: sidecar.plane.pool.gathered.held == 0, "nothing to be held")


async def test_what_a_server_says_on_its_own_waits_for_whoever_listens(serve_lines: Serve):
    sidecar = await serve_lines()
    client = await session(sidecar)
    plain = client | {"Accept": "application/json"}
    assert said((await sidecar.call("log", **plain))[2]) == "logged"
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {client['Mcp-Session-Id']}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b'"data": "here"')
    writer.close()


async def test_an_id_that_is_in_use_is_refused_in_its_own_session_alone(serve_lines: Serve):
    sidecar = await serve_lines()
    one, other = await session(sidecar), await session(sidecar)
    held = asyncio.create_task(sidecar.call("hold", **one))
    await sidecar.busy(1)
    assert (await sidecar.call("echo", **one))[0] == 400
    assert said((await sidecar.call("echo", {"a": 2}, **other))[2]) == '{"a": 2}'
    release = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "release"}}
    await sidecar.post(release, **one)
    assert said((await held)[2]) == "held"


async def test_a_cancelled_call_is_answered_though_its_server_never_does(serve_lines: Serve):
    sidecar = await serve_lines()
    client = await session(sidecar)
    hanging = asyncio.create_task(sidecar.call("hang", **client))
    await sidecar.busy(1)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await sidecar.post(note, **client))[0] == 202
    assert (await hanging)[2]["error"]["message"] == "Request cancelled"
    question = {"jsonrpc": "2.0", "id": 2, "method": "test/cancelled"}
    assert (await sidecar.post(question, **client))[2]["result"]["cancelled"] == [1]


async def test_a_silent_server_times_out_unless_it_waits_for_its_client(serve_lines: Serve):
    sidecar = await serve_lines(config={"upstream": {"timeout": "1s"}})
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


async def test_a_foreign_or_missing_session_is_refused_as_by_official_servers(serve_lines: Serve):
    sidecar = await serve_lines()
    assert (await sidecar.call("echo", Accept=ACCEPT))[0] == 400
    assert (await sidecar.call("echo", Accept=ACCEPT, Mcp_Session_Id="0" * 32))[0] == 404
    raw = await sidecar.raw(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: x\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 404")
