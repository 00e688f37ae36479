"""What two parties could read differently is refused; what is odd but clear is handled as said."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TYPE = b"Content-Type: application/json\r\n"
START = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + TYPE
SMUGGLED = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + TYPE + LENGTH + b"\r\n" + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    "length and chunks": START + LENGTH + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": START + CHUNKED + LENGTH + b"\r\n0\r\n\r\n",
    "two lengths": START + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "the same length twice": START + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": START + b"Content-Length: 40, 40\r\n\r\n" + BODY,
    "a signed length": START + b"Content-Length: +40\r\n\r\n" + BODY,
    "a length in hexadecimal": START + b"Content-Length: 0x28\r\n\r\n" + BODY,
    "an empty length": START + b"Content-Length: \r\n\r\n" + BODY,
    "chunked twice": START + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked after another coding": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a disguised coding": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding with a tab": START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": START + b"Content-Length : 40\r\n\r\n" + BODY,
    "a folded line": START + LENGTH + b"X-A: b\r\n c\r\n\r\n" + BODY,
    "a bare line feed": START.replace(b"\r\n", b"\n") + b"\n",
    "a line feed in a head": START + LENGTH + b"X-A: b\nX-B: c\r\n\r\n" + BODY,
    "a bare carriage return": START + LENGTH + b"X-A: b\rX-B: c\r\n\r\n" + BODY,
    "a NUL in a value": START + LENGTH + b"X-A: b\0c\r\n\r\n" + BODY,
    "a control byte in a value": START + LENGTH + b"X-A: b\x07\r\n\r\n" + BODY,
    "a control byte in a name": START + LENGTH + b"X-\x01A: b\r\n\r\n" + BODY,
    "an empty name": START + LENGTH + b": b\r\n\r\n" + BODY,
    "a line without a colon": START + LENGTH + b"nothing\r\n\r\n" + BODY,
    "two hosts": START + b"Host: other\r\n" + LENGTH + b"\r\n" + BODY,
    "no host": b"POST /mcp HTTP/1.1\r\n" + TYPE + LENGTH + b"\r\n" + BODY,
    "an absolute target": b"POST http://localhost/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space in the target": b"POST /mcp x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another version": b"POST /mcp HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a lower-case method": b"post /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a chunk extension": START + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "a trailer": START + CHUNKED + b"\r\n0\r\nX-A: b\r\n\r\n",
    "a chunk longer than it says": START + CHUNKED + b"\r\n1\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a sign": START + CHUNKED + b"\r\n-1\r\n\r\n",
    "a huge chunk size": START + CHUNKED + b"\r\nFFFFFFFFFFFFFFFFF\r\n",
    "a chunk size line without an end": START + CHUNKED + b"\r\n" + b"0" * 5000,
    "chunks with bare line feeds": START + CHUNKED + b"\r\n1\nx\n0\n\n",
    "chunks in HTTP/1.0": START.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
async def test_what_is_ambiguous_is_400_and_what_follows_it_is_never_read(
    scripted: Scripted, start: Start, raw: bytes
) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(raw + SMUGGLED, end=False)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1, "what follows must not be taken for a request"
    assert not scripted.calls


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
async def test_it_is_refused_the_same_byte_by_byte(scripted: Scripted, start: Start, raw: bytes) -> None:
    sidecar = await start(scripted.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    for number in range(len(raw)):
        writer.write(raw[number : number + 1])
        if number % 7 == 0:
            await asyncio.sleep(0)
    writer.write(b"\r\n\r\n" if b"\n" in raw else b"")
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read(-1)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert not scripted.calls


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (START + b"X-Long: " + b"a" * 40_000 + b"\r\n" + LENGTH + b"\r\n", b"431"),
        (b"POST /" + b"a" * 40_000, b"431"),
        (START + b"Content-Length: 999999999999\r\n\r\n", b"413"),
    ],
)
async def test_what_is_too_large_is_refused_before_it_is_read(
    scripted: Scripted, start: Start, head: bytes, status: bytes
) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(head, end=False)
    assert answer.split()[1] == status
    assert not scripted.calls


async def test_a_chunked_body_over_the_bound_is_refused_while_it_arrives(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, {"maxRequestBytes": 1000})
    answer = await sidecar.raw(START + CHUNKED + b"\r\n" + b"100\r\n%b\r\n" % (b"x" * 256) * 5, end=False)
    assert answer.split()[1] == b"413"


async def test_a_slow_sender_is_ended(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.write(START[:20])
    await until(lambda: any(c._buffer for c in sidecar.connections.open), "the beginning to arrive")
    for connection in sidecar.connections.open:
        connection._since -= 60  # as if a minute had passed
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read(-1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()


BODIES = {
    "a method twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"a"}}',
    "a name twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
    "params twice": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}',
    "an escaped name": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\\u0061me":"b"}}',
    "an escaped method": b'{"jsonrpc":"2.0","id":1,"m\\u0065thod":"ping","method":"tools/call","params":{"name":"a"}}',
    "deep nesting": b'{"jsonrpc":"2.0","id":1,"method":"x","params":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "invalid UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xff"}}',
    "a lone surrogate in UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xed\xa0\x80"}}',
    "cut short": b'{"jsonrpc":"2.0","id":1,',
    "two documents": BODY + BODY,
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "NaN": b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    "an id that is an object": b'{"jsonrpc":"2.0","id":{},"method":"ping"}',
    "a fractional id": b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    "another version": b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
    "a call without an id": b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}',
    "a call without a name": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}',
    "a string": b'"hello"',
    "nothing": b"",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_the_server_could_read_otherwise_never_reaches_it(
    scripted: Scripted, start: Start, body: bytes
) -> None:
    sidecar = await start(scripted.port)
    status, _, answer = await sidecar.post(body)
    assert status == 400
    assert answer["error"]["code"] in (-32700, -32600, -32602)
    assert answer["error"]["message"]
    assert not scripted.calls
    assert (await sidecar.post(BODY))[0] == 200


async def test_upgrades_go_no_further_and_the_request_is_answered_as_what_it_is(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    answer = await sidecar.raw(
        START + LENGTH + b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Connection: keep-alive\r\n\r\n" + BODY
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    heard = scripted.calls[-1].headers
    for name in (b"upgrade", b"connection", b"keep-alive", b"te", b"proxy-connection"):
        assert name not in heard


async def test_headers_named_by_connection_go_no_further(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    body = START + LENGTH + b"Connection: x-hop, close\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n" + BODY
    await sidecar.raw(body, end=False)
    assert b"x-hop" not in scripted.calls[-1].headers
    assert scripted.calls[-1].headers[b"x-end"] == b"2"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8, 13, 21])
async def test_a_request_is_the_same_in_whatever_pieces_it_arrives(
    scripted: Scripted, start: Start, cut: int
) -> None:
    scripted.answer = lambda h: json_answer(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % h.message["id"])
    sidecar = await start(scripted.port)
    raw = b""
    for number in range(3):
        body = msgspec.json.encode(json.loads(BODY) | {"id": number})
        raw += START + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    for start_ in range(0, len(raw), cut):
        writer.write(raw[start_ : start_ + cut])
        await writer.drain()
        await asyncio.sleep(0)
    found: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        while len(found) < 3:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            found.append(msgspec.json.decode(await reader.readexactly(length))["id"])
    assert found == [0, 1, 2]
    writer.close()
