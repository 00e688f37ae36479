"""The server's side of the wire: a pool of kept connections to one address.

An idle connection takes a request at once, without a task; only a connection that
must be opened, or waited for, is asynchronous. An answer that fits is handed over
whole, everything else is streamed, and a receiver that cannot keep up stops the reading.
Open streams, which have no patience, are counted apart: they take no connection from calls.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol, cast

from mcpace_sidecar.contract.config.traffic import Upstream
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.errors import ProtocolError, UpstreamError, words_of
from mcpace_sidecar.http.framing import BodyReader, ChunkedBody, LengthBody, UntilClose
from mcpace_sidecar.http.head import MAX_HEAD, ResponseHead
from mcpace_sidecar.http.known import ResponseHeads
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.tcp import probe

log = logging.getLogger(__name__)

MAX_WHOLE: Final = 1024 * 1024
"""Answers up to this many bytes, and of a known length, are handed over whole."""
MAX_INTERIM: Final = 16
"""How many interim answers (1xx) may come before an answer."""


RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the kernel holds of an answer nobody reads; on the loopback more is no faster."""
_UNREAD: Final = 413
"""The status of an answer to a request that may not have been read whole (RFC 9110, section 15.5.14)."""
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


UNLIMITED: Final = 64 * 1024 * 1024
"""Bytes of answers that are gathered, where no budget says otherwise."""


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

    def was_read(self, head: ResponseHead, body: bytes | None) -> bool:
        """Whether this answer shows that the server has read the request's body.

        `body`: None where it was streamed. Asked before the answer, or its end, is handed over.
        """

    def excuses(self) -> bool:
        """Whether the server's silence is somebody else's: it waits for an answer of the client's."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    """A name or an address; `localhost` is the loopback of both families."""
    port: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to try, in this order."""
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host,)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Ticket(Protocol):
    """A request on its way."""

    def serves(self, receiver: Receiver) -> bool:
        """Whether this receiver is still to be answered."""

    def cancel(self) -> None:
        """Give it up."""

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""

    def distrust(self, error: UpstreamError) -> None:
        """Its connection brings answers to other requests: close it, and fail whoever has it now."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to the server; serves one request at a time."""

    __slots__ = (
        "_bodied",
        "_bodyless",
        "_buffer",
        "_gathered",
        "_head",
        "_heads",
        "_interim",
        "_paused",
        "_pool",
        "_reader",
        "_receiver",
        "_reserved",
        "_transport",
        "_whole",
        "deadline",
        "fresh",
        "idle_until",
        "patience",
    )

    def __init__(self, pool: Pool, heads: ResponseHeads) -> None:
        self._pool = pool
        self._heads = heads
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._reader: BodyReader | None = None
        self._whole = False
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
        """Remember the transport; bound what one read may bring, for clients that stop reading."""
        self._transport = cast("asyncio.Transport", transport)
        opened = transport.get_extra_info("socket")
        if opened is None:
            return
        if self._pool.near:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        else:
            probe(opened)

    def send(self, request: bytes, receiver: Receiver, patience: float | None) -> None:
        """Send one request; `patience` bounds the server's silence in seconds."""
        assert self._transport is not None
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
        self._bodied = 0 < request.find(b"\r\n\r\n") < len(request) - 4
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

    def distrust(self, error: UpstreamError) -> None:
        """Close it, and fail whoever has it now."""
        self.fail(error)

    def close(self) -> None:
        """Close an idle connection."""
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

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed, or we did; an answer that ends with the connection is whole."""
        self._transport = None
        receiver, self._receiver = self._receiver, None
        self._forget()
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
        receiver = self._receiver
        try:
            if self._reader is None:
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

    def _take_head(self, data: bytes) -> None:
        start = 0
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4:
                self._buffer = data[start:]
                if len(self._buffer) > MAX_HEAD:
                    raise ProtocolError(502, "head_size", "its head is too large.")
                return
            head = self._heads.read(data[start:end])
            if head.status >= 200:
                break
            start = end
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ProtocolError(502, "interim", "it sends interim answers without end.")
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
            self._whole = head.length <= MAX_WHOLE and self._pool.gathered.take(head.length)
            self._reserved = head.length if self._whole else 0
        else:
            self._whole = head.chunked and data.endswith(_LAST_CHUNK)
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
            self._transport.abort()  # answered early: the next request would wait behind the rest of this
        elif keep and idle > 0.0 and head.status != _UNREAD:
            self.idle_until = now + idle
            pool.give_back(self)
        else:
            self.close()

    def _forget(self) -> None:
        self._gathered = []
        self._pool.gathered.give(self._reserved)
        self._reserved = 0


class Waiting:
    """A request that waits for a connection; `cancel` takes it out of the line."""

    __slots__ = ("_line", "connection", "deadline", "patience", "receiver", "request")

    def __init__(
        self, request: Sequence[bytes], receiver: Receiver, patience: float | None, line: Line
    ) -> None:
        self.request = request
        self.receiver: Receiver | None = receiver
        self.patience = patience
        self.deadline = monotonic() + patience if patience is not None else 0.0
        self.connection: UpstreamConnection | None = None
        self._line = line
        line[self] = None

    def cancel(self) -> None:
        """Give the request up, wherever it is."""
        self._line.pop(self, None)
        self.receiver = None
        if self.connection is not None:
            self.connection.cancel()

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""
        if self.connection is not None:
            self.connection.pause(paused)

    def serves(self, receiver: Receiver) -> bool:
        """Whether this receiver is still to be answered."""
        if self.connection is not None:
            return self.connection.serves(receiver)
        return self.receiver is receiver

    def distrust(self, error: UpstreamError) -> None:
        """Close its connection, and fail whoever has that now."""
        if self.connection is not None:
            self.connection.fail(error)

    def serve(self, connection: UpstreamConnection) -> None:
        """Send it, now that there is a connection."""
        assert self.receiver is not None
        request, self.request = self.request, ()
        self.connection = connection
        connection.send(b"".join(request), self.receiver, self.patience)

    def fail(self, error: UpstreamError) -> None:
        """There will be no connection; it has left the line."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.on_failure(error)


Line = OrderedDict[Waiting, None]
"""Who waits, the first first."""


class Pool:
    """Kept connections to one address, opened as needed up to a limit."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: how to speak to an address outside; the server itself is on the loopback."""
        self.address = address
        self.opened = 0
        """Connections opened so far."""
        self.max_idle: int | None = None
        self.near = tls is None
        self.on_error: Callable[[Exception], None] = _log
        """Told what receivers raise, and readers of answers."""
        self.asked = 0.0
        """Since when the server is asked something without having said anything; 0: it is not."""
        self.heard = -math.inf
        """When it last said anything."""
        self.served = -math.inf
        """When it last answered a request, be it with a refusal, and not with an error of its own."""
        self.gathered = Ledger(UNLIMITED)
        """What is held of answers that are not whole yet, here and by whoever reads them."""
        self.streams: set[UpstreamConnection] = set()
        """The connections of open streams, which are none of the calls'."""
        self._tls = tls
        self._hosts = list(address.hosts)
        self.adopt(Upstream())
        self._heads = ResponseHeads()
        self._idle: deque[UpstreamConnection] = deque()
        self._all: set[UpstreamConnection] = set()
        self._line: Line = OrderedDict()
        self._streams_line: Line = OrderedDict()
        self._opening: set[asyncio.Task[None]] = set()

    def adopt(self, settings: Upstream) -> None:
        """Use these bounds from the next request on."""
        self.max_connections = settings.max_connections
        self.idle_timeout = seconds(settings.idle_timeout)
        self.connect_timeout = seconds(settings.connect_timeout)

    def request(
        self, request: Sequence[bytes], receiver: Receiver, patience: float | None
    ) -> UpstreamConnection | Waiting:
        """Send a request on an idle connection, or line up for one.

        `request`: its pieces, joined when it is sent: those that wait share what is the same of them.
        `patience`: the seconds the server may be silent. None: any, and it opens a stream, which
        is given a connection of its own beyond the calls' `max_connections`.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.send(b"".join(request), receiver, patience)
                return connection
        line = self._line if patience is not None else self._streams_line
        waiting = Waiting(request, receiver, patience, line)
        self._open_for_line()
        return waiting

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back; the line is served first."""
        if self._serve(connection):
            return
        kept = len(self._idle)
        if (self.max_idle is not None and kept >= self.max_idle) or self._calls > self.max_connections:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is lost."""
        self._all.discard(connection)
        self.streams.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_for_line()

    def hear(self, now: float) -> None:
        """The server has said something."""
        self.heard = now
        self.asked = 0.0

    def at_work(self, now: float) -> bool:
        """Whether the server is at work on a call, and not silent for longer than it may be."""
        return any(connection.at_work(now) for connection in self._all)

    def sweep(self, now: float) -> None:
        """Fail what waited too long, close what was idle too long; about twice a second."""
        for connection in list(self._all):
            try:
                connection.look(now)
            except Exception as error:  # noqa: BLE001 - because the others are looked at all the same
                self.on_error(error)
                connection.fail(UpstreamError("internal", "Internal error"))
        for waiting in [w for w in self._line if w.deadline < now]:
            self._line.pop(waiting, None)
            words = f"No connection to the server became free within {waiting.patience:g} s."
            waiting.fail(UpstreamError("busy", words))
        over = [connection for connection in self._idle if connection.idle_until < now]
        for connection in over:
            self._idle.remove(connection)
            connection.close()

    def __len__(self) -> int:
        return len(self._all)

    async def close(self) -> None:
        """Close every connection."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._all):
            connection.cancel()

    @property
    def _calls(self) -> int:
        return len(self._all) - len(self.streams)

    def _serve(self, connection: UpstreamConnection) -> bool:
        line = self._line if self._calls <= self.max_connections and self._line else self._streams_line
        if not line:
            return False
        waiting, _ = line.popitem(last=False)
        waiting.serve(connection)
        return True

    def _open_for_line(self) -> None:
        calls = max(0, min(len(self._line), self.max_connections - self._calls))
        for _ in range(calls + len(self._streams_line) - len(self._opening)):
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection = await self._connect()
        except (OSError, TimeoutError) as error:
            refused = not isinstance(error, TimeoutError)
            how = f"not within {self.connect_timeout:g} s"
            if refused:
                how = words_of(error)
            words = f"The server does not accept connections on {self.address} ({how})."
            if isinstance(error, ssl.SSLError):
                words = f"TLS with {self.address} failed: {error.reason or error}."
            self._fail_line(UpstreamError("connect", words, refused=refused))
            return
        except Exception as error:  # noqa: BLE001 - because those who wait are told, whatever it is
            self.on_error(error)
            self._fail_line(UpstreamError("connect", f"{self.address} cannot be connected to."))
            return
        self.opened += 1
        self._all.add(connection)
        self.give_back(connection)

    async def _connect(self) -> UpstreamConnection:
        """Connect to the first of the hosts that accepts; OSError."""
        *others, last = self._hosts
        for host in others:
            try:
                return await self._connect_to(host)
            except ssl.SSLError:
                raise  # it is there, and not to be trusted
            except OSError:
                continue
        return await self._connect_to(last)

    async def _connect_to(self, host: str) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(self, self._heads), host, self.address.port,
            ssl=self._tls, server_hostname=self.address.host if self._tls is not None else None,
        )  # fmt: skip
        self._hosts = sorted(self._hosts, key=lambda other: other != host)  # the first one next time
        return connection

    def _fail_line(self, error: UpstreamError) -> None:
        # One failed connection speaks for the address: nobody in the lines would fare better.
        for line in (self._line, self._streams_line):
            for waiting in list(line):
                line.pop(waiting, None)
                waiting.fail(error)


def _log(error: Exception) -> None:
    log.error("Internal error: %s", type(error).__qualname__)
