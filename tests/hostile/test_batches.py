"""Batches as nobody honest sends them: nested, endless, with answers that never end."""

import asyncio
import itertools
import tracemalloc
from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.call import fanout
from mcpace_sidecar.mcp import request, strictness

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
SLOTS = {"concurrency": {"maxInFlight": 8}}


@pytest.mark.parametrize("depth", [2, 3, 300, 100_000])
async def test_a_batch_within_a_batch_is_no_message(scripted: Scripted, start: Start, depth: int) -> None:
    sidecar = await start(scripted.port, SLOTS)
    for _ in range(20):
        status, _, body = await sidecar.post(b"[" * depth + CALL + b"]" * depth)
        errors = body if isinstance(body, list) else [body]
        assert [error["error"]["code"] in (-32600, -32700) for error in errors] == [True], (status, body)
    assert not scripted.calls
    assert not sidecar.in_flight
    assert sidecar.plane.bulkhead.in_flight == 0


async def test_a_batch_in_a_batch_costs_only_itself(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda heard: json_answer(
        msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message.get("id"), "result": {}})
    )
    sidecar = await start(scripted.port)
    _, _, body = await sidecar.post(b"[%b,[%b]]" % (CALL, CALL))
    assert [("result" in each, each["id"]) for each in body] == [(True, 1), (False, None)]
    assert body[1]["error"]["code"] == -32600
    assert len(scripted.calls) == 1


@pytest.mark.parametrize("member", [b"1,", b"[],", b"{},", CALL + b","])
def test_a_batch_is_read_no_further_than_it_may_go(member: bytes) -> None:
    body = b"[" + member * (4_000_000 // len(member)) + b"1]"
    tracemalloc.start()
    with pytest.raises(strictness.MessageError, match="1 to 100"):
        request.split(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(body), f"{peak} bytes for {len(body)}"


async def test_a_large_batch_is_held_once(scripted: Scripted, start: Start) -> None:
    go = asyncio.Event()

    async def slowly(heard: Heard) -> Any:
        await go.wait()
        yield json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    sidecar = await start(scripted.port, SLOTS | {"concurrency": {"maxInFlight": 1, "maxQueued": 1000}})
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = slowly
    text = b"x" * 40_000
    body = b"[" + b",".join(CALL.replace(b'"t"', b'"%b"' % text) for _ in range(100)) + b"]"
    tracemalloc.start()
    posted = asyncio.ensure_future(sidecar.post(body))
    await sidecar.busy(101)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    go.set()
    await posted
    assert held < 4 * len(body), f"{held} bytes for {len(body)}"


async def test_answers_too_large_together_are_errors_each(scripted: Scripted, start: Start) -> None:
    text = b"x" * 7_000_000
    scripted.answer = lambda heard: json_answer(
        b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"%b"}]}}'
        % (heard.message.get("id") or 0, text)
    )
    sidecar = await start(scripted.port)
    calls = [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "t"}} for n in range(4)]
    _, _, body = await sidecar.post(calls)
    assert [each["id"] for each in body] == [0, 1, 2, 3]
    assert sum("result" in each for each in body) == 2
    assert all("MiB together" in each["error"]["message"] for each in body if "error" in each)


async def test_a_request_in_a_batch_that_is_answered_with_no_response_gets_an_error(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(b"<html>gone</html>", b"502 Bad Gateway")
    sidecar = await start(scripted.port)
    _, _, body = await sidecar.post(b"[" + CALL + b"]")
    assert (body[0]["id"], body[0]["error"]["code"]) == (1, 50200)


async def test_parts_that_wait_share_their_head(scripted: Scripted, start: Start) -> None:
    go = asyncio.Event()

    async def slowly(heard: Heard) -> Any:
        await go.wait()
        yield json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message["id"], "result": {}}))

    sidecar = await start(scripted.port, {"upstream": {"maxConnections": 1}})
    await sidecar.ready()
    scripted.answer = slowly
    calls = [
        {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "t"}} for n in range(100)
    ]
    long = {f"X-{number}": "v" * 1000 for number in range(28)}
    tracemalloc.start()
    posted = asyncio.ensure_future(sidecar.post(calls, **long))
    await until(lambda: len(sidecar.plane.pool._line) == 99, "the others to wait")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    go.set()
    _, _, body = await posted
    assert [each["id"] for each in body if "result" in each] == list(range(100))
    assert held < 1_000_000, f"{held} bytes for one head of 28,000"


async def test_the_calls_of_parallel_that_wait_share_the_bytes_of_their_head(
    scripted: Scripted, start: Start
) -> None:
    go = asyncio.Event()

    async def slowly(heard: Heard) -> Any:
        await go.wait()
        yield json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message["id"], "result": {}}))

    config = {"concurrency": {"parallelTool": True}, "upstream": {"maxConnections": 1}}
    sidecar = await start(scripted.port, config)
    await sidecar.ready()
    scripted.answer = slowly
    calls = [{"tool": f"t{number}", "arguments": {}} for number in range(32)]
    batch = [
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": "parallel", "arguments": {"calls": calls}},
        }
        for number in range(3)
    ]
    long = {f"X-{number}": "v" * 1000 for number in range(28)} | {"Mcp-Name": "parallel"}
    tracemalloc.start()
    posted = asyncio.ensure_future(sidecar.post(batch, **long))
    await until(lambda: len(sidecar.in_flight) == 100, "all calls to wait, within three, within one")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    go.set()
    _, _, body = await posted
    assert [each["result"]["structuredContent"]["succeeded"] for each in body] == [32, 32, 32]
    names = [call.headers[b"mcp-name"] for call in scripted.calls if call.message["method"] == "tools/call"]
    assert sorted(names) == sorted(3 * [b"t%d" % number for number in range(32)])
    assert held < 1_000_000, f"{held} bytes for one head of 28,000"


async def test_what_goes_with_each_call_of_parallel_is_bounded(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda heard: json_answer(
        msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message.get("id"), "result": {}})
    )
    sidecar = await start(scripted.port, {"concurrency": {"parallelTool": True}})
    for length, fits in ((4_000, True), (40_000, False)):
        message = _parallel(1, 32)
        message["params"]["_meta"] = {"note": "n" * length}
        _, _, body = await sidecar.post(message)
        assert ("structuredContent" in body["result"]) == fits, body
        assert fits or "_meta goes with each of the calls" in str(body)
    assert len([call for call in scripted.calls if call.message.get("method") == "tools/call"]) == 32


async def test_the_parts_answers_of_all_batches_together_are_bounded(
    scripted: Scripted, start: Start
) -> None:
    go = asyncio.Event()
    text = "x" * 450_000

    async def answer(heard: Heard) -> Any:
        message = heard.message
        if message.get("id") == 0 and message.get("method") == "tools/call":
            await go.wait()
        result = {"content": [{"type": "text", "text": text}]}
        yield json_answer(
            msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": result})
        )

    scripted.answer = answer
    sidecar = await start(scripted.port, {"responses": {"compressOver": "1Gi"}}, memory=1)
    plane = sidecar.plane
    calls = [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "t"}} for n in range(4)]
    batches = [asyncio.ensure_future(sidecar.post(calls)) for _ in range(6)]
    await until(lambda: len(plane.in_flight) == 12, "six batches to wait for their first part each")
    assert 0 < plane.pool.gathered.held <= plane.pool.gathered.most == 2 << 20
    go.set()
    answers = [each for _, _, body in await asyncio.gather(*batches) for each in body]
    assert len(answers) == 24
    refused = [each["error"]["message"] for each in answers if "error" in each]
    assert refused
    assert all("no room now" in words for words in refused), refused
    assert plane.pool.gathered.held == 0
    _, _, body = await sidecar.post(calls)
    assert all("result" in each for each in body), "there is room again"


async def test_the_calls_of_all_parallels_in_a_batch_are_bounded_together(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda heard: json_answer(
        msgspec.json.encode({"jsonrpc": "2.0", "id": heard.message.get("id"), "result": {}})
    )
    sidecar = await start(scripted.port, {"concurrency": {"parallelTool": True}})
    _, _, body = await sidecar.post([_parallel(number, 32) for number in range(100)])
    refused = [each for each in body if "100 in one batch" in str(each)]
    assert (len(body), len(refused)) == (100, 97)
    assert len(scripted.calls) == 96
    assert not sidecar.in_flight
    _, _, body = await sidecar.post([_parallel(1, 32)])
    assert body[0]["result"]["structuredContent"]["succeeded"] == 32, "another batch has its own"


@pytest.mark.parametrize(("kind", "parts"), [("batch", 100), ("parallel", 32)])
async def test_the_parts_of_one_request_begin_in_turns_with_everybody_else(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch, kind: str, parts: int
) -> None:
    monkeypatch.setattr(fanout, "SLICE", 0.0)
    go = asyncio.Event()

    async def slowly(heard: Heard) -> Any:
        await go.wait()
        yield json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    sidecar = await start(scripted.port, {"concurrency": {"parallelTool": True, "maxQueued": 1000}})
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = slowly
    in_flight = sidecar.in_flight
    seen = [0]
    batched = b"[" + b",".join([CALL] * parts) + b"]"
    posted = asyncio.ensure_future(sidecar.post(batched if kind == "batch" else _parallel(1, parts)))
    deadline = asyncio.get_running_loop().time() + 10
    while seen[-1] < 1 + parts and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)  # one turn of the loop
        seen.append(len(in_flight))
    heads = {id(answer.call.context) for answer in in_flight}
    go.set()
    await posted
    assert max(seen) == 1 + parts
    begun = [after - before for before, after in itertools.pairwise(seen)]
    assert max(begun) <= 2, "its own exchange and its first part, then part by part"
    assert len(heads) == 2, "calls of one tool share what their head says"


def _parallel(message_id: int, calls: int) -> dict[str, Any]:
    arguments = {"calls": [{"tool": "t"}] * calls}
    params = {"name": "parallel", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": message_id, "method": "tools/call", "params": params}
