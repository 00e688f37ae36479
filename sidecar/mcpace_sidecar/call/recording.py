"""What was said on the streams of sessions, kept for clients whose connection breaks. Pure.

A stream's events are numbered, and the last of them are held. Whoever is gone may come back within a minute
and hears the rest; meanwhile what answers it goes on. All is bounded in bytes: where there is no room, what
has ended goes first, then what the client with the most holds.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import islice
from typing import Final, Protocol

from mcpace_sidecar.call.audience import Audience
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.mcp.ids import same_id
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.sessions import event_ids

AWAY: Final = 60.0
"""Seconds that a stream goes on without its client, and is remembered after its end."""
MOST: Final = 16 * 1024 * 1024
"""Bytes of all of them, until the budget is known."""
MOST_OF_ONE: Final = 1024 * 1024
MOST_ENDED: Final = 1024
"""Streams that are remembered after their end."""
MOST_AWAY: Final = 1024
"""Streams that go on without a client, until the budget is known."""
_EVENT: Final = 200
"""Bytes that an event costs beside its own."""
_STREAM: Final = 1024
"""Bytes that a stream costs beside its events."""


class Holder(Protocol):
    """The answer that is said on a stream."""

    def abandon(self) -> None:
        """End it: its client did not come back."""


class Recording:
    """One stream."""

    __slots__ = (
        "_all", "_events", "_stem", "_tail", "answers", "away", "binding", "cancelled", "client",
        "complete", "ended", "first", "heard", "holder", "key", "kind", "number", "primes", "process",
        "raw", "request", "size", "stream", "theirs",
    )  # fmt: skip

    def __init__(
        self, everything: Recordings, key: bytes, stream: int, kind: bytes, request: bytes, binding: bytes,
        client: str,
    ) -> None:  # fmt: skip
        """`key`: of its session; `request`: the id of what it answers; `binding`: of its client."""
        self._all = everything
        self.key, self.stream, self.kind = key, stream, kind
        self.request, self.binding, self.client = request, binding, client
        self.answers: Message | None = None
        """What it answers, where that is known."""
        self.raw = False
        """Whether its result is as the server gave it: who asks gives it its shape."""
        self.process = b""
        """Which process of the server speaks."""
        self.theirs = b""
        """The last id of the server's own."""
        self._stem = self._tail = b""
        self._events: deque[tuple[bytes, bytes]] = deque()
        """The last of its events: the line of the id, and what follows it."""
        self.size = _STREAM
        self.first = 1
        """The number of the first event that is held."""
        self.number = 0
        """That of the last one, held or not."""
        self.primes = False
        """Whether an event without data comes first, so that its client has an id from the beginning."""
        self.heard = 0
        """That of the last one that was said before its client left, or that it has heard since."""
        self.holder: Holder | None = None
        """Whose answer is said on it, as long as that goes on."""
        self.complete = False
        """Whether the response has been said."""
        self.cancelled = False
        """Whether its client wants no answer."""
        self.away = 0.0
        """Since when its client is gone, in seconds of the monotonic clock; 0: it is not."""
        self.ended = 0.0
        """When it ended; 0: it has not."""

    def hear(self, process: bytes) -> None:
        """This process of the server speaks from now on: ids of another's are nothing to it."""
        if process != self.process:
            self.process = process
            self.theirs = self._tail = b""
            self._stem = event_ids.stem(self._all.name, self.stream, process, self.request)

    def add(self, event: bytes, *, last: bool = False) -> tuple[bytes, bytes]:
        """Hold an event; the line of its id, and the event without the server's. `last`: the response."""
        if event.startswith((b"\n", b"\r")):
            event = event.lstrip(b"\r\n")  # the end of the event before
        theirs = sse.id_of(event)
        if theirs is not None:
            event = sse.without_id(event)
            self._tail = event_ids.tail(theirs)
            self.theirs = theirs if self._tail else b""
        self.number += 1
        self.complete = self.complete or last
        kind = event_ids.END if last else self.kind
        line = b"id: %b%b%d%b\n" % (kind, self._stem, self.number, self._tail)
        size = len(line) + len(event) + _EVENT
        while self._events and self.size + size > MOST_OF_ONE:
            self._drop()
        if self.size + size > MOST_OF_ONE or not self._all.hold(size):
            self.clear()
        else:
            if not self._events:  # room was made of what it held itself
                self.first = self.number
            self.size += size
            self._events.append((line, event))
        return line, event

    def after(self, number: int) -> bytes | None:
        """The events after that one; None: not all of them are held, or there was no such one."""
        if not self.first - 1 <= number <= self.number:
            return None
        return b"".join(
            part for event in islice(self._events, number + 1 - self.first, None) for part in event
        )

    @property
    def unheard(self) -> bool:
        """Whether something was said that its client, gone by then, has not heard."""
        return self.number > self.heard

    def is_of(self, binding: bytes, last: bytes) -> bool:
        """Whether it is said to whoever shows this credential: its own, or the session's `last` one."""
        return binding in (self.binding, last)

    def clear(self) -> None:
        """Hold none of its events."""
        while self._events:
            self._drop()
        self.first = self.number + 1

    def _drop(self) -> None:
        line, event = self._events.popleft()
        size = len(line) + len(event) + _EVENT
        self.first += 1
        self.size -= size
        self._all.give(size)

    def close_stream(self) -> None:
        """Nobody comes back to hear the rest, or others need the room (audience.Listener)."""
        self.heard = self.number
        if self.holder is not None:
            self.holder.abandon()

    def __repr__(self) -> str:
        gone = ", its client is away" if self.away else ""
        return f"<Recording of {self.number} events, {self.size} bytes{gone}>"


class Recordings:
    """All of them, of one sidecar."""

    def __init__(self) -> None:
        self.name = b""
        """What this sidecar is called in ids of events."""
        self.ledger = Ledger(MOST)
        self.events = 0
        """Bytes of it that are events'."""
        self.away = Audience(MOST_AWAY)
        """Those whose client is gone, while they go on."""
        self._of: dict[bytes, dict[int, Recording]] = {}
        """By session, and their numbers."""
        self._ended: dict[Recording, None] = {}
        """Those that have ended, the longest ago first."""
        self._streams = 0

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def begin(
        self, holder: Holder, key: bytes, kind: bytes, request: bytes, binding: bytes, client: str
    ) -> Recording | None:
        """Record what a stream of a session says; None: there is no room."""
        if not self._take(_STREAM):
            return None
        self._streams += 1
        recording = Recording(self, key, self._streams, kind, request, binding, client)
        recording.holder = holder
        theirs = self._of.get(key)
        if theirs is None:
            theirs = self._of[key] = {}
        theirs[recording.stream] = recording
        return recording

    def find(self, key: bytes, stream: int) -> Recording | None:
        """The stream of this number in a session."""
        theirs = self._of.get(key)
        return theirs.get(stream) if theirs is not None else None

    def listening(self, key: bytes) -> Recording | None:
        """The stream of a session on which the server spoke on its own after its client had gone."""
        of = self._of.get(key)
        for each in of.values() if of is not None else ():
            if each.kind == event_ids.LISTENING and (each.away or (each.ended and each.unheard)):
                return each
        return None

    def speaking(self, key: bytes) -> Recording | None:
        """The stream of a session on which the server speaks on its own."""
        of = self._of.get(key)
        for each in of.values() if of is not None else ():
            if each.kind == event_ids.LISTENING and each.holder is not None:
                return each
        return None

    def leave(self, recording: Recording, now: float) -> bool:
        """Its client is gone; whether it goes on: the client may come back, and can say where it was."""
        listens = recording.kind == event_ids.LISTENING
        if recording.cancelled or recording.holder is None or (recording.number == 0 and not listens):
            return False
        recording.away, recording.heard = now, recording.number
        for other in self.away.enter(recording, recording.client):
            other.close_stream()
        return recording.away > 0.0

    def come_back(self, recording: Recording) -> None:
        """Its client is there again."""
        recording.away = 0.0
        self.away.leave(recording)

    def close(self, recording: Recording, now: float) -> None:
        """It has ended; it is remembered where its client may ask for the rest."""
        recording.holder = None
        if not recording.away:
            recording.heard = recording.number
        self.come_back(recording)
        unheard = recording.kind == event_ids.LISTENING and recording.unheard
        if recording.complete or recording.cancelled or recording.theirs or unheard:
            for other in (
                list(islice(self._ended, MOST_ENDED // 16)) if len(self._ended) >= MOST_ENDED else ()
            ):
                self.forget(other)
            recording.ended = now
            self._ended[recording] = None
        else:
            self.forget(recording)

    def cancel(self, key: bytes, request: bytes, binding: bytes, last: bytes) -> None:
        """A session's client wants no answer to this request. `binding`, `last`: see `Recording.is_of`."""
        of = self._of.get(key)
        for each in list(of.values()) if of is not None else ():
            if each.holder is not None and same_id(each.request, request) and each.is_of(binding, last):
                each.cancelled = True
                if each.away:
                    each.close_stream()

    def end(self, key: bytes) -> None:
        """The session has ended."""
        for each in list(self._of.get(key, {}).values()):
            if each.away:
                each.close_stream()
            if each.holder is None:
                self.forget(each)

    def forget(self, recording: Recording) -> None:
        """It cannot be heard any more."""
        of = self._of.get(recording.key)
        if of is not None and of.pop(recording.stream, None) is not None:
            recording.clear()
            self.ledger.give(_STREAM)
            if not of:
                del self._of[recording.key]
        self._ended.pop(recording, None)

    def hold(self, size: int) -> bool:
        """Room for so many bytes of events."""
        held = self._take(size)
        self.events += size if held else 0
        return held

    def give(self, size: int) -> None:
        """So many bytes of events are held no more."""
        self.events -= size
        self.ledger.give(size)

    def _take(self, size: int) -> bool:
        while not self.ledger.take(size):
            if not self._make_room():
                return False
        return True

    def _make_room(self) -> bool:
        """Forget a sixteenth: of what has ended, else of what is held, always of whoever has most then.

        False: too little is held for that, and not worth a look at all of them at each event.
        """
        if self._ended:
            for each in list(islice(self._ended, max(1, len(self._ended) // 16))):
                self.forget(each)
            return True
        part = self.ledger.most // 16
        if self.events < part:
            return False
        of: dict[str, list[tuple[int, int, Recording]]] = {}
        for streams in self._of.values():
            for each in streams.values():
                if each.size > _STREAM:
                    of.setdefault(each.client, []).append((each.size - _STREAM, each.stream, each))
        heaviest: list[tuple[int, str]] = []
        for client, theirs in of.items():
            heaviest.append((-sum(size for size, _, _ in theirs), client))
            theirs.sort()  # its largest goes first
        heapq.heapify(heaviest)
        left = self.events - part
        while self.events > left:
            weight, client = heaviest[0]
            size, _, each = of[client].pop()
            each.clear()
            heapq.heapreplace(heaviest, (weight + size, client))
        return True

    def sweep(self, now: float) -> None:
        """End those whose client did not come back, and forget those that ended long ago."""
        for each in self.away:
            if isinstance(each, Recording) and now - each.away > AWAY:
                each.close_stream()
        while self._ended:
            oldest = list(islice(self._ended, 64))
            due = [each for each in oldest if now - each.ended > AWAY]
            for each in due:
                self.forget(each)
            if len(due) < len(oldest):
                return
