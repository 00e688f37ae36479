"""Servers that answer the handshake with what nobody expects: the sidecar goes on asking, and says why."""

from collections.abc import AsyncIterator

import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

INFO = b'"serverInfo":{"name":"x"}'


@pytest.mark.parametrize(
    "result",
    [
        b'{"capabilities":5}',
        b'{"capabilities":{"tools":1},"_meta":[1]}',
        b'{"capabilities":{},"protocolVersion":{"a":1},"serverInfo":[1,2]}',
        b'{"capabilities":{"tools":{}},%b,"tools":[1,{"name":{}},{"name":"x","annotations":5}]}' % INFO,
        b'{"capabilities":{"tools":{}},%b,"tools":5}' % INFO,
        b'{"capabilities":{"tools":{}},"supportedVersions":5,%b,"tools":[]}' % INFO,
        '{"capabilities":{"tools":{}},"protocolVersion":"\u0100"}'.encode(),
        b'{"capabilities":{"tools":{}},"protocolVersion":"a\\r\\nB: c"}',
        b"[" * 100_000,
        b'{"tools":[{"name":"x","inputSchema":{"properties":{"a":{"x-mcp-header":5}}}}]}',
    ],
)
async def test_a_server_that_answers_oddly_does_not_end_the_sidecar(
    scripted: Scripted, start: Start, result: bytes
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":%b}' % result)
    sidecar = await start(scripted.port)

    def asked_again() -> bool:
        assert not sidecar.waiting.done(), "the sidecar has ended"
        handshake = sidecar.handshake
        return handshake.ready or sum(b"discover" in each.body for each in scripted.heard) > 1

    await until(asked_again, "the handshake to be tried again")
    assert (await sidecar.admin_get("/healthz"))[0] == 200


async def test_an_answer_to_the_handshake_that_never_ends_is_cut(scripted: Scripted, start: Start) -> None:
    async def endless(_: Heard) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n%b\r\n" % bytes(0x10000)

    scripted.answer = endless
    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard and scripted.heard[0].writer.is_closing(), "the answer to be cut")
    assert "too large" in sidecar.handshake.problem


async def test_what_a_server_says_writes_no_line_of_the_sidecars_requests(
    scripted: Scripted, start: Start
) -> None:
    body = rb'{"capabilities":{},"protocolVersion":"a\r\nInjected: yes","serverInfo":{"name":"x"}}'
    scripted.answer = lambda heard: (
        json_answer(b'{"jsonrpc":"2.0","id":1,"result":%b}' % body)
        if b'"initialize"' in heard.body
        else json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
    )
    sidecar = await start(scripted.port)
    await until(lambda: sum(b'"initialize"' in h.body for h in scripted.heard) > 1, "a second handshake")
    assert not [heard for heard in scripted.heard if b"injected" in heard.headers]
    assert "cannot be sent as MCP-Protocol-Version" in sidecar.handshake.problem
