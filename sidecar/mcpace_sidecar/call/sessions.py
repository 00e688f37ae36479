"""Which sessions of the handshake era the server has lately accepted. Pure but for its memory."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.bounded import make_room

_REMEMBERED: Final = 50_000
_LONGEST: Final = 256
"""Bytes of an id that is remembered: a stateless server accepts whatever a client makes up."""


class Sessions:
    """Sessions that are alive as far as this replica has heard; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._alive: dict[bytes, None] = {}

    def __contains__(self, session: bytes) -> bool:
        return session in self._alive

    def heard(self, session: bytes, method: bytes, status: int) -> None:
        """The server has answered a request of this session (MCP 2025-11-25, session management)."""
        if status == 404 or (method == b"DELETE" and status < 300):
            self._alive.pop(session, None)
        elif status < 300 and session not in self._alive and len(session) <= _LONGEST:
            make_room(self._alive, _REMEMBERED)
            self._alive[session] = None

    def __len__(self) -> int:
        return len(self._alive)
