"""Calls that the server has answered with a question: what goes on is one call, and counted once. Pure.

A server of 2026-07-28 may answer `input_required` with a `requestState`; the client makes the same call
again with that and what was asked for. Each state lets one such call pass, from whom it was given to,
and a counted call covers at most so many of them: a server may ask without end.
Source: MCP 2026-07-28, multi round-trip requests.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.conversations.questions import PATIENCE

REMEMBERED: Final = 10_000
ROUNDS: Final = 16
"""Questions that one counted call covers: what goes on after them is counted like a call of its own."""


class Conversations:
    """Calls that wait for their client, by the hash of who may go on with what. Of one replica."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._open: dict[bytes, tuple[float, int]] = {}

    def asked(self, key: bytes, rounds: int) -> None:
        """The server wants to know more before it answers; so often it had asked before."""
        if rounds < ROUNDS:
            make_room(self._open, REMEMBERED)
            self._open[key] = (self._clock() + PATIENCE, rounds + 1)

    def continues(self, key: bytes, done: Callable[[int], None] | None = None) -> int:
        """How often the server had asked when a call goes on with that; once for each question, then 0."""
        del done  # known at once
        until, rounds = self._open.pop(key, (0.0, 0))
        return rounds if until > self._clock() else 0

    def __len__(self) -> int:
        return len(self._open)
