"""A pool of connections to a server that a test plays, and who hears its answers."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.transport import Dialled, Transport

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.pool import Pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Receiver:
    """Hears an answer, and that nothing comes after its end."""

    def __init__(self, raises: str = "") -> None:
        self.heard: list[str] = []
        self.status = 0
        self.body = b""
        self.error: UpstreamError | None = None
        self.ends = 0
        self._raises = raises

    def _hear(self, what: str) -> None:
        assert not self.ends, f"{what} after {self.heard}"
        self.heard.append(what)
        if what == self._raises:
            raise ValueError(what)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        self._hear("answer")
        self.ends += 1
        self.status, self.body = head.status, body

    def on_head(self, head: ResponseHead) -> None:
        self.status = head.status
        self._hear("head")

    def on_piece(self, piece: bytes) -> None:
        self.body += piece
        self._hear("piece")

    def on_end(self) -> None:
        self._hear("end")
        self.ends += 1

    def on_failure(self, error: UpstreamError) -> None:
        assert not self.ends, f"failure after {self.heard}"
        self.heard.append("failure")
        self.ends += 1
        self.error = error

    def was_read(self, _: ResponseHead, body: bytes | None) -> bool:
        return body is not None

    def excuses(self) -> bool:
        return False

    @property
    def reason(self) -> str:
        return self.error.reason if self.error is not None else ""


class Server:
    """A pool of connections to a server that the test plays."""

    def __init__(self) -> None:
        self._dialled = Dialled()
        asyncio.get_running_loop().create_connection = self._dialled.create_connection  # type: ignore[method-assign, assignment]
        self.pool = Pool(Address("127.0.0.1", 1))
        self.raised: list[Exception] = []
        self.pool.on_error = self.raised.append

    async def ask(
        self, request: bytes = GET, receiver: Receiver | None = None, patience: float | None = 60.0
    ) -> tuple[Receiver, Any, Transport]:
        """(who waits for the answer, its ticket, the connection it went out on)."""
        receiver = receiver or Receiver()
        before = [len(wire.sent) for wire in self.wires]
        ticket = self.pool.request((request,), receiver, patience)
        for _ in range(5):
            await asyncio.sleep(0)
        (wire,) = [
            w for n, w in enumerate(self.wires) if len(w.sent) > (before[n] if n < len(before) else 0)
        ]
        return receiver, ticket, wire

    @property
    def wires(self) -> list[Transport]:
        return self._dialled.opened

    def assert_at_rest(self) -> None:
        """Nothing is held of answers."""
        assert self.pool.gathered.held == 0
        assert not self.pool.streams
