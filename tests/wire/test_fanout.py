"""Many calls in one: the tool `parallel`, and the batches of 2025-03-26."""

import asyncio
import sys
from typing import Any

import msgspec
import pytest
from tests.kit.programs import serving
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import until
from tools.ports import free_port

PARALLEL = {"concurrency": {"parallelTool": True}}


def answer_to(heard: Heard, **result: Any) -> bytes:
    message = heard.message
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": result}))


def echo(heard: Heard) -> bytes:
    message = heard.message
    if message.get("method") == "tools/list":
        return answer_to(heard, tools=[{"name": "echo", "inputSchema": {"type": "object"}}])
    if message.get("method") != "tools/call":
        return json_answer(b"", b"202 Accepted")
    name, arguments = message["params"]["name"], message["params"].get("arguments")
    if name == "broken":
        return answer_to(heard, content=[{"type": "text", "text": "it broke"}], isError=True)
    return answer_to(heard, content=[{"type": "text", "text": name}], structuredContent={"args": arguments})


async def parallel(sidecar: Running, *calls: Any, **headers: str) -> Any:
    _, _, body = await sidecar.call("parallel", {"calls": list(calls)}, **headers)
    return body["result"]


async def test_parallel_answers_every_call_in_order_and_survives_the_failure_of_any(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, PARALLEL)
    calls = [{"tool": "echo", "arguments": {"n": n}} for n in range(3)]
    result = await parallel(sidecar, calls[0], {"tool": "broken"}, calls[1], calls[2])
    content = result["structuredContent"]
    assert (content["total"], content["succeeded"]) == (4, 3)
    assert content["errors"] == [{"index": 1, "tool": "broken", "message": "it broke"}]
    shown = [
        r["structuredContent"]["args"] if r and "structuredContent" in r else None
        for r in content["results"]
    ]
    assert shown == [{"n": 0}, None, {"n": 1}, {"n": 2}]
    assert msgspec.json.decode(result["content"][0]["text"]) == content
    ids = {heard.message["id"] for heard in scripted.calls}
    assert len(ids) == 4, "a server tells requests apart by their ids"


async def test_the_calls_of_parallel_run_at_once(scripted: Scripted, start: Start) -> None:
    arrived, go = 0, asyncio.Event()

    async def together(heard: Heard) -> Any:
        nonlocal arrived
        arrived += 1
        if arrived == 8:
            go.set()
        await go.wait()
        yield answer_to(heard)

    sidecar = await start(scripted.port, PARALLEL)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = together
    arrived = 0
    result = await parallel(sidecar, *({"tool": f"t{n}"} for n in range(8)))
    assert result["structuredContent"]["succeeded"] == 8


async def test_the_calls_of_parallel_are_counted_one_by_one_and_parallel_itself_is_not(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    limits = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3}]}}
    sidecar = await start(scripted.port, PARALLEL | limits)
    content = (await parallel(sidecar, *({"tool": "echo"} for _ in range(5))))["structuredContent"]
    assert content["succeeded"] == 3
    assert all("Rate limit exceeded" in error["message"] for error in content["errors"])


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([], "1 to 32"),
        ([{"tool": "echo"}] * 33, "1 to 32"),
        ([{"tool": "parallel", "arguments": {"calls": []}}], "does not call itself"),
        ([{"arguments": {}}], "list of {tool, arguments}"),
    ],
)
async def test_parallel_says_what_is_wrong_with_its_calls(
    scripted: Scripted, start: Start, calls: list[Any], words: str
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, PARALLEL)
    result = await parallel(sidecar, *calls)
    assert result["isError"] is True
    assert words in result["content"][0]["text"]
    assert not scripted.calls


async def test_parallel_is_listed_beside_the_servers_tools_and_gives_way_to_one_of_its_name(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, PARALLEL)
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    _, _, body = await sidecar.post(listing)
    assert [tool["name"] for tool in body["result"]["tools"]] == ["echo", "parallel"]
    sidecar.plane.catalog.tools = {"parallel": {}}
    _, _, body = await sidecar.post(listing)
    assert [tool["name"] for tool in body["result"]["tools"]] == ["echo"]
    result = await parallel(sidecar, {"tool": "echo"})
    assert result["content"][0]["text"] == "parallel", "the server's own tool answers"


async def test_the_headers_of_a_modern_call_mirror_each_call_of_parallel(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port, PARALLEL)
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "parallel"}
    await parallel(sidecar, {"tool": "echo"}, {"tool": "näme"}, Mcp_Param_X="1", **headers)
    names = {heard.message["params"]["name"]: heard.headers for heard in scripted.calls}
    assert names["echo"][b"mcp-name"] == b"echo"
    assert names["näme"][b"mcp-name"] == b"=?base64?bsOkbWU=?="
    assert b"mcp-param-x" not in names["echo"]


ANNOTATED = """
import os
from typing import Annotated
from mcp.server.mcpserver import MCPServer
from pydantic import Field

server = MCPServer("regions")

@server.tool()
def where(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
    count: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})] = 1,
) -> str:
    return f"{region} {count}"

server.run("streamable-http", host="127.0.0.1", port=int(os.environ["PORT"]))
"""


async def test_arguments_that_a_schema_wants_in_headers_are_there_for_each_call_of_parallel(
    start: Start,
) -> None:
    """The official server refuses a call whose headers do not say what its body does."""
    port = free_port()
    async with serving(port, sys.executable, "-c", ANNOTATED):
        sidecar = await start(port, PARALLEL)
        await until(lambda: sidecar.catalog.tools, "the server's tools")
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        calls = [
            {"tool": "where", "arguments": {"region": "süd", "count": 3}},
            {"tool": "where", "arguments": {"region": "us-west"}},
        ]
        params = {"name": "parallel", "arguments": {"calls": calls}, "_meta": meta}
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "parallel"}
        accepts = {"Accept": "application/json, text/event-stream"}
        _, _, body = await sidecar.post(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, **headers, **accepts
        )
    summary = body["result"]["structuredContent"]
    texts = [result["content"][0]["text"] for result in summary["results"]]
    assert (texts, summary["errors"]) == (["süd 3", "us-west 1"], [])


async def test_what_the_server_says_during_parallel_reaches_the_client(
    scripted: Scripted, start: Start
) -> None:
    async def chatty(heard: Heard) -> Any:
        if heard.message.get("method") != "tools/call":
            yield echo(heard)
            return
        yield SSE + chunk(b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n')
        yield chunk(b"data: " + answer_to(heard).partition(b"\r\n\r\n")[2] + b"\n\n") + b"0\r\n\r\n"

    scripted.answer = chatty
    sidecar = await start(scripted.port, PARALLEL)
    _, headers, body = await sidecar.call("parallel", {"calls": [{"tool": "a"}, {"tool": "b"}]})
    assert headers["content-type"] == "text/event-stream"
    assert body.count(b"notifications/message") == 2
    assert b'"succeeded":2' in body


async def test_a_client_that_leaves_gives_up_every_call_of_parallel(
    scripted: Scripted, start: Start
) -> None:
    async def forever(_: Heard) -> Any:
        await asyncio.Event().wait()
        yield b""

    sidecar = await start(scripted.port, PARALLEL)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = forever
    _, writer = await sidecar.begin("parallel", {"calls": [{"tool": "a"}, {"tool": "b"}]})
    await until(lambda: len(scripted.calls) == 2, "both calls to reach the server")
    writer.transport.abort()
    await sidecar.idle()
    assert sidecar.plane.bulkhead.in_flight == 0


BATCH = [
    {
        "jsonrpc": "2.0",
        "id": "a",
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"n": 1}},
    },
    {"jsonrpc": "2.0", "method": "notifications/progress"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "broken"}},
]


@pytest.mark.parametrize("version", ["", "2025-03-26"])
async def test_a_batch_is_answered_as_a_batch_and_each_of_its_calls_is_counted(
    scripted: Scripted, start: Start, version: str
) -> None:
    scripted.answer = echo
    sidecar = await start(
        scripted.port, {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 2}]}}
    )
    _, _, body = await sidecar.post(BATCH, MCP_Protocol_Version=version)
    assert [(r["id"], r["result"].get("isError", False)) for r in body] == [("a", False), (2, True)]
    _, _, body = await sidecar.post(BATCH[:1], MCP_Protocol_Version=version)
    assert body[0]["error"]["code"] == 42900
    status, _, _ = await sidecar.post(BATCH[1:2], MCP_Protocol_Version=version)
    assert status == 202


@pytest.mark.parametrize(
    ("body", "version"),
    [(BATCH, "2025-06-18"), (BATCH, "2026-07-28"), ([], ""), ([BATCH[1]] * 101, ""), (b"[1,", "")],
)
async def test_other_batches_are_refused(scripted: Scripted, start: Start, body: Any, version: str) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port)
    status, _, answer = await sidecar.post(body, MCP_Protocol_Version=version)
    assert (status, answer["error"]["code"] in (-32600, -32700)) == (400, True)
    assert not scripted.calls


async def test_a_bad_message_in_a_batch_costs_only_itself(scripted: Scripted, start: Start) -> None:
    scripted.answer = echo
    sidecar = await start(scripted.port)
    _, _, body = await sidecar.post([BATCH[0], {"id": 9, "method": "x"}])
    assert body[0]["id"] == "a"
    assert body[1]["error"]["code"] == -32600


async def test_a_list_that_arrives_as_events_in_pieces_gets_the_sidecars_tools_too(
    scripted: Scripted, start: Start
) -> None:
    async def pieces(heard: Heard) -> Any:
        event = b"event: message\ndata: " + echo(heard).partition(b"\r\n\r\n")[2] + b"\n\n"
        yield SSE + chunk(event[:30])
        yield chunk(event[30:]) + b"0\r\n\r\n"

    sidecar = await start(scripted.port, PARALLEL)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = pieces
    _, headers, body = await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert headers["content-type"] == "text/event-stream"
    assert b'"echo"' in body
    assert b'"parallel"' in body
