"""The seam behind which it is known which calls wait for their client, in memory and in Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class ConversationStore(Protocol):
    """Where it is kept which calls may go on uncounted: those of which the server has asked something."""

    def asked(self, key: bytes, rounds: int) -> None:
        """The server wants to know more before it answers; so often it had asked before."""

    def continues(self, key: bytes, done: Callable[[int], None]) -> int | None:
        """How often the server had asked when a call goes on with that; None: `done` is told it later."""

    def __len__(self) -> int:
        """How many are held in memory."""
