"""Event streams, event by event, in whatever cuts they arrive (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re
from typing import Final

MAX_EVENT: Final = 8 * 1024 * 1024 + 64 * 1024
"""Bytes of an event that is held back until it is whole."""
_END: Final = re.compile(rb"(?:\n|\r\n|\r(?!\n))(?:\n|\r\n?)")
"""Two line ends. Where the second is a CR, an LF to come belongs to it, and leads the next event."""
_BOM: Final = b"\xef\xbb\xbf"


PING: Final = b": ping\n\n"
"""A comment, which says nothing but that the stream is open."""
_BETWEEN: Final = (b"\n\n", b"\r\r", b"\n\r\n", b"\n\r")


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

    __slots__ = ("_begun", "_held", "_searched")

    def __init__(self) -> None:
        self._begun = False
        self._held = bytearray()  # which grows in place: an event may come in very many pieces
        self._searched = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes, each with its empty line; a BOM first, for itself."""
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
        if events and not self._begun:
            self._begun = True
            if events[0].startswith(_BOM):
                events[:1] = [_BOM, events[0][len(_BOM) :]]
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
    if event.startswith(b"data: "):
        data = event[6:].rstrip(b"\r\n")
        if b"\n" not in data and b"\r" not in data:
            return data  # the only line, as most servers write it
    return b"\n".join(_values(event, b"data"))


def name_of(event: bytes) -> bytes:
    """What kind of event it is; empty for a message."""
    names = _values(event, b"event")
    return names[-1] if names else b""


def id_of(event: bytes) -> bytes | None:
    """The id of one event; None where it has none."""
    if b"\nid" not in event and b"\rid" not in event and not event.startswith(b"id"):
        return None
    ids = _values(event, b"id")
    return ids[-1] if ids else None


def without_id(event: bytes) -> bytes:
    """The event without its id."""
    kept = [
        line for line in event.splitlines(keepends=True) if line.rstrip(b"\r\n").partition(b":")[0] != b"id"
    ]
    return b"".join(kept)


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data: its id, its name and its retry stay."""
    kept = [line for line in event.splitlines() if line and line.partition(b":")[0] != b"data"]
    return b"\n".join([*kept, _lines(data)]) + b"\n\n"


def event_of(data: bytes) -> bytes:
    """A message as an event."""
    return b"event: message\n" + _lines(data) + b"\n\n"


def _values(event: bytes, name: bytes) -> list[bytes]:
    size = len(name)
    return [
        line[size + 1 :].removeprefix(b" ")
        for line in event.splitlines()
        if line.startswith(name) and line[size : size + 1] in (b":", b"")
    ]


def _lines(data: bytes) -> bytes:
    if b"\n" not in data and b"\r" not in data:
        return b"data: " + data
    return b"\n".join([b"data: " + line for line in data.splitlines()])
