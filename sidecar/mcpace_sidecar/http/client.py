"""The server's side of the wire: one `UpstreamConnection` per TCP connection, one request at a time.

An answer that fits is handed over whole, everything else is streamed, and a receiver that cannot keep
up stops the reading.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final, cast

from mcpace_sidecar.clock import monotonic
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.framing import BodyReader, ChunkedBody, LengthBody, UntilClose
from mcpace_sidecar.http.head import MAX_HEAD, ResponseHead
from mcpace_sidecar.http.known import ResponseHeads
from mcpace_sidecar.http.receiver import Receiver
from mcpace_sidecar.http.states import ENDED, FREE, GATHERED, OF_SERVER, SENT, STREAMED
from mcpace_sidecar.http.tcp import probe

MAX_WHOLE: Final = 1024 * 1024
"""Answers up to this many bytes, and of a known length, are handed over whole."""
MAX_INTERIM: Final = 16
"""How many interim answers (1xx) may come before an answer."""
RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the kernel holds of an answer nobody reads; of short ones more is no faster."""
WIDE_BUFFER: Final = 512 * 1024
"""The same, on a few connections that long answers were gathered from: fewer wakes of both sides."""
MOST_WIDE: Final = 16
"""How many connections to one server have such a buffer, which Linux makes twice as large as it is told."""
_LONG: Final = 2 * RECEIVE_BUFFER
"""Bytes of an answer that is long."""
_UNREAD: Final = 413
"""The status of an answer to a request that may not have been read whole (RFC 9110, section 15.5.14)."""
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class Home(Backend):
    """What a connection knows of the server it leads to, and to whom it comes back: its pool."""

    def __init__(self, address: Address, on_error: Callable[[Exception], None], *, near: bool) -> None:
        """`near`: on the loopback."""
        super().__init__(address, on_error)
        self.near = near
        self.idle_timeout = 0.0
        """Seconds a connection is kept without a request."""
        self.wide: set[UpstreamConnection] = set()
        """The connections with a large buffer."""
        self.streams: set[UpstreamConnection] = set()
        """The connections of open streams, which are none of the calls'."""

    def tune(self, opened: socket.socket) -> None:
        """Tell the kernel how to hold a new connection."""
        if self.near:  # bound what one read may bring, for clients that stop reading
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        else:
            probe(opened)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a connection back that is free again."""
        raise NotImplementedError

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is lost."""
        raise NotImplementedError


class UpstreamConnection(asyncio.Protocol):
    """One connection to the server; serves one request at a time."""

    __slots__ = (
        "_bodied", "_bodyless", "_buffer", "_gathered", "_head", "_heads", "_interim", "_paused", "_pool",
        "_reader", "_receiver", "_reserved", "_state", "_transport", "deadline", "fresh", "idle_until",
        "patience",
    )  # fmt: skip

    def __init__(self, pool: Home, heads: ResponseHeads) -> None:
        self._pool = pool
        self._heads = heads
        self._transport: asyncio.Transport | None = None
        self._state = FREE
        self._receiver: Receiver | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._reader: BodyReader | None = None
        self._bodied = False
        """Whether the request has a body."""
        self._bodyless = False
        self._interim = 0
        self._paused = False
        self._gathered: list[bytes] = []
        self._reserved = 0
        """Bytes that the ledger holds for what is gathered."""
        self.fresh = True
        self.idle_until = 0.0
        self.patience: float | None = None  # seconds of silence allowed; None: any
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        opened = transport.get_extra_info("socket")
        if opened is not None:
            self._pool.tune(opened)

    def send(self, request: Sequence[bytes], receiver: Receiver, patience: float | None) -> None:
        """Send one request, given in pieces; `patience` bounds the server's silence in seconds."""
        assert self._transport is not None
        self._state = SENT
        self._receiver = receiver
        self.patience = patience
        if patience is None:
            self._pool.streams.add(self)
            self.deadline = 0.0
        else:
            now = monotonic()
            self.deadline = now + patience
            if self._pool.asked == 0.0:
                self._pool.asked = now
        self._interim = 0
        last = request[-1]
        if len(last) > MAX_HEAD:  # a body, which is not copied behind its head
            begin = b"".join(request[:-1])
            self._bodied = True
            self._transport.writelines((begin, last))
        else:
            begin = b"".join(request)
            self._bodied = bool(last) if len(request) > 1 else 0 < begin.find(b"\r\n\r\n") < len(begin) - 4
            self._transport.write(begin)
        self._bodyless = begin.startswith(b"HEAD ")

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""
        if self._transport is not None and self._receiver is not None:
            self._paused = paused
            if paused:
                self._transport.pause_reading()
                self.deadline = 0.0  # the silence is ours now
            else:
                self._transport.resume_reading()
                self._touch()

    def cancel(self) -> None:
        """Give up the request in progress: close, and call nobody."""
        self._state = ENDED
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: UpstreamError) -> None:
        """End the request in progress with an error."""
        receiver = self._receiver
        self.cancel()
        if receiver is not None:
            receiver.on_failure(error)

    def distrust(self, error: UpstreamError) -> None:
        """Close it, and fail whoever has it now."""
        self.fail(error)

    def close(self) -> None:
        """Close an idle connection."""
        self._state = ENDED
        if self._transport is not None:
            self._transport.close()

    def serves(self, receiver: Receiver) -> bool:
        """Whether it is this receiver's answer that comes here."""
        return self._receiver is receiver

    def look(self, now: float) -> None:
        """Give the request up if the server has been silent for too long."""
        if self.deadline == 0.0 or self._receiver is None or self.patience is None:
            return
        if self.deadline < now + self.patience and self._receiver.excuses():
            self.deadline = now + self.patience
        elif self.deadline < now:
            self.fail(UpstreamError("timeout", f"The server did not answer within {self.patience:g} s."))

    def at_work(self, now: float) -> bool:
        """Whether the server is at work on a call here, and may still be silent."""
        if self._receiver is None or self.patience is None:
            return False
        since = max(self._pool.asked, self._pool.heard)
        return now - since < self.patience or self._receiver.excuses()

    def __repr__(self) -> str:
        said = [OF_SERVER[self._state]]
        if self._paused:
            said.append("paused")
        if self._state != FREE and self.patience is None:
            said.append("a stream")
        elif self.deadline:
            said.append(f"{max(0.0, self.deadline - monotonic()):.1f} s of silence left")
        return f"<UpstreamConnection {', '.join(said)}>"

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed, or we did; an answer that ends with the connection is whole."""
        self._transport = None
        state, self._state = self._state, ENDED
        receiver, self._receiver = self._receiver, None
        self._forget()
        self._pool.forget(self)
        if receiver is None:
            return
        if isinstance(self._reader, UntilClose) and exc is None:
            receiver.on_end()
        elif state == SENT and not self._buffer:
            words = "The server closed the connection without an answer."
            receiver.on_failure(UpstreamError("closed", words, stale=not self.fresh))
        else:
            receiver.on_failure(UpstreamError("truncated", "The server's answer broke off."))

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        receiver = self._receiver
        if receiver is None:
            self.cancel()  # nobody asked
            return
        if self.patience is not None:
            self.deadline = 0.0
        try:
            if self._state == SENT:
                self._take_head(self._buffer + data if self._buffer else data)
            else:
                self._take_body(data)
        except ProtocolError as error:
            self.fail(UpstreamError("malformed", f"The server's answer is not valid HTTP: {error}"))
            return
        except Exception as error:  # noqa: BLE001 - because whatever it is, it ends this request alone
            self._break(receiver, error)
            return
        if self._receiver is not None:
            self._touch()

    def _break(self, receiver: Receiver, error: Exception) -> None:
        """The answer could not be read, or its receiver raised."""
        self._pool.on_error(error)
        failure = UpstreamError("internal", "Internal error")
        if self._receiver is receiver:
            self.fail(failure)
        else:  # the connection is another's by now
            receiver.on_failure(failure)

    def _touch(self) -> None:
        if self.patience is not None:
            now = monotonic()
            self._pool.hear(now)
            self.deadline = now + self.patience

    def _find_head(self, data: bytes) -> tuple[ResponseHead | None, int]:
        """The head of the answer, and where it ends; without it, what has come of it is kept."""
        start = 0
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4:
                self._buffer = data[start:]
                if len(self._buffer) > MAX_HEAD:
                    raise ProtocolError(502, "head_size", "its head is too large.")
                return None, 0
            head = self._heads.read(data[start:end])
            if head.status >= 200:
                return head, end
            start = end
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ProtocolError(502, "interim", "it sends interim answers without end.")

    def _take_head(self, data: bytes) -> None:
        head = self._heads.last
        if head is not None and data.startswith(self._heads.raw):
            end = len(self._heads.raw)
        else:
            head, end = self._find_head(data)
            if head is None:
                return
        self._buffer = b""
        receiver = self._receiver
        assert receiver is not None
        if self._bodyless:
            self._free(head, keep=len(data) == end)
            receiver.on_answer(head, b"")
            return
        if head.length is not None:
            if len(data) == end + head.length:
                body = data[end:]
                self._free(head, keep=not self._bodied or receiver.was_read(head, body))
                receiver.on_answer(head, body)
                return
            self._reader = LengthBody(head.length)
        else:
            self._reader = ChunkedBody(strict=False) if head.chunked else UntilClose()
        self._head = head
        # What has arrived whole is handed over whole, however it was framed.
        if head.length is not None:
            whole = head.length <= MAX_WHOLE and self._pool.gathered.take(head.length)
            self._reserved = head.length if whole else 0
            if self._reserved > _LONG:
                self._widen()
        else:
            whole = head.chunked and data.endswith(_LAST_CHUNK)
        self._state = GATHERED if whole else STREAMED
        if not whole:
            receiver.on_head(head)
        if self._receiver is not None and len(data) > end:
            self._take_body(data[end:])

    def _widen(self) -> None:
        """Let the kernel hold more of this answer, and of those to come."""
        wide = self._pool.wide
        if not self._pool.near or self in wide or len(wide) >= MOST_WIDE or self._transport is None:
            return
        opened = self._transport.get_extra_info("socket")
        if opened is not None:
            wide.add(self)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WIDE_BUFFER)

    def _take_body(self, data: bytes) -> None:
        assert self._reader is not None
        assert self._head is not None
        receiver = self._receiver
        assert receiver is not None
        piece, rest, done = self._reader.feed(data)
        if rest:
            raise ProtocolError(502, "framing", "it is longer than it says.")
        if self._state == GATHERED and not done and self._head.chunked:
            self._state = STREAMED  # it only looked like the end
            receiver.on_head(self._head)
        whole = self._state == GATHERED
        if whole:
            self._gathered.append(piece)
        elif piece:
            receiver.on_piece(piece)
        if done and self._receiver is not None:
            head, body = self._head, b"".join(self._gathered)
            keep = not self._bodied or receiver.was_read(head, body if whole else None)
            self._free(head, keep=keep)
            if whole:
                receiver.on_answer(head, body)
            else:
                receiver.on_end()

    def _free(self, head: ResponseHead, *, keep: bool) -> None:
        """Back to the pool before the receiver is told, so that its next request finds it.

        Only if it may be kept: what the server has not read of this request it would take for the next
        one (RFC 9112, section 9.6), and nothing tells here how far it has read.
        """
        self._state = FREE
        self._receiver = None
        self._head = self._reader = None
        if self._gathered:
            self._forget()
        self.deadline = 0.0
        self.fresh = False
        pool, now = self._pool, monotonic()
        pool.hear(now)
        if head.status < 500:
            pool.served = now
        if self.patience is None:
            pool.streams.discard(self)
        if self._transport is None:
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        idle = min(pool.idle_timeout, head.keep_for)
        if self._transport.get_write_buffer_size() > 0:
            self.cancel()  # answered early: the next request would wait behind the rest of this
        elif keep and idle > 0.0 and head.status != _UNREAD:
            self.idle_until = now + idle
            pool.give_back(self)
        else:
            self.close()

    def _forget(self) -> None:
        self._pool.gathered.give(self._reserved)
        self._gathered, self._reserved = [], 0
