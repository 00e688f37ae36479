"""A request whose response comes on a stream of 2024-11-05, and what the two are to each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from mcpace_sidecar.errors import UpstreamError


class OpenStream(Protocol):
    """The stream."""

    opened: bytes
    """Where it was opened, with its query."""
    binding: bytes
    """Of the known client that alone may post to it; UNBOUND: the server says who may."""

    def claim(self, message_id: bytes, patience: float, strand: Callable[[], None]) -> Awaited:
        """Take this id for a call until it has ended; MessageError if another's response has it."""

    def forget(self, awaited: Awaited) -> None:
        """It has ended, however."""

    def awaits(self, awaited: Awaited) -> bool:
        """Whether its response has not come."""

    def say(self, event: bytes) -> None:
        """Give the client the response of a call, unless the stream has ended."""

    def sweep(self, now: float) -> None:
        """Give up what has been awaited too long; about twice a second."""


class Posting(Protocol):
    """The asking of the server, whose response comes on the stream."""

    def excuses(self) -> bool:
        """Whether the server is silent because it waits for the client."""

    def answered(self, event: bytes, body: bytes) -> None:
        """The response has come."""

    def passed(self) -> None:
        """The response passes as it comes, unread."""

    def fail(self, error: UpstreamError) -> None:
        """It has not come in time."""


class Awaited:
    """What is known of one such request."""

    __slots__ = ("accepted", "asking", "deadline", "held", "key", "pair", "patience", "strand")

    def __init__(
        self, pair: OpenStream, key: str | Decimal | float | None, patience: float,
        strand: Callable[[], None],
    ) -> None:  # fmt: skip
        """`patience`: seconds that the response may take; `strand`: told that the stream has ended."""
        self.pair = pair
        self.key: str | int | Decimal | float | None = key
        """What tells its id from others."""
        self.patience = patience
        self.strand = strand
        self.asking: Posting | None = None
        """None until it is posted to the server."""
        self.deadline = 0.0
        self.held = 0
        """Bytes that it takes to wait."""
        self.accepted = -1
        """Bytes of its body that the server has accepted, and that are held no more; -1: none."""

    def expect(self, asking: Posting) -> None:
        """It is being posted, and its response will come: perhaps before the POST's own."""
        self.asking = asking
        self.deadline = time.monotonic() + self.patience

    def forget(self) -> None:
        """It has ended, however."""
        self.pair.forget(self)

    @property
    def comes(self) -> bool:
        """Whether the stream may still bring its response."""
        return self.asking is not None and self.pair.awaits(self)
