"""What is read of HTTP on either side: heads and framing, the same in any cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.framing import ChunkedBody
from mcpace_sidecar.http.head import Names, RequestHead, ResponseHead
from mcpace_sidecar.http.known import RequestHeads, ResponseHeads
from mcpace_sidecar.http.server import ClientConnection

NAMES: Final = Names(
    [b"authorization", b"content-type", b"mcp-method", b"mcp-name", b"mcp-session-id", b"x-api-key"],
    apart=(b"x-consumer-username",),
    prefixes=(b"mcp-param-",),
)


def cuts(data: bytes) -> tuple[list[bytes], bytes]:
    """The rest of an input in one cut, which its first two bytes choose, and whole."""
    if len(data) < 3:
        return [], b""
    step, first, rest = data[0] % 61 + 1, data[1] % 64, data[2:]
    places = [first, *range(first + step, len(rest), step)]
    pieces = [rest[a:b] for a, b in zip([0, *places], [*places, len(rest)], strict=True)]
    return [piece for piece in pieces if piece], rest


class _Loop:
    """What a connection asks of its loop."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.waiting.append((call, arguments))

    def run(self) -> None:
        while self.waiting:
            call, arguments = self.waiting.pop(0)
            call(*arguments)


class _Listener:
    """An application that notes what it is asked, and its connection's transport."""

    max_request_bytes = 4096
    idle_timeout = 60.0
    draining = False

    def __init__(self) -> None:
        self.heads = RequestHeads(NAMES)
        self.heard: list[Any] = []
        self.written: list[bytes] = []
        self.closed = False
        self.loop = _Loop()

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        del connection, head
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        self.heard.append(
            (
                *_said(head, connection.request.trace, connection.request.lines),
                connection.request.apart,
                body,
            )
        )
        connection.answer(b"HTTP/1.1 200 OK\r\n", b"{}")

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        del error
        return b"", b"refused"

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        raise error

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.written.append(data.partition(b"\r\n")[0])

    def close(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        pass

    pause_reading = resume_reading = abort = write_eof


def _said(head: RequestHead, trace: bytes, lines: bytes) -> tuple[Any, ...]:
    onward = b"".join(line for _, line in head.onward) + trace + lines
    return (
        head.method,
        head.target,
        head.length,
        head.chunked,
        head.keep_alive,
        sorted(onward.split(b"\r\n")),
    )


def _heard(pieces: list[bytes]) -> tuple[list[Any], list[bytes]]:
    app = _Listener()
    asyncio.events._set_running_loop(app.loop)  # type: ignore[arg-type]
    try:
        connection = ClientConnection(app, app.heads, Connections(lambda _: None, 1, 1 << 20, 1 << 20))
        connection.connection_made(app)  # type: ignore[arg-type]
        for piece in pieces:
            if app.closed:
                break
            connection.data_received(piece)
            app.loop.run()
    finally:
        asyncio.events._set_running_loop(None)
    # Of several things that are wrong, what is seen first depends on the cut.
    return app.heard, [
        b"refused" if line.startswith(b"HTTP/1.1 4") else line
        for line in app.written
        if b" 100 " not in line
    ]


def requests(data: bytes) -> None:
    """Requests on one connection are the same in any cut."""
    pieces, wire = cuts(data)
    assert _heard(pieces) == _heard([wire])


def heads(data: bytes) -> None:
    """A head that is read by its lines, and again, says what it says when it is parsed whole."""
    end = data.find(b"\r\n\r\n") + 4
    raw = data[:end] if end > 3 else data + b"\r\n\r\n"
    known = RequestHeads(NAMES)
    for number in range(10):  # so that what varies is learned
        _outcome(lambda n=number: known.read(raw.replace(b"VARY", b"%04d" % n)))
    first, again, whole = (
        _outcome(lambda: _said(*known.read(raw)[:3])),
        _outcome(lambda: _said(*known.read(raw)[:3])),
        _outcome(lambda: _said(RequestHead(raw, NAMES), b"", b"")),
    )
    assert first == again, (first, again)
    assert first == whole, (first, whole)


def _outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ProtocolError as error:
        return error.status


def responses(data: bytes) -> None:
    """A server's head says the same however it is read; a chunked body is whole in any cut."""
    pieces, wire = cuts(data)
    end = wire.find(b"\r\n\r\n") + 4
    known = ResponseHeads()
    raw = wire[:end]
    for number in range(10):  # so that what varies is learned
        _outcome(lambda n=number: known.read(raw.replace(b"VARY", b"%04d" % n)))
    first, again, whole = (
        _outcome(lambda: _answered(known.read(raw))),
        _outcome(lambda: _answered(known.read(raw))),
        _outcome(lambda: _answered(ResponseHead(raw))),
    )
    assert first == again == whole, (first, again, whole)
    assert _chunked(pieces) == _chunked([wire])


def _answered(head: ResponseHead) -> tuple[Any, ...]:
    assert b"\r\n\r\n" not in head.onward
    names = [line.partition(b":")[0].lower() for line in head.onward.split(b"\r\n")]
    assert b"transfer-encoding" not in names
    return head.status, head.length, head.chunked, head.keep_alive, sorted(head.onward.split(b"\r\n"))


def _chunked(pieces: list[bytes]) -> Any:
    reader, body, rest, done = ChunkedBody(strict=False), b"", b"", False
    try:
        for piece in pieces:
            if done:
                rest += piece
                continue
            part, rest, done = reader.feed(piece)
            body += part
    except ProtocolError:
        return None
    return body, rest, done
