"""Sessions of this replica's server that another one has begun again: they are ended.

Nobody here has given them away: who could not reach this replica took it to be gone. What is under way in
one ends first. The server is told without a credential, because none is held: one that wants it forgets the
session in its own time.
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.sent import Sent
from mcpace_sidecar.http.receiver import Unheard
from mcpace_sidecar.sessions.session import Session

_MOST: Final = 10_000
"""Of which it is known here."""
_AT_ONCE: Final = 16
"""That are ended with one sweep."""
_PATIENCE: Final = 5.0
"""Seconds that the server has to hear it."""


class PassedOver:
    """All of them."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._left: dict[bytes, bytes] = {}
        """The head by which each ends, by the server's id of it."""

    def __len__(self) -> int:
        return len(self._left)

    def add(self, session: Session) -> None:
        """This one was passed over (table.Table.on_passed)."""
        make_room(self._left, _MOST)
        version = session.spoken or session.version
        line = b"MCP-Protocol-Version: %b\r\n" % version if version else b""
        self._left[session.inner] = b"DELETE %b HTTP/1.1\r\nHost: %b\r\nMcp-Session-Id: %b\r\n%b\r\n" % (
            self._plane.settings.path, str(self._plane.pool.address).encode(), session.inner, line,
        )  # fmt: skip

    def sweep(self, now: float) -> None:
        """End some in which nothing is under way; about twice a second."""
        del now
        if not self._left:
            return
        used = {
            other.within.inner
            for other in self._plane.in_flight
            if isinstance(other, Answer) and isinstance(other.within, Sent)
        }
        for inner in [each for each in self._left if each not in used][:_AT_ONCE]:
            self._plane.pool.request((self._left.pop(inner),), Unheard(), _PATIENCE)
