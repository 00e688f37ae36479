"""Who answers a client's requests, and where the answers go."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads

Client = TypeVar("Client", contravariant=True)  # noqa: PLC0105 - because it is what it stands for

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


def status_line(status: int) -> bytes:
    """The bytes of a status line, CRLF included."""
    return _STATUS_LINES[status]


def length_line(length: int) -> bytes:
    """The bytes of a Content-Length line and of the empty line that ends a head."""
    if length >= _SHORT:
        return b"Content-Length: %d\r\n\r\n" % length
    line = _LENGTH_LINES[length]
    if not line:
        line = _LENGTH_LINES[length] = b"Content-Length: %d\r\n\r\n" % length
    return line


_SHORT: Final = 4096
"""The lines of bodies below this length are made once."""
_LENGTH_LINES: Final[list[bytes]] = [b""] * _SHORT


class Responder(Protocol):
    """What answers one request, sooner or later; told when the client's side changes."""

    def client_gone(self) -> None:
        """The connection is lost before the answer was written."""

    def client_paused(self, paused: bool) -> None:
        """The client reads too slowly (True), or again (False)."""


class Downstream(Protocol):
    """Where an answer goes: whole, or begun, sent piece by piece and finished."""

    peer: str
    """The client's address."""

    def answer(self, head: bytes, body: bytes) -> None:
        """Write a whole answer: status line and header lines, then the body."""

    def answer_empty(self, head: bytes) -> None:
        """Write an answer that has no body by its nature (204, 304)."""

    def start(self, head: bytes, length: int | None) -> None:
        """Begin a streamed answer, of a known length or not."""

    def send(self, piece: bytes) -> None:
        """Send the next bytes of a begun answer."""

    def finish(self) -> None:
        """End a begun answer."""

    def abort(self) -> None:
        """Break off an answer that cannot be completed."""


class Gatherer(Protocol):
    """A `Downstream` in this process."""

    def told(self, http: int, *, events: bool) -> None:
        """What the head says that comes next: its status, and whether its body is events."""

    def goes_elsewhere(self) -> bool:
        """Whether a whole answer may come in place of the rest of a begun one."""


class HeadRewriter(Protocol):
    """What has a say in the head of every answer to a request."""

    def rewrite(self, head: bytes) -> bytes:
        """The status line and header lines that are sent for these."""


class Nobody:
    """A `Downstream` whose client is not there."""

    peer = ""

    def answer(self, head: bytes, body: bytes) -> None:
        """Nobody hears it."""

    def answer_empty(self, head: bytes) -> None:
        """Nobody hears it."""

    def start(self, head: bytes, length: int | None) -> None:
        """Nobody hears it."""

    def send(self, piece: bytes) -> None:
        """Nobody hears it."""

    def finish(self) -> None:
        """Nobody hears it."""

    def abort(self) -> None:
        """Nobody hears it."""


class Application(Protocol[Client]):
    """Who answers requests; `Client` is a client's connection."""

    heads: RequestHeads
    max_request_bytes: int
    idle_timeout: float
    """Seconds a kept connection may stay silent between requests."""

    @property
    def draining(self) -> bool:
        """Whether clients are to go elsewhere with their next answer."""

    def judge_head(self, connection: Client, head: RequestHead) -> bool:
        """Answer a request whose body is still to come, if its head alone says how; whether it was."""

    def on_request(self, connection: Client, head: RequestHead, body: bytes) -> Responder | None:
        """Answer now, or return what will; None means it is answered."""

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count it, unless it found no room (503); return (header lines, body) of the answer."""

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised; return (header lines, body) of the answer, HTTP 500."""
