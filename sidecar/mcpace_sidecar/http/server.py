"""The client's side of the wire: one `ClientConnection` per TCP connection.

Gathers a request whole (bodies are bounded), hands it to the application, and writes
what the application answers, in order, with the right framing. Nothing here is a
task: bytes come in by callback and leave in one write per message.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import Any, Final, Protocol, cast

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import HeadRewriter, Turn, length_line, status_line
from mcpace_sidecar.http.framing import BodyReader, ChunkedBody, LengthBody
from mcpace_sidecar.http.head import MAX_HEAD, RequestHead
from mcpace_sidecar.http.known import RequestHeads

HEAD_TIMEOUT: Final = 30.0
"""Seconds a client may take for a request's head, and again for its body."""
BODY_RATE: Final = 16 * 1024
"""Bytes of a body that give it a second more."""
SEND_TIMEOUT: Final = 60.0
"""Seconds in which a client must have read something of its answer."""
LIGHT: Final = 16 * 1024
"""Bytes of a body that has arrived at once, and that nobody counts."""
LIGHT_HEAD: Final = 4 * 1024
"""Bytes of a head that nobody counts."""
HEAD_COST: Final = 4
"""Bytes that a byte of a head takes once it is read."""
LINGER: Final = 2.0
"""Seconds a refused connection is still read, into nothing."""
_MAX_PIPELINED: Final = 64 * 1024


class Application(Protocol):
    """Who answers requests."""

    heads: RequestHeads
    max_request_bytes: int
    idle_timeout: float
    """Seconds a kept connection may stay silent between requests."""
    draining: bool

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Answer a request whose body is still to come, if its head alone says how; whether it was."""

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Turn | None:
        """Answer now, or return the turn that will; None means it is answered."""

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count it, unless it found no room (503); return (header lines, body) of the answer."""

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised; return (header lines, body) of the answer, HTTP 500."""


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_all",
        "_begun",
        "_body",
        "_buffer",
        "_chunked",
        "_close",
        "_head",
        "_left",
        "_lingering",
        "_owed",
        "_raw",
        "_read",
        "_read_apart",
        "_reader",
        "_reading",
        "_since",
        "_stuck",
        "_transport",
        "_turn",
        "ahead",
        "apart",
        "app",
        "heads",
        "held",
        "lines",
        "peer",
        "rewriter",
        "trace",
        "via",
    )

    def __init__(
        self,
        app: Application,
        heads: RequestHeads,
        connections: Connections,
    ) -> None:
        self.app = app
        self.heads = heads
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: RequestHead | None = None  # of the request being gathered or answered
        self._reader: BodyReader | None = None
        self._body = bytearray()
        self.held = 0
        """Bytes of its request's body that count."""
        self.ahead = 0
        """Bytes behind that request that count: of those that come before it is answered."""
        self._owed = 0
        """Bytes of its answer that wait for the client to read; 0: it reads."""
        self._stuck = 0.0
        """Since when it has read nothing."""
        self._turn: Turn | None = None
        self._chunked = True
        self._left = 0
        """Bytes of a begun answer of a known length that are still to be sent."""
        self._begun = False
        """Whether the head of its answer has been written: no second one ever is."""
        self._close = False
        self._lingering = False
        self._reading = True
        self._since = 0.0
        """Since when the client is waited for; 0: since the next sweep, which has a clock at hand."""
        self.peer = ""
        self.rewriter: HeadRewriter | None = None
        """Of the request being answered; the application sets it at each."""
        self._raw = b""
        self._read: RequestHead | None = None
        """The last head's bytes, and itself if nothing of it varies: a client repeats itself."""
        self._read_apart: tuple[bytes, ...] = ()
        self.trace = self.lines = b""
        """The line of the request's `traceparent`, and those that vary: its head is held without them."""
        self.apart: tuple[bytes, ...] = ()
        """The values that its head is held without, by the places of `Names.apart`; () of none."""
        self.via: Any = None
        """What the layer above has learned of this connection's client."""

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport and the client's address."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self._since = monotonic()
        if not self._all.enter(self):
            self._refuse(ProtocolError(503, "connections", "There are too many connections."))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the turn in progress that nobody waits any more."""
        del exc
        self._transport = None
        turn, self._turn = self._turn, None
        self._let_go()
        self._all.leave(self)
        if turn is not None:
            turn.client_gone()

    def pause_writing(self) -> None:
        """Pass the client's slowness on to the turn; until it has read, no other request is taken."""
        assert self._transport is not None
        self._owed = max(1, self._transport.get_write_buffer_size())
        self._stuck = 0.0
        self._all.owe(self, self._owed)
        if self._turn is not None:
            self._turn.client_paused(True)

    def resume_writing(self) -> None:
        """Pass the client's recovery on to the turn, or take its next request."""
        self._all.paid(self, self._owed)
        self._owed = 0
        if self._turn is not None:
            self._turn.client_paused(False)
        elif self._head is None and self._buffer:
            asyncio.get_running_loop().call_soon(self._resume)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes: of a new request, of a body, or of a request still to come."""
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it ends this connection alone
            self.broke(error)

    def broke(self, error: Exception) -> None:
        """Answer a request that raised while it was gathered; break off what was being answered."""
        lines, body = self.app.on_broken(error)
        if self._turn is None:
            self._end(500, lines, body)
        elif self._transport is not None:
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._head is None and not self._owed:
            self._take_head(self._buffer + data if self._buffer else data)
        elif self._reader is not None:
            self._take_body(data)
        else:
            self._take_ahead(data)

    def _take_ahead(self, data: bytes) -> None:
        """Keep what comes before its turn: read on for a while, so that a client's leaving is noticed."""
        self._buffer += data
        size = len(self._buffer)
        if size > LIGHT_HEAD:
            more, self.ahead = size - self.ahead, size
            self._all.gathers(self)
            if not self._all.hold(self, more):
                self._cut_ahead()
                return
        if size > _MAX_PIPELINED and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _cut_ahead(self) -> None:
        """There is no room for what it sends before it is answered, and no way to say so in between."""
        self._all.on_shed("bodies")
        self.shed()

    # -- gathering a request

    def _take_head(self, data: bytes) -> None:
        if self.ahead:
            self._forget_ahead()
        if self._read is not None and data.startswith(self._raw) and self._read.names is self.heads.names:
            self.trace = self.lines = b""
            self.apart = self._read_apart
            self._take_request(self._read, data, len(self._raw))
            return
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if not self._buffer:
                self._since = monotonic()
            self._buffer = data
            if len(data) > LIGHT_HEAD and not self._count_head(len(data)):
                self._refuse(_NO_ROOM)
            elif len(data) > MAX_HEAD:
                self._refuse(ProtocolError(431, "head_size", "The head is too large."))
            elif data.find(b"\n\n") >= 0 or data[:1] in (b"\r", b"\n"):
                self._refuse(ProtocolError(400, "head", "Lines must end with CRLF."))
            return
        raw = data[:end]
        try:
            if end > MAX_HEAD:
                raise ProtocolError(431, "head_size", "The head is too large.")
            head, self.trace, self.lines, self.apart = self.heads.read(raw)
        except ProtocolError as error:
            self._refuse(error)
            return
        if end > LIGHT_HEAD and not self._count_head(HEAD_COST * end):
            self._refuse(_NO_ROOM)
            return
        self._raw = raw
        self._read = head if not self.trace and not self.lines and end <= LIGHT_HEAD else None
        self._read_apart = self.apart
        self._take_request(head, data, end)

    def _take_request(self, head: RequestHead, data: bytes, end: int) -> None:
        self._buffer = b""
        limit = self._all.longest(self.app.max_request_bytes)
        if head.length is not None and head.length > limit:
            self._refuse(ProtocolError(413, "body_size", f"The body must not exceed {limit} bytes."))
            return
        self._head = head
        if head.length is not None and len(data) == end + head.length:
            if head.length > LIGHT:
                self.held += head.length
                if not self._all.hold(self, head.length):
                    self._refuse(_NO_ROOM)
                    return
            self._hand_over(data[end:] if head.length else b"")
            return
        self._since = monotonic()
        self._reader = ChunkedBody(strict=True) if head.chunked else LengthBody(head.length or 0)
        if head.length is None or len(data) < end + head.length:
            close, self._close = self._close, True  # whoever is answered before its body has come is left
            if self.app.judge_head(self, head):
                return
            self._close = close
        if head.expects and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._all.gathers(self)
        self._take_body(data[end:])

    def _count_head(self, size: int) -> bool:
        """Hold so many bytes for its head; False: there is no room."""
        more = size - self.held
        if more <= 0:
            return True
        self._all.gathers(self)
        self.held = size
        return self._all.hold(self, more)

    def _take_body(self, data: bytes) -> None:
        assert self._reader is not None
        try:
            piece, rest, done = self._reader.feed(data)
            limit = self._all.longest(self.app.max_request_bytes)
            if len(self._body) + len(piece) > limit:
                raise ProtocolError(413, "body_size", f"The body must not exceed {limit} bytes.")
            self.held += len(piece)
            if not self._all.hold(self, len(piece)):
                self._refuse(_NO_ROOM)
                return
        except ProtocolError as error:
            self._refuse(error)
            return
        self._body += piece
        if done:
            body = bytes(self._body)
            self._body, self._reader, self._buffer = bytearray(), None, rest
            self._hand_over(body)

    def _hand_over(self, body: bytes) -> None:
        assert self._head is not None
        if self.held:
            self._all.gathered(self)
        if self._head.names is not self.heads.names:  # other settings came while the body did
            try:
                self._head, self.trace, self.lines, self.apart = self.heads.read(self._raw)
            except ProtocolError as error:
                self._refuse(error)
                return
        if self._read is None:
            self._raw = b""
        turn = self.app.on_request(self, self._head, body)
        if turn is not None and self._head is not None and self._transport is not None:
            self._turn = turn
        elif turn is not None and self._transport is None:
            turn.client_gone()

    def _refuse(self, error: ProtocolError) -> None:
        """Answer what is no request, and end: what follows it cannot be trusted.

        The connection lingers, reading into nothing, so that a client still sending
        gets the answer and not a reset (RFC 9112 section 9.6).
        """
        lines, body = self.app.on_bad_request(error)
        if error.status == 503:
            self._all.on_shed(error.reason)
            lines += b"Retry-After: 1\r\n"
        self._end(error.status, lines, body)

    def _end(self, status: int, lines: bytes, body: bytes) -> None:
        if self._is_begun():
            return
        if self._transport is not None:
            head = status_line(status) + lines
            self._transport.write(head + _CLOSE + length_line(len(body)) + body)
        self._linger()

    def _linger(self) -> None:
        self._forget_body()
        self._buffer, self._reader, self._head = b"", None, None
        self._lingering = True
        self._since = monotonic()
        if self._transport is not None:
            self._transport.write_eof()

    # -- the application's side

    def answer(self, head: bytes, body: bytes) -> None:
        """Write a whole answer: status line and header lines, then the body."""
        if self._transport is None or self._is_begun():
            return
        closing = self._closing()
        if self.rewriter is not None:
            head = self.rewriter.rewrite(head)
        if closing:
            head += _CLOSE
        self._transport.write(head + length_line(len(body)) + body)
        self._done(closing)

    def answer_empty(self, head: bytes) -> None:
        """Write an answer that has no body by its nature (HEAD, 204, 304)."""
        if self._transport is None or self._is_begun():
            return
        closing = self._closing()
        if self.rewriter is not None:
            head = self.rewriter.rewrite(head)
        self._transport.write(b"%b%b\r\n" % (head, _CLOSE if closing else b""))
        self._done(closing)

    def start(self, head: bytes, length: int | None) -> None:
        """Begin a streamed answer, of a known length or not; `send` and `finish` go on."""
        if self._transport is None or self._is_begun():
            return
        assert self._head is not None
        self._begun = True
        self._chunked = length is None and self._head.version != b"HTTP/1.0"
        self._left = length or 0
        if self._chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif length is not None:
            framing = b"Content-Length: %d\r\n" % length
        else:
            framing = b""  # HTTP/1.0: the body ends with the connection
            self._close = True
        close = _CLOSE if self._closing() else b""
        if self.rewriter is not None:
            head = self.rewriter.rewrite(head)
        self._transport.write(b"%b%b%b\r\n" % (head, close, framing))

    def send(self, piece: bytes) -> None:
        """Send the next bytes of a begun answer."""
        if self._transport is not None and piece:
            if self._owed:
                self._owed += len(piece)
                self._all.owe(self, len(piece))
            if not self._chunked:
                self._left -= len(piece)
                self._transport.write(piece)
            else:
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def finish(self) -> None:
        """End a begun answer; cut one that is shorter than it says, or the next is taken for its rest."""
        if self._left > 0:
            self.abort()
        elif self._transport is not None:
            if self._chunked:
                self._transport.write(b"0\r\n\r\n")
            self._done(self._closing())

    def _is_begun(self) -> bool:
        """Whether an answer has begun; if so it is cut: another head would be taken for its body."""
        if self._begun:
            self.abort()
        return self._begun

    def abort(self) -> None:
        """Cut the connection: the only honest end of an answer that cannot be completed."""
        self._turn = None
        if self._transport is not None:
            self._transport.abort()

    def close_after_answer(self) -> None:
        """Answer what comes, and then close."""
        self._close = True

    def close_if_idle(self) -> None:
        """Close unless a request is being gathered or answered."""
        if self._head is None and not self._buffer and self._transport is not None:
            self._transport.close()
        self._close = True

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn: to begin a request, or to go on with one."""
        return self._turn is None and (self._head is None or self._reader is not None)

    @property
    def is_slow(self) -> bool:
        """Whether it has not read what it was sent."""
        return self._owed > 0

    @property
    def waited_since(self) -> float:
        """Since when the client is waited for."""
        return self._since or math.inf

    def give_up(self) -> None:
        """Refuse the body that is arriving, or cut what comes before its turn: it takes too much room."""
        if self.ahead:
            self._cut_ahead()
        else:
            self._refuse(_NO_ROOM)

    def shed(self) -> None:
        """Close it, whatever it is at; the turn is told when it is closed."""
        idle = self._head is None and not self._buffer and not self._owed
        self._let_go()
        if self._transport is not None:
            if idle:
                self._transport.close()
            else:
                self._transport.abort()

    def sweep(self, now: float) -> None:
        """End connections that are idle or too slow; called about once a second."""
        if self._transport is None:
            return
        if self._owed:
            self._sweep_slow(now, self._transport.get_write_buffer_size())
            return
        if self._head is not None and self._reader is None:
            return
        if self._since == 0.0:
            self._since = now
        if self._lingering:
            if now - self._since > LINGER:
                self._transport.abort()
        elif self._head is not None or self._buffer:
            if now - self._since > HEAD_TIMEOUT + self.held / BODY_RATE:
                self._refuse(ProtocolError(408, "slow", "The request took too long to arrive."))
        elif now - self._since > self.app.idle_timeout:
            self._transport.close()
        elif len(self._raw) > LIGHT_HEAD:
            self._raw, self._read = b"", None  # whoever is idle holds little

    def _sweep_slow(self, now: float, owed: int) -> None:
        if owed < self._owed or self._stuck == 0.0:
            self._stuck = now
        elif now - self._stuck > SEND_TIMEOUT:
            self._all.on_shed("slow")
            self.shed()
            return
        before, self._owed = self._owed, max(1, owed)
        self._all.owe(self, self._owed - before)

    def _let_go(self) -> None:
        """Release what it holds of everybody's memory."""
        self._forget_body()
        if self._owed:
            self._all.paid(self, self._owed)
            self._owed = 0

    def _forget_body(self) -> None:
        self._body = bytearray()
        self._all.gathered(self)
        if self.held:
            self._all.release(self.held)
            self.held = 0
        if self.ahead:
            self._forget_ahead()

    def _drop_ahead(self) -> None:
        """What follows a request that closes is none of ours (RFC 9112, section 9.6)."""
        self._buffer = b""
        if self.ahead:
            self._forget_ahead()

    def _forget_ahead(self) -> None:
        self._all.gathered(self)
        self._all.release(self.ahead)
        self.ahead = 0

    def _closing(self) -> bool:
        return self._close or self.app.draining or self._head is None or not self._head.keep_alive

    def _done(self, closing: bool) -> None:
        self._begun = False
        self._head = None
        self._turn = None
        if self.held:
            self._all.release(self.held)
            self.held = 0
        if self._transport is None:
            return
        if closing:
            if self._reader is not None:
                self._linger()  # its body is still to come
            else:
                self._drop_ahead()
                self._transport.close()
            return
        self._since = 0.0
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._buffer and not self._owed:
            # A loop tick between pipelined requests keeps the stack flat.
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self._transport is not None and self._head is None and self._buffer and not self._owed:
            try:
                self._take_head(self._buffer)
            except Exception as error:  # noqa: BLE001 - because of the same
                self.broke(error)


_CLOSE: Final = b"Connection: close\r\n"
_NO_ROOM: Final = ProtocolError(503, "bodies", "There is no room for a request of this length.")
