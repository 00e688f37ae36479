"""The client's side of the wire: one `ClientConnection` per TCP connection.

Gathers a request whole (bodies are bounded), hands it to the application, and writes
what the application answers, in order, with the right framing. Nothing here is a
task: bytes come in by callback and leave in one write per message.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import Any, Final, cast

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections, Guest
from mcpace_sidecar.http.downstream import Application, HeadRewriter, Responder, length_line, status_line
from mcpace_sidecar.http.framing import LAST_CHUNK, AnswerFraming
from mcpace_sidecar.http.gathering import LIGHT_HEAD, PART, WHOLE, Gathering, allowed, no_room
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.states import ASKED, BEGUN, BODY, HEAD, IDLE, LINGERING, OF_CLIENT

LINGER: Final = 2.0
"""Seconds a refused connection is still read, into nothing."""
_LONG: Final = 32 * 1024
"""Bytes of a body that is not copied behind its head."""
_MAX_PIPELINED: Final = 64 * 1024
_CLOSE: Final = b"Connection: close\r\n"


class ClientConnection(Guest):
    """One client's connection."""

    __slots__ = (
        "_buffer", "_close", "_framing", "_reading", "_since", "_state", "_transport",
        "app", "request", "responder", "rewriter", "via",
    )  # fmt: skip

    def __init__(
        self, app: Application[ClientConnection], heads: RequestHeads, connections: Connections
    ) -> None:
        super().__init__(connections)
        self.app = app
        self.request = Gathering(heads)
        """What has been read of the one that is gathered or answered."""
        self._transport: asyncio.Transport | None = None
        self._state = IDLE
        self._buffer = b""
        """The beginning of a head, or what has come before its turn."""
        self.responder: Responder | None = None
        """Of a request whose answer is still to come."""
        self._framing: AnswerFraming | None = None  # of a begun answer
        self._close = False
        self._reading = True
        self._since = 0.0
        """Since when the client is waited for; 0: since the next sweep, which has a clock at hand."""
        self.rewriter: HeadRewriter | None = None
        """Of the request being answered; the application sets it at each."""
        self.via: Any = None
        """What the layer above has learned of this connection's client."""

    def __repr__(self) -> str:
        said = [OF_CLIENT[self._state] if self._transport is not None else "closed"]
        if self.owed:
            said.append(f"{self.owed} bytes unread")
        if self.held:
            said.append(f"{self.held} bytes held")
        return f"<ClientConnection {', '.join(said)}>"

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
        """Tell what answers the request in progress that nobody waits any more."""
        del exc
        self._transport = None
        responder, self.responder = self.responder, None
        self._forget_request()
        self.reads()
        self._all.leave(self)
        if responder is not None:
            responder.client_gone()

    def pause_writing(self) -> None:
        """Pass the client's slowness on; until it has read, no other request is taken."""
        assert self._transport is not None
        self.stops(self._transport.get_write_buffer_size())
        if self.responder is not None:
            self.responder.client_paused(True)

    def resume_writing(self) -> None:
        """Pass the client's recovery on, or take its next request."""
        self.reads()
        if self.responder is not None:
            self.responder.client_paused(False)
        elif self._state == HEAD:
            asyncio.get_running_loop().call_soon(self._resume)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes: of a new request, of a body, or of a request still to come."""
        try:
            if self._state <= HEAD and not self.owed:
                self._take_head(self._buffer + data if self._buffer else data)
            elif self._state == BODY:
                self._take_body(data)
            elif self._state != LINGERING:
                self._take_ahead(data)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it ends this connection alone
            self.broke(error)

    def broke(self, error: Exception) -> None:
        """Answer a request that raised while it was gathered; break off what was being answered."""
        lines, body = self.app.on_broken(error)
        if self.responder is None:
            self._end(500, lines, body)
        elif self._transport is not None:
            self._transport.abort()

    def _take_ahead(self, data: bytes) -> None:
        """Keep what comes before its turn: read on for a while, so that a client's leaving is noticed."""
        self._buffer += data
        self._state = max(self._state, HEAD)
        size = len(self._buffer)
        if size > LIGHT_HEAD and not self.count_ahead(size):
            self._cut_ahead()
        elif size > _MAX_PIPELINED and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _cut_ahead(self) -> None:
        """There is no room for what it sends before it is answered, and no way to say so in between."""
        self._all.on_shed("bodies")
        self.shed()

    # -- gathering a request

    def _take_head(self, data: bytes) -> None:
        self.release_ahead()
        try:
            step, rest = self.request.take_head(data, self, self._all.longest(self.app.max_request_bytes))
        except ProtocolError as error:
            self._refuse(error)
            return
        if step == PART:
            if self._state == IDLE:
                self._since = monotonic()
                self._state = HEAD
            self._buffer = data
            return
        self._buffer = b""
        if step == WHOLE:
            self._hand_over(rest)
        else:
            self._begin_body(rest)

    def _begin_body(self, data: bytes) -> None:
        head = self.request.head
        assert head is not None
        self._since = monotonic()
        self._state = BODY
        if head.length is None or len(data) < head.length:
            close, self._close = self._close, True  # whoever is answered before its body has come is left
            if self.app.judge_head(self, head):
                return
            self._close = close
        if head.expects and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._all.gathers(self)
        self._take_body(data)

    def _take_body(self, data: bytes) -> None:
        try:
            done, rest = self.request.take_body(data, self, self._all.longest(self.app.max_request_bytes))
        except ProtocolError as error:
            self._refuse(error)
            return
        if done:
            self._all.gathered(self)
            self._buffer = rest
            self._hand_over(self.request.body())

    def _hand_over(self, body: bytes) -> None:
        try:
            head = self.request.whole()
        except ProtocolError as error:
            self._refuse(error)
            return
        self._state = ASKED
        responder = self.app.on_request(self, head, body)
        if responder is not None and self._transport is None:
            responder.client_gone()
        elif self._state in (ASKED, BEGUN):
            self.responder = responder

    def _refuse(self, error: ProtocolError) -> None:
        """Answer what is no request, and end: what follows it cannot be trusted.

        The connection lingers, so that a client still sending gets the answer, no reset (RFC 9112, 9.6).
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
            self._transport.write(status_line(status) + lines + _CLOSE + length_line(len(body)) + body)
        self._linger()

    def _linger(self) -> None:
        self._forget_request()
        self._state, self._buffer = LINGERING, b""
        self.request.head = None
        self._since = monotonic()
        if self._transport is not None:
            self._transport.write_eof()

    # -- the application's side

    def answer(self, head: bytes, body: bytes) -> None:
        """Write a whole answer: status line and header lines, then the body."""
        if self._transport is not None and not self._is_begun():
            closing = self._closing()
            begin, framing = self._lines(head, closing), length_line(len(body))
            if len(body) < _LONG:
                self._transport.write(b"%b%b%b" % (begin, framing, body))
            else:
                self._transport.writelines((begin + framing, body))
            self._done(closing)

    def answer_empty(self, head: bytes) -> None:
        """Write an answer that has no body by its nature (HEAD, 204, 304)."""
        if self._transport is not None and not self._is_begun():
            closing = self._closing()
            self._transport.write(self._lines(head, closing) + b"\r\n")
            self._done(closing)

    def start(self, head: bytes, length: int | None) -> None:
        """Begin a streamed answer, of a known length or not; `send` and `finish` go on."""
        if self._transport is None or self._is_begun():
            return
        request = self.request.head
        assert request is not None
        self._state = BEGUN
        framing = self._framing = AnswerFraming(length, request.version)
        self._close = self._close or framing.closes
        self._transport.write(b"%b%b\r\n" % (self._lines(head, self._closing()), framing.line))

    def send(self, piece: bytes) -> None:
        """Send the next bytes of a begun answer."""
        if self._transport is not None and self._framing is not None and piece:
            self.owes(len(piece))
            self._transport.write(self._framing.piece(piece))

    def finish(self) -> None:
        """End a begun answer; cut one that is shorter than it says, or the next is taken for its rest."""
        if self._framing is not None and self._framing.left > 0:
            self.abort()
        elif self._framing is not None and self._transport is not None:
            if self._framing.chunked:
                self._transport.write(LAST_CHUNK)
            self._done(self._closing())

    def _lines(self, head: bytes, closing: bool) -> bytes:
        if self.rewriter is not None:
            head = self.rewriter.rewrite(head)
        return head + _CLOSE if closing else head

    def _is_begun(self) -> bool:
        """Whether an answer has begun; if so it is cut: another head would be taken for its body."""
        if self._state != BEGUN:
            return False
        self.abort()
        return True

    def abort(self) -> None:
        """Cut the connection: the only honest end of an answer that cannot be completed."""
        self.responder = None
        if self._transport is not None:
            self._transport.abort()

    def _closing(self) -> bool:
        head = self.request.head
        return self._close or self.app.draining or head is None or not head.keep_alive

    def _done(self, closing: bool) -> None:
        body_comes, self._state = self._state == BODY, IDLE
        self.request.head = None
        self.responder = self._framing = None
        self.release()
        if self._transport is None:
            return
        if closing and body_comes:
            self._linger()
            return
        if closing:
            self._buffer = b""  # what follows is none of ours (RFC 9112, section 9.6)
            self.release_ahead()
            self._transport.close()
            return
        self._since = 0.0
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._buffer:
            self._state = HEAD
            if not self.owed:  # a loop tick between pipelined requests keeps the stack flat
                asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self._transport is not None and self._state == HEAD and not self.owed:
            try:
                self._take_head(self._buffer)
            except Exception as error:  # noqa: BLE001 - because of the same
                self.broke(error)

    # -- its place among the others

    def is_answered_by(self, app: object) -> bool:
        """Whether this application answers it."""
        return self.app is app

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn: to begin a request, or to go on with one."""
        return self._state not in (ASKED, BEGUN)

    @property
    def waited_since(self) -> float:
        """Since when the client is waited for."""
        return self._since or math.inf

    def close_after_answer(self) -> None:
        """Answer what comes, and then close."""
        self._close = True

    def close_if_idle(self) -> None:
        """Close unless a request is being gathered or answered."""
        if self._state in (IDLE, LINGERING) and self._transport is not None:
            self._transport.close()
        self._close = True

    def give_up(self) -> None:
        """Refuse the body that is arriving, or cut what comes before its turn: it takes too much room."""
        if self.ahead:
            self._cut_ahead()
        else:
            self._refuse(no_room())

    def shed(self) -> None:
        """Close it, whatever it is at; what answers it is told when it is closed."""
        idle = self._state in (IDLE, LINGERING) and not self.owed
        self._forget_request()
        self.reads()
        if self._transport is not None:
            if idle:
                self._transport.close()
            else:
                self._transport.abort()

    def sweep(self, now: float) -> None:
        """End connections that are idle or too slow; called about once a second."""
        if self._transport is None:
            return
        if self.owed:
            if self.is_stuck(now, self._transport.get_write_buffer_size()):
                self._all.on_shed("slow")
                self.shed()
            return
        if self._state in (ASKED, BEGUN):
            return
        if self._since == 0.0:
            self._since = now
        waited = now - self._since
        if self._state == LINGERING:
            if waited > LINGER:
                self._transport.abort()
        elif self._state != IDLE:
            if waited > allowed(self.held):
                self._refuse(ProtocolError(408, "slow", "The request took too long to arrive."))
        elif waited > self.app.idle_timeout:
            self._transport.close()

    def _forget_request(self) -> None:
        self.request.forget_body()
        self.release_all()
