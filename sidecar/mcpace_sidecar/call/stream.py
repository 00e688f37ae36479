"""What an answer that comes in pieces and its call are to each other."""

from __future__ import annotations

from typing import Protocol

from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp.answers import Outcome


class Stream:
    """One streamed answer: here, one of which nothing has passed, and in which nothing can be said."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        """What the response said, once it has been passed on."""

    def piece(self, piece: bytes) -> None:
        """Take the next bytes."""
        raise NotImplementedError

    def end(self) -> None:
        """The answer is whole."""
        raise NotImplementedError

    def conclude(self) -> None:
        """End with the response that has been passed on, whatever becomes of the rest."""

    def fail(self, words: bytes) -> bool:
        """Say in the stream that it ends here, unless it has its response; False if there is no way to."""
        del words
        return False

    def beat(self, now: float, every: float) -> None:
        """Say that the stream is open, where nothing has been said for so many seconds."""

    def release(self) -> None:
        """Hold nothing more: it has ended."""

    def answered(self) -> bool:
        """Whether its response has been read, and passed on."""
        return self.outcome is not None

    def bears(self, message_id: bytes) -> bool:
        """Whether what has come surely holds the response to this request."""
        del message_id
        return self.outcome is not None


class Streamed(Protocol):
    """The call whose answer it is."""

    version: bytes
    """What `initialize` has negotiated."""

    def is_stray(self, body: bytes) -> bool:
        """Whether these bytes are the response to another request."""

    def is_anothers(self, written: bytes, *, is_error: bool) -> bool:
        """Whether a response with this id is to another request."""

    def strayed(self) -> None:
        """End, and with the connection that brought the answer to another request."""

    def record(self) -> None:
        """Hold the events of its stream for when its client's connection breaks, where it may come back."""

    def concluding(self, event: bytes) -> bytes:
        """An error of ours, as the client is to see it."""

    def told(self, data: bytes) -> bytes:
        """A request or notification of the server's, as the client is to see it."""

    def asked(self, question: bytes) -> None:
        """The server has asked the client something."""

    def lines(self, head: ResponseHead) -> bytes:
        """The lines of the head that go to the client."""

    def unanswered(self) -> bool:
        """Its stream has ended without its response; whether that has been said, and the call has ended."""

    def take(self, outcome: Outcome) -> bytes | None:
        """Keep a result; return it in another shape, or None: as it is."""

    def take_answer(self, head: ResponseHead, body: bytes) -> None:
        """The answer is whole after all."""
