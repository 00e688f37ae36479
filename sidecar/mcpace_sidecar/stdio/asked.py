"""One request that is being answered: whole, or as events where the server speaks meanwhile."""

from __future__ import annotations

from time import monotonic
from typing import Final

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import Receiver


def _head(line: bytes, more: bytes = b"") -> ResponseHead:
    return ResponseHead(b"HTTP/1.1 " + line + b"\r\n" + more + b"\r\n")


_JSON: Final = b"Content-Type: application/json\r\n"
OK: Final = _head(b"200 OK", _JSON)
EVENTS: Final = _head(b"200 OK", b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n")
ACCEPTED: Final = _head(b"202 Accepted", b"Content-Length: 0\r\n")
NO_CONTENT: Final = _head(b"204 No Content")
BAD_REQUEST: Final = _head(b"400 Bad Request", _JSON)
NOT_FOUND: Final = _head(b"404 Not Found", _JSON)
NOT_ALLOWED: Final = _head(b"405 Method Not Allowed", _JSON + b"Allow: POST, GET, DELETE\r\n")


def begun(session: bytes) -> ResponseHead:
    """The head of the answer with which a session begins."""
    return _head(b"200 OK", _JSON + b"Mcp-Session-Id: " + session + b"\r\n")


class Giver:
    """Who answers it."""

    def given_up(self, asked: Asked) -> None:
        """Nobody waits for this one any more."""
        raise NotImplementedError


class Asked:
    """It: what the path of a call holds of it, and whom it answers."""

    __slots__ = (
        "begun",
        "deadline",
        "events",
        "giver",
        "id",
        "logs",
        "method",
        "modern",
        "named",
        "params",
        "patience",
        "receiver",
        "token",
    )

    def __init__(
        self, receiver: Receiver, patience: float | None, events: bool, modern: bool = False
    ) -> None:
        """`events`: whether its client takes events; `modern`: whether it did without a handshake."""
        self.receiver: Receiver | None = receiver
        self.patience = patience
        self.deadline = monotonic() + patience if patience is not None else 0.0
        self.events = events
        self.modern = modern
        self.logs = False
        """Whether it wants to hear what the server logs meanwhile, where it is of that era."""
        self.named = b""
        """What its head says that it calls, where it is of that era."""
        self.begun = False
        """Whether it is answered as events."""
        self.giver: Giver | None = None
        """None where it is answered at once."""
        self.method = ""
        self.id = b""
        """As it was written; empty of what asks for no answer."""
        self.params = b""
        """While it waits for its turn."""
        self.token = b""
        """Under which its client hears of its progress, as it was written; empty: it does not."""

    # -- http.receiver.Ticket

    def serves(self, receiver: Receiver) -> bool:
        """Whether this receiver is still to be answered."""
        return self.receiver is receiver

    def cancel(self) -> None:
        """Give it up."""
        if self.receiver is not None:
            self.receiver = None
            self._leave()

    def pause(self, paused: bool) -> None:
        """Others' answers come from the same process: it is read on, and the client's buffer is bounded."""

    def distrust(self, error: UpstreamError) -> None:
        """An answer is its own by its id."""
        del error

    # -- its answer

    def answer(self, body: bytes, head: ResponseHead = OK) -> None:
        """Answer it whole, or by its last event."""
        receiver, self.receiver = self.receiver, None
        self._leave()
        if receiver is None:
            return
        if self.begun:
            receiver.on_piece(sse.event_of(body))
            receiver.was_read(EVENTS, None)
            receiver.on_end()
        else:
            receiver.was_read(head, body)
            receiver.on_answer(head, body)

    def begin(self) -> None:
        """Answer it as events, from now on."""
        if self.receiver is not None and not self.begun:
            self.begun = True
            self.receiver.on_head(EVENTS)

    def say(self, message: bytes) -> None:
        """Give its client a message of the server's before the answer."""
        self.begin()
        if self.receiver is not None:
            self.touch(monotonic())
            self.receiver.on_piece(sse.event_of(message))

    def end(self) -> None:
        """End a stream of events."""
        receiver, self.receiver = self.receiver, None
        self._leave()
        if receiver is not None:
            receiver.on_end()

    def fail(self, error: UpstreamError) -> None:
        """There is no answer."""
        receiver, self.receiver = self.receiver, None
        self._leave()
        if receiver is not None:
            receiver.on_failure(error)

    def touch(self, now: float) -> None:
        """The server has said something about it."""
        if self.patience is not None:
            self.deadline = now + self.patience

    def excuses(self) -> bool:
        """Whether the server's silence is the client's."""
        return self.receiver is not None and self.receiver.excuses()

    def _leave(self) -> None:
        giver, self.giver = self.giver, None
        if giver is not None:
            giver.given_up(self)
