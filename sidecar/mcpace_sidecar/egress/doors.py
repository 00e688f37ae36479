"""Doors for the server's own calls: plain HTTP in on the loopback, kept TLS connections out.

A server that opens a new connection for each of its calls pays a handshake each time; through a
door it pays one to the loopback, and the door keeps the connections to the outside.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from mcpace_sidecar.contract.config.traffic import Door
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import length_line, status_line
from mcpace_sidecar.http.head import RequestHead, ResponseHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.listener import listen
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.http.receiver import ByStatus, Ticket
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.telemetry.faults import Faults

log = logging.getLogger(__name__)

BACKLOG: Final = 256
"""Connections of the server's that wait to be taken."""
MAX_REQUEST: Final = 64 * 1024 * 1024
_TEXT: Final = b"Content-Type: text/plain\r\n"
_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""Idempotent methods (RFC 9110, section 9.2.2)."""


class OpenDoor:
    """One door: the application of its port."""

    max_request_bytes = MAX_REQUEST
    idle_timeout = 120.0
    draining = False

    def __init__(self, door: Door, connections: Connections, faults: Faults) -> None:
        """`connections` are those of all doors together."""
        self.door = door
        self._faults = faults
        self.answers: dict[str, int] = defaultdict(int)
        """Calls by how they ended: 2xx, 3xx, 4xx, 5xx, or why there was no answer."""
        self.seconds = 0.0
        """Spent waiting for the other side, in all."""
        self.connections = connections
        self.patience = seconds(door.timeout)
        url = urlsplit(door.url)
        tls = ssl.create_default_context() if url.scheme == "https" else None
        host, port = url.hostname or "", url.port or (443 if tls else 80)
        self.pool = Pool(Address(host, port), tls, on_error=self._raised, max_idle=door.keep_alive)
        self.pool.max_connections = door.max_connections
        self.pool.idle_timeout = seconds(door.idle_timeout)
        self.pool.connect_timeout = seconds(door.connect_timeout)
        self.host = url.netloc.encode()
        self.prefix = url.path.rstrip("/").encode()
        self.heads = RequestHeads()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Open it, to the loopback alone; OSError if the port is taken."""
        self._server = await listen(self, self.connections, Address("127.0.0.1", self.door.port), BACKLOG)

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Wait for the body, which is bounded."""
        del connection, head
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Passage:
        """Pass a call on."""
        passage = Passage(self, connection, head, body)
        passage.forward()
        return passage

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count it, and say what was wrong."""
        self.answers["refused"] += 1
        return _TEXT, f"{error}\n".encode()

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised, and say so."""
        self._raised(error)
        return _TEXT, b"Internal error\n"

    def _raised(self, error: Exception) -> None:
        self._faults.tell("egress", error)

    def sweep(self, now: float) -> None:
        """Timeouts; about twice a second."""
        self.pool.sweep(now)

    async def close(self) -> None:
        """Close it; calls in flight end with it."""
        if self._server is not None:
            self._server.close()
        for connection in self.connections.of(self):
            connection.abort()
        await self.pool.close()


class Passage(ByStatus):
    """One call through a door."""

    def __init__(
        self, door: OpenDoor, connection: ClientConnection, head: RequestHead, body: bytes
    ) -> None:
        self._door = door
        self._connection = connection
        self._head = head
        self._body = body
        self._started = time.monotonic()
        self._ticket: Ticket | None = None
        self._status = 0
        """Of a streamed answer that has begun."""
        self._retried = False

    def forward(self) -> None:
        """Ask the other side."""
        head, body, read = self._head, self._body, self._connection.request
        lines = b"".join(line for _, line in head.onward) + read.lines + read.trace
        framing = length_line(len(body)) if body or head.method == b"POST" else b"\r\n"
        target = self._door.prefix + head.target
        request = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (head.method, target, self._door.host, lines)
        self._ticket = self._door.pool.request((request, framing, body), self, self._door.patience)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        self._ticket = None  # its connection may be another's by now
        if body or (head.status not in (204, 304) and self._head.method != b"HEAD"):
            self._connection.answer(head.onward, body)
        else:
            self._connection.answer_empty(head.onward)
        self._record(f"{head.status // 100}xx")

    def on_head(self, head: ResponseHead) -> None:
        """A streamed answer begins."""
        self._status = head.status
        self._connection.start(head.onward, head.length)

    def on_piece(self, piece: bytes) -> None:
        """Its next bytes."""
        self._connection.send(piece)

    def on_end(self) -> None:
        """It is whole."""
        self._ticket = None
        self._connection.finish()
        self._record(f"{self._status // 100}xx")

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or a part of one."""
        if error.stale and not self._retried and self._head.method in _REPEATABLE:
            self._retried = True
            self.forward()
            return
        self._record(error.reason)
        if self._status:
            self._connection.abort()
            return
        status = {"timeout": 504, "busy": 503}.get(error.reason, 502)
        self._connection.answer(status_line(status) + _TEXT, f"{error}\n".encode())

    def client_gone(self) -> None:
        """The server gave its call up."""
        if self._ticket is not None:
            self._ticket.cancel()
        if self._status:
            self._record(f"{self._status // 100}xx")

    def client_paused(self, paused: bool) -> None:
        """Read only as fast as the server reads."""
        if self._ticket is not None:
            self._ticket.pause(paused)

    def _record(self, how: str) -> None:
        self._door.answers[how] += 1
        self._door.seconds += time.monotonic() - self._started


class Doors:
    """All doors of a configuration."""

    def __init__(self, connections: Connections, faults: Faults) -> None:
        self._faults = faults
        self.open: dict[str, OpenDoor] = {}
        self._connections = connections

    async def adopt(self, doors: Sequence[Door]) -> None:
        """Open what is new, close what is gone; a changed door is opened anew."""
        wanted = {door.name: door for door in doors}
        for name, opened in list(self.open.items()):
            if wanted.get(name) != opened.door:
                del self.open[name]
                await opened.close()
        for name, door in wanted.items():
            if name not in self.open:
                opened = OpenDoor(door, self._connections, self._faults)
                try:
                    await opened.listen()
                except OSError as error:
                    log.error("The door %s cannot listen on port %d: %s", name, door.port, error.strerror)  # noqa: TRY400 - because the words are for a person
                else:
                    self.open[name] = opened

    def gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What metrics say of the doors."""
        for name, opened in self.open.items():
            yield "mcpace_egress_connections", {"door": name}, len(opened.pool)
            yield "mcpace_egress_connections_opened", {"door": name}, opened.pool.opened
            yield "mcpace_egress_wait_seconds", {"door": name}, opened.seconds
            for how, count in opened.answers.items():
                yield "mcpace_egress_requests", {"door": name, "result": how}, count

    def sweep(self, now: float) -> None:
        """Timeouts; about twice a second."""
        self._connections.sweep(now)
        for opened in self.open.values():
            opened.sweep(now)

    async def close(self) -> None:
        """Close them all."""
        await self.adopt(())
