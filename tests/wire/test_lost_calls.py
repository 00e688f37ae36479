"""What becomes of the calls that a server of sessions ran when it broke off, and of answers that come late."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.kit.connection import Client
from tests.kit.forgetful import CALL, LIST, Forgetful, begin, breaking, posts
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk


@pytest.fixture
def server(scripted: Scripted) -> Forgetful:
    scripted.answer = server = Forgetful()
    return server


async def test_a_call_that_may_have_run_is_not_run_again(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.hooks["tools/call"] = breaking(b"")
    status, _, body = await posts(sidecar, session, CALL)
    assert (status, body["id"], body["error"]["code"]) == (200, 7, 50200)
    assert "Whether the call took effect is unknown. The session goes on." in body["error"]["message"]
    assert [method for method, _ in server.ran] == ["tools/call"]
    assert (await sidecar.metrics())["mcpace_calls_lost_total"] == 1


@pytest.mark.parametrize("message", [LIST, CALL])
async def test_what_may_run_twice_is_sent_again(
    scripted: Scripted, server: Forgetful, start: Start, message: Any
) -> None:
    sidecar = await start(scripted.port, {"concurrency": {"repeatableTools": ["t"]}})
    session = await begin(sidecar)
    server.hooks[message["method"]] = breaking(b"", b"")
    status, _, body = await posts(sidecar, session, message)
    assert (status, "result" in body) == (200, True)
    assert [method for method, _ in server.ran] == [message["method"]] * 3


@pytest.mark.parametrize("ends", [b"", b"0\r\n\r\n"], ids=["broken off", "in order"])
async def test_a_stream_does_not_just_end(
    scripted: Scripted, server: Forgetful, start: Start, ends: bytes
) -> None:
    progress = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.hooks["tools/call"] = breaking(SSE + chunk(progress) + ends)
    status, _, body = await posts(sidecar, session, CALL)
    assert status == 200
    assert b"notifications/progress" in body
    assert body.count(b"event: message\ndata: ") + body.count(b"50200") == 2, body
    assert b'"id":7' in body


async def test_a_stream_that_the_client_is_to_resume_ends_as_the_server_ends_it(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.hooks["tools/call"] = breaking(SSE + chunk(b"id: 1\nretry: 10\ndata: \n\n") + b"0\r\n\r\n")
    status, _, body = await posts(sidecar, session, CALL)
    assert (status, b"50200" in body) == (200, False)


async def test_what_nobody_waits_for_is_taken_whatever_becomes_of_the_server(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    answered = {"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}
    server.forget()
    assert (await posts(sidecar, session, answered))[0] == 202
    assert not server.revivals, "whoever asked that is gone"
    noted = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    assert (await posts(sidecar, session, noted))[0] == 202
    assert server.ran[-1][0] == "notifications/roots/list_changed"


def asking(server: Forgetful, *more: bytes) -> Any:
    """A call in which the server asks for the roots with the id 0, says more, and waits for the answer."""

    def answer(_: Heard) -> AsyncIterator[bytes]:
        answered = asyncio.Event()

        def heard(_: Heard) -> bytes:
            answered.set()
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

        server.hooks["response"] = heard

        async def streamed() -> AsyncIterator[bytes]:
            yield SSE
            yield chunk(b'data: {"jsonrpc":"2.0","id":0,"method":"roots/list"}\n\n')
            for each in more:
                yield chunk(b"data: %b\n\n" % each)
            await answered.wait()
            yield chunk(b'data: {"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false}}\n\n')
            yield b"0\r\n\r\n"

        return streamed()

    return answer


async def calls(sidecar: Running, session: str, message: Any = CALL) -> Client:
    body = msgspec.json.encode(message)
    return await Client.to(
        sidecar,
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n"
        b"Content-Type: application/json\r\nMcp-Session-Id: %b\r\nMcp-Protocol-Version: 2025-11-25\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (session.encode(), len(body), body),
    )


async def test_a_late_answer_to_a_lost_process_is_not_given_to_the_next_one(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    withdrawn = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}'
    server.hooks["tools/call"] = asking(server, withdrawn)
    first = await calls(sidecar, session)
    await first.reads(b'{"jsonrpc":"2.0","id":0,"method":"roots/list"}\n\n')
    server.forget()
    await posts(sidecar, session, LIST)
    assert len(server.revivals) == 1
    second = await calls(sidecar, session)
    asked = (await second.reads(b"roots/list")).rpartition(b'"id":"')[2].partition(b'"')[0].decode()
    await second.reads(b'"requestId":"%b"' % asked.encode())
    for late in (0, asked.replace("-1-", "-2-"), "mcpace-1-00000000-0"):
        answer = {"jsonrpc": "2.0", "id": late, "result": {"roots": []}}
        assert (await posts(sidecar, session, answer))[0] == 202
    progress = {"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}}
    assert (await posts(sidecar, session, {"jsonrpc": "2.0"} | progress))[0] == 202
    assert "notifications/progress" not in [method for method, _ in server.ran]
    answer = {"jsonrpc": "2.0", "id": asked, "result": {"roots": []}}
    assert (await posts(sidecar, session, answer))[0] == 202
    await second.reads(b'"result":{"content":[],"isError":false}')
    assert [h.message["id"] for h in scripted.calls if h.body and "result" in h.message] == [0]
    first.leave()
    second.leave()
    await sidecar.forsaken()
