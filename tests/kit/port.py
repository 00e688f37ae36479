"""A port whose clients, and whose application, a test plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.kit.transport import HIGH, Transport

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LARGE = b"x" * (HIGH + 1)
MIB = 1 << 20


class Responder:
    """A request that is answered when the test says so."""

    def __init__(self, connection: ClientConnection, target: bytes, body: bytes) -> None:
        self.connection = connection
        self.target = target
        self.body = body
        self.gone = 0
        self.pauses: list[bool] = []

    def client_gone(self) -> None:
        self.gone += 1

    def client_paused(self, paused: bool) -> None:
        self.pauses.append(paused)

    def answer(self, body: bytes | None = None) -> None:
        self.connection.answer(OK, self.target if body is None else body)


class App:
    """Answers when a test wants it to, or at once with the request's target."""

    def __init__(self, at_once: Callable[[Responder], Any] | None = None) -> None:
        self.heads = RequestHeads()
        self.max_request_bytes = MIB
        self.idle_timeout = 60.0
        self.draining = False
        self.asked: list[Responder] = []
        self.raised: list[Exception] = []
        self.judges = False
        self._at_once = at_once

    def judge_head(self, connection: ClientConnection, _: RequestHead) -> bool:
        if self.judges:
            connection.answer(b"HTTP/1.1 403 Forbidden\r\n", b"no")
        return self.judges

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Responder | None:
        responder = Responder(connection, bytes(head.target), body)
        self.asked.append(responder)
        if self._at_once is None:
            return responder
        self._at_once(responder)
        return None

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        return b"", str(error).encode()

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        self.raised.append(error)
        return b"", b"broken"


class Port:
    """A port, and its connections."""

    def __init__(self, at_once: Callable[[Responder], Any] | None = None, most: int = 10) -> None:
        self.app = App(at_once)
        self.shed: list[str] = []
        self.all = Connections(self.shed.append, most, MIB, MIB)

    def connect(self) -> Transport:
        return Transport.connect(ClientConnection(self.app, self.app.heads, self.all))

    def assert_at_rest(self) -> None:
        """Nothing is held of connections that are lost."""
        assert (self.all.held, self.all.owed, self.all.open) == (0, 0, set())


def answers(sent: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of each answer, all of a known length."""
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append((int(head.split()[1]), sent[:length]))
        sent = sent[length:]
    return found
