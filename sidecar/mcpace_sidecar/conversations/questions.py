"""What the server has asked its clients: while a person thinks, the server's silence is not its own.

Sampling, elicitation and roots are requests of the server's in the midst of a call (MCP 2025-11-25,
client features); since 2026-07-28 they are answers, and nothing waits.
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.bounded import make_room

PATIENCE: Final = 3600.0
"""Seconds that a person may take."""
_CLIENTS: Final = 4096
_EACH: Final = 64


class Questions:
    """The open questions, by the session, or the client without one, that they were put to."""

    def __init__(self) -> None:
        self._open: dict[bytes, dict[bytes, float]] = {}

    def asked(self, whom: bytes, question: bytes, now: float) -> None:
        """The server has sent a request with this id."""
        mine = self._open.get(whom)
        if mine is None:
            make_room(self._open, _CLIENTS)
            mine = self._open[whom] = {}
        make_room(mine, _EACH)
        mine[question] = now + PATIENCE

    def answered(self, whom: bytes, question: bytes) -> None:
        """The client has answered it, or the server has withdrawn it."""
        mine = self._open.get(whom)
        if mine is not None:
            mine.pop(question, None)
            if not mine:
                del self._open[whom]

    def wait(self, whom: bytes, now: float) -> bool:
        """Whether the server waits for this client."""
        mine = self._open.get(whom)
        return mine is not None and any(until > now for until in mine.values())

    def __len__(self) -> int:
        return len(self._open)
