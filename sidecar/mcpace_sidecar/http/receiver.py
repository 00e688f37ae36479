"""Who waits for an answer of the server's, and what they hold of their request."""

from __future__ import annotations

from typing import Protocol

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.head import ResponseHead


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


class ByStatus(Receiver):
    """A receiver that believes the status alone, and whose server waits for nobody else."""

    def was_read(self, head: ResponseHead, body: bytes | None) -> bool:
        """Whether it was accepted."""
        del body
        return head.status < 300

    def excuses(self) -> bool:
        """Its silence is its own."""
        return False


class Unheard(ByStatus):
    """A receiver that wants no answer: that the server has heard it is enough."""

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """Nobody hears it."""

    def on_head(self, head: ResponseHead) -> None:
        """Nobody hears it."""

    def on_piece(self, piece: bytes) -> None:
        """Nobody hears it."""

    def on_end(self) -> None:
        """Nobody hears it."""

    def on_failure(self, error: UpstreamError) -> None:
        """Nobody hears it."""
