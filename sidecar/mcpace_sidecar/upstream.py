"""The server's side of the wire: a pool of kept connections to one address.

An idle connection takes a request at once, without a task; only a connection that
must be opened, or waited for, is asynchronous. An answer that fits is handed over
whole, everything else is streamed, and a receiver that cannot keep up stops the reading.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol, cast

from mcpace_sidecar.config.traffic import Upstream
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.framing import BodyReader, ChunkedBody, LengthBody, UntilClose
from mcpace_sidecar.http.head import MAX_HEAD, Heads, ResponseHead
from mcpace_sidecar.quantity import seconds

MAX_WHOLE: Final = 1024 * 1024
"""Answers up to this many bytes, and of a known length, are handed over whole."""


RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the kernel holds of an answer nobody reads; on the loopback more is no faster."""
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class Receiver(Protocol):
    """Who waits for an answer. After `on_failure` or the end, nothing more is called."""

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""

    def on_head(self, head: ResponseHead) -> None:
        """The head of an answer that is streamed."""

    def on_piece(self, piece: bytes) -> None:
        """The next bytes of a streamed answer."""

    def on_end(self) -> None:
        """The end of a streamed answer."""

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or only a part of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Ticket(Protocol):
    """A request on its way."""

    def cancel(self) -> None:
        """Give it up."""

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to the server; serves one request at a time."""

    __slots__ = (
        "_bodyless",
        "_buffer",
        "_gathered",
        "_head",
        "_heads",
        "_paused",
        "_pool",
        "_reader",
        "_receiver",
        "_transport",
        "_whole",
        "deadline",
        "fresh",
        "idle_since",
        "patience",
    )

    def __init__(self, pool: Pool, heads: Heads[ResponseHead]) -> None:
        self._pool = pool
        self._heads = heads
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._reader: BodyReader | None = None
        self._whole = False
        self._bodyless = False
        self._paused = False
        self._gathered: list[bytes] = []
        self.fresh = True
        self.idle_since = 0.0
        self.patience: float | None = None  # seconds of silence allowed; None: any
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport; bound what one read may bring, for clients that stop reading."""
        self._transport = cast("asyncio.Transport", transport)
        opened = transport.get_extra_info("socket")
        if opened is not None and self._pool.near:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def send(self, request: bytes, receiver: Receiver, patience: float | None) -> None:
        """Send one request; `patience` bounds the server's silence in seconds."""
        assert self._transport is not None
        self._receiver = receiver
        self.patience = patience
        self.deadline = monotonic() + patience if patience is not None else 0.0
        self._bodyless = request.startswith(b"HEAD ")
        self._transport.write(request)

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
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: UpstreamError) -> None:
        """End the request in progress with an error."""
        receiver, self._receiver = self._receiver, None
        if self._transport is not None:
            self._transport.abort()
        if receiver is not None:
            receiver.on_failure(error)

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed, or we did; an answer that ends with the connection is whole."""
        self._transport = None
        receiver, self._receiver = self._receiver, None
        self._pool.forget(self)
        if receiver is None:
            return
        if isinstance(self._reader, UntilClose) and exc is None:
            receiver.on_end()
        elif self._head is None and not self._buffer:
            words = "The server closed the connection without an answer."
            receiver.on_failure(UpstreamError("closed", words, stale=not self.fresh))
        else:
            receiver.on_failure(UpstreamError("truncated", "The server's answer broke off."))

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        if self._receiver is None:
            self.cancel()  # nobody asked
            return
        if self.patience is not None:
            self.deadline = 0.0
        try:
            if self._reader is None:
                self._take_head(self._buffer + data if self._buffer else data)
            else:
                self._take_body(data)
        except ProtocolError as error:
            self.fail(UpstreamError("malformed", f"The server's answer is not valid HTTP: {error}"))
            return
        if self._receiver is not None:
            self._touch()

    def _touch(self) -> None:
        if self.patience is not None:
            self.deadline = monotonic() + self.patience

    def _take_head(self, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > MAX_HEAD:
                    raise ProtocolError(502, "head_size", "its head is too large.")
                self._buffer = data
                return
            head = self._heads.read(data[:end])
            if head.status >= 200:
                break
            data = data[end:]
        self._buffer = b""
        receiver = self._receiver
        assert receiver is not None
        if self._bodyless:
            self._free(head.keep_alive and len(data) == end)
            receiver.on_answer(head, b"")
            return
        if head.length is not None:
            if len(data) == end + head.length:
                self._free(head.keep_alive)
                receiver.on_answer(head, data[end:])
                return
            self._reader = LengthBody(head.length)
        else:
            self._reader = ChunkedBody(strict=False) if head.chunked else UntilClose()
        self._head = head
        # What has arrived whole is handed over whole, however it was framed.
        self._whole = (
            head.length <= MAX_WHOLE
            if head.length is not None
            else head.chunked and data.endswith(_LAST_CHUNK)
        )
        if not self._whole:
            receiver.on_head(head)
        if self._receiver is not None and len(data) > end:
            self._take_body(data[end:])

    def _take_body(self, data: bytes) -> None:
        assert self._reader is not None
        assert self._head is not None
        receiver = self._receiver
        assert receiver is not None
        piece, rest, done = self._reader.feed(data)
        if rest:
            raise ProtocolError(502, "framing", "it is longer than it says.")
        if self._whole and not done and self._head.chunked:
            self._whole = False  # it only looked like the end
            receiver.on_head(self._head)
        if self._whole:
            self._gathered.append(piece)
        elif piece:
            receiver.on_piece(piece)
        if done and self._receiver is not None:
            head, whole, body = self._head, self._whole, b"".join(self._gathered)
            self._free(head.keep_alive)
            if whole:
                receiver.on_answer(head, body)
            else:
                receiver.on_end()

    def _free(self, keep: bool) -> None:
        """Back to the pool before the receiver is told, so that its next request finds it."""
        self._receiver = None
        self._head = self._reader = None
        self._gathered = []
        self.deadline = 0.0
        self.fresh = False
        if self._transport is None:
            return
        if keep:
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self.idle_since = monotonic()
            self._pool.give_back(self)
        else:
            self.close()


class Waiting:
    """A request that waits for a connection; `cancel` takes it out of the line."""

    __slots__ = ("connection", "deadline", "patience", "receiver", "request")

    def __init__(self, request: bytes, receiver: Receiver, patience: float | None) -> None:
        self.request = request
        self.receiver: Receiver | None = receiver
        self.patience = patience
        self.deadline = monotonic() + patience if patience is not None else math.inf
        self.connection: UpstreamConnection | None = None

    def cancel(self) -> None:
        """Give the request up, wherever it is."""
        self.receiver = None
        if self.connection is not None:
            self.connection.cancel()

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""
        if self.connection is not None:
            self.connection.pause(paused)


class Pool:
    """Kept connections to one address, opened as needed up to a limit."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: how to speak to an address outside; the server itself is on the loopback."""
        self.address = address
        self.opened = 0
        """Connections opened so far."""
        self.max_idle: int | None = None
        self.near = tls is None
        self._tls = tls
        self.adopt(Upstream())
        self._heads: Heads[ResponseHead] = Heads(ResponseHead)
        self._idle: deque[UpstreamConnection] = deque()
        self._all: set[UpstreamConnection] = set()
        self._line: deque[Waiting] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def adopt(self, settings: Upstream) -> None:
        """Use these bounds from the next request on."""
        self.max_connections = settings.max_connections
        self.idle_timeout = seconds(settings.idle_timeout)
        self.connect_timeout = seconds(settings.connect_timeout)

    def request(
        self, request: bytes, receiver: Receiver, patience: float | None
    ) -> UpstreamConnection | Waiting:
        """Send a request on an idle connection, or line up for one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.send(request, receiver, patience)
                return connection
        waiting = Waiting(request, receiver, patience)
        self._line.append(waiting)
        self._open_for_line()
        return waiting

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back; the line is served first."""
        if self._serve(connection):
            return
        if self.max_idle is not None and len(self._idle) >= self.max_idle:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is lost."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_for_line()

    def sweep(self, now: float) -> None:
        """Fail what waited too long, close what was idle too long; about twice a second."""
        for connection in [c for c in self._all if 0.0 < c.deadline < now]:
            words = f"The server did not answer within {connection.patience:g} s."
            connection.fail(UpstreamError("timeout", words))
        while self._line and self._line[0].deadline < now:
            waiting = self._line.popleft()
            if waiting.receiver is not None:
                words = f"No connection to the server became free within {waiting.patience:g} s."
                waiting.receiver.on_failure(UpstreamError("busy", words))
        while self._idle and now - self._idle[0].idle_since > self.idle_timeout:
            self._idle.popleft().close()

    def __len__(self) -> int:
        return len(self._all)

    async def close(self) -> None:
        """Close every connection."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._all):
            connection.cancel()

    def _serve(self, connection: UpstreamConnection) -> bool:
        while self._line:
            waiting = self._line.popleft()
            if waiting.receiver is not None:
                waiting.connection = connection
                connection.send(waiting.request, waiting.receiver, waiting.patience)
                return True
        return False

    def _open_for_line(self) -> None:
        wanted = min(len(self._line), self.max_connections - len(self._all)) - len(self._opening)
        for _ in range(wanted):
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self, self._heads),
                    self.address.host,
                    self.address.port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            slow = f"within {self.connect_timeout:g} s"
            words = f"The server does not accept connections on {self.address} ({slow})."
            if isinstance(error, ssl.SSLError):
                words = f"TLS with {self.address} failed: {error.reason or error}."
            self._fail_line(UpstreamError("connect", words))
            return
        self.opened += 1
        self._all.add(connection)
        self.give_back(connection)

    def _fail_line(self, error: UpstreamError) -> None:
        # One failed connection speaks for the address: nobody in the line would fare better.
        line, self._line = self._line, deque()
        for waiting in line:
            if waiting.receiver is not None:
                waiting.receiver.on_failure(error)
