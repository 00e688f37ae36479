"""Event streams, event by event, in whatever cuts they arrive (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re
from typing import Final

MAX_EVENT: Final = 8 * 1024 * 1024 + 64 * 1024
"""Bytes of an event that is held back until it is whole."""
_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")


PING: Final = b": ping\n\n"
"""A comment, which says nothing but that the stream is open."""
_BETWEEN: Final = (b"\n\n", b"\r\r", b"\n\r\n")


class Pulse:
    """When a silent stream should say that it is open; only between events."""

    __slots__ = ("_end", "_since")

    def __init__(self) -> None:
        self._end = b"\n\n"
        self._since = 0.0
        """Since when it is silent; 0: since the next look, which has a clock at hand."""

    def spoke(self, piece: bytes) -> None:
        """These bytes have been sent."""
        self._end = piece[-4:] if len(piece) > 3 else (self._end + piece)[-4:]
        self._since = 0.0

    def due(self, now: float, every: float) -> bool:
        """Whether it is time for a comment, and one may be sent."""
        if self._since == 0.0:
            self._since = now
        if now - self._since < every or not self._end.endswith(_BETWEEN):
            return False
        self._since = now
        return True


class Events:
    """Cuts a stream into whole events."""

    __slots__ = ("_held", "_searched")

    def __init__(self) -> None:
        self._held = bytearray()  # which grows in place: an event may come in very many pieces
        self._searched = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes, each with its empty line."""
        if not self._held:
            return self._cut(piece)
        self._held += piece
        if _END.search(self._held, self._searched) is None:
            self._searched = max(0, len(self._held) - 3)
            return []
        return self._cut(self.rest())

    def _cut(self, whole: bytes) -> list[bytes]:
        events = []
        start = 0
        for match in _END.finditer(whole):
            events.append(whole[start : match.end()])
            start = match.end()
        self._held = bytearray(whole[start:])
        self._searched = max(0, len(self._held) - 3)
        return events

    @property
    def held(self) -> int:
        """Bytes of an event that is not whole."""
        return len(self._held)

    @property
    def overfull(self) -> bool:
        """Whether an event is longer than is held back."""
        return len(self._held) > MAX_EVENT

    def rest(self) -> bytes:
        """What was not completed."""
        held, self._held, self._searched = bytes(self._held), bytearray(), 0
        return held


def data_of(event: bytes) -> bytes:
    """The data of one event; empty where it has none."""
    if event.startswith(b"data: ") and event.count(b"data:") == 1:
        return event[6:].rstrip(b"\r\n")
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data: its id, its name and its retry stay."""
    kept = [line for line in event.splitlines() if line and not line.startswith(b"data:")]
    return b"\n".join([*kept, b"data: " + data]) + b"\n\n"


def event_of(data: bytes) -> bytes:
    """A message as an event."""
    return b"event: message\ndata: " + data + b"\n\n"
