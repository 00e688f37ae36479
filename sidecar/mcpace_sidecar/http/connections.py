"""A port's client connections together: how many, what they hold, and who goes when it is too much.

What is waited for goes before what is worked on: an idle connection before a call, an unfinished body
before a finished one, and of those who do not read their answers the one that has not for the longest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks for connections that may go."""


SEND_TIMEOUT: Final = 60.0
"""Seconds in which a client must have read something of its answer."""


class Guest(asyncio.Protocol):
    """One of the connections: what it holds of what all may hold together, and how it is told to go."""

    __slots__ = ("_all", "_stuck", "ahead", "held", "owed", "peer")

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self.peer = ""
        """The client's address."""
        self.held = 0
        """Bytes of its request that count."""
        self.ahead = 0
        """Bytes behind that request that count: of those that come before it is answered."""
        self.owed = 0
        """Bytes of its answer that wait for the client to read; 0: it reads."""
        self._stuck = 0.0
        """Since when it has read nothing."""

    # -- what it is told, and asked

    def is_answered_by(self, app: object) -> bool:
        """Whether this application answers it."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """End what is idle or too slow."""
        raise NotImplementedError

    def broke(self, error: Exception) -> None:
        """It raised: end it."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Refuse what it is sending: it takes too much room."""
        raise NotImplementedError

    def shed(self) -> None:
        """Close it, whatever it is at."""
        raise NotImplementedError

    def close_after_answer(self) -> None:
        """Answer what comes, and then close."""
        raise NotImplementedError

    def close_if_idle(self) -> None:
        """Close unless a request is being gathered or answered."""
        raise NotImplementedError

    def abort(self) -> None:
        """Cut it."""
        raise NotImplementedError

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn: to begin a request, or to go on with one."""
        raise NotImplementedError

    @property
    def waited_since(self) -> float:
        """Since when the client is waited for."""
        raise NotImplementedError

    @property
    def is_slow(self) -> bool:
        """Whether it has not read what it was sent."""
        return self.owed > 0

    # -- what it holds

    def hold(self, size: int) -> bool:
        """Hold so many bytes more of its request; False: there is no room."""
        self.held += size
        return self._all.hold(self, size)

    def count(self, size: int) -> bool:
        """Hold so many bytes for its head; False: there is no room."""
        more = size - self.held
        if more <= 0:
            return True
        self._all.gathers(self)
        return self.hold(more)

    def count_ahead(self, size: int) -> bool:
        """Hold so many bytes in all of what comes before its turn; False: there is no room."""
        more, self.ahead = size - self.ahead, size
        self._all.gathers(self)
        return self._all.hold(self, more)

    def release(self) -> None:
        """Its request is answered."""
        if self.held:
            self._all.release(self.held)
            self.held = 0

    def release_ahead(self) -> None:
        """What came before its turn is the request now, or is dropped."""
        if self.ahead:
            self._all.gathered(self)
            self._all.release(self.ahead)
            self.ahead = 0

    def release_all(self) -> None:
        """Nothing more of its requests is held."""
        self._all.gathered(self)
        self.release()
        self.release_ahead()

    def stops(self, unread: int) -> None:
        """The client does not read any more."""
        self.owed = max(1, unread)
        self._stuck = 0.0
        self._all.owe(self, self.owed)

    def owes(self, more: int) -> None:
        """So many bytes more are sent to a client that may not read."""
        if self.owed:
            self.owed += more
            self._all.owe(self, more)

    def reads(self) -> None:
        """It reads again, or has gone."""
        if self.owed:
            self._all.paid(self, self.owed)
            self.owed = 0

    def is_stuck(self, now: float, unread: int) -> bool:
        """Whether it has read nothing for too long; it counts what is unread."""
        if unread < self.owed or self._stuck == 0.0:
            self._stuck = now
        elif now - self._stuck > SEND_TIMEOUT:
            return True
        before, self.owed = self.owed, max(1, unread)
        self._all.owe(self, self.owed - before)
        return False


class Connections:
    """The connections of one port, or of several that share their bounds."""

    def __init__(
        self, on_shed: Callable[[str], None], most: int = 0, body_bytes: int = 0, answer_bytes: int = 0
    ) -> None:
        """`on_shed` takes why one was closed or refused: connections, bodies, answers, slow."""
        self.on_shed = on_shed
        self.open: set[Guest] = set()
        self.held = 0
        """Bytes of the requests that are unfinished, or large and being answered."""
        self.owed = 0
        """Bytes of answers that clients have not read yet."""
        self._gathering: dict[Guest, None] = {}  # unfinished requests, as they began
        self._slow: dict[Guest, None] = {}  # who does not read, as they stopped
        self._may_go: list[tuple[float, Guest]] = []  # since when; the longest waited for last
        self._looked = 0.0
        self._entered = 0
        self.bound(most, body_bytes, answer_bytes)

    def bound(self, most: int, body_bytes: int, answer_bytes: int) -> None:
        """Allow so many connections, and so many bytes together, from now on."""
        self._most, self.body_bytes, self._answer_bytes = most, body_bytes, answer_bytes

    def longest(self, wanted: int) -> int:
        """The bytes that one body may have, of so many wanted: no more than there may be together."""
        return min(wanted, self.body_bytes)

    def enter(self, connection: Guest) -> bool:
        """Take in a new connection; where there are too many, one that is waited for makes room."""
        self._entered += 1
        if len(self.open) >= self._most:
            other = self._longest_waited_for()
            if other is None:
                return False
            self.open.discard(other)
            self.on_shed("connections")
            other.shed()
        self.open.add(connection)
        return True

    def __repr__(self) -> str:
        said = [f"{len(self.open)}/{self._most} connections", f"{len(self._gathering)} gathered"]
        said += [f"{self.held} bytes held", f"{len(self._slow)} slow", f"{self.owed} bytes owed"]
        return f"<Connections {', '.join(said)}>"

    def leave(self, connection: Guest) -> None:
        """A connection is lost; what it held has been released."""
        self.open.discard(connection)

    def of(self, app: object) -> list[Guest]:
        """Those that this application answers."""
        return [connection for connection in self.open if connection.is_answered_by(app)]

    # -- bodies

    def gathers(self, connection: Guest) -> None:
        """A body begins to arrive."""
        self._gathering[connection] = None

    def gathered(self, connection: Guest) -> None:
        """It has arrived, or will not."""
        self._gathering.pop(connection, None)

    def hold(self, connection: Guest, size: int) -> bool:
        """Hold so many bytes more of its body; others' unfinished ones make room. False: there is none."""
        self.held += size
        while self.held > self.body_bytes:
            other = self._heaviest()
            if other is None or other is connection:
                return False
            other.give_up()
        return True

    def keep(self, size: int) -> bool:
        """Hold so many bytes of a request whose connection is free again; False: there is no room."""
        self.held += size
        while self.held > self.body_bytes:
            other = self._heaviest()
            if other is None:
                self.held -= size
                return False
            other.give_up()
        return True

    def release(self, size: int) -> None:
        """So many bytes of bodies are held no more."""
        self.held -= size

    # -- answers

    def owe(self, connection: Guest, size: int) -> None:
        """So many bytes more (or fewer) wait for a client that does not read."""
        self._slow[connection] = None
        self.owed += size
        while self.owed > self._answer_bytes and self._slow:
            other = next(iter(self._slow))
            self.on_shed("answers")
            other.shed()

    def paid(self, connection: Guest, size: int) -> None:
        """It reads again, or has gone: nothing waits for it any more."""
        if connection in self._slow:
            del self._slow[connection]
            self.owed -= size

    def sweep(self, now: float) -> None:
        """Timeouts; about twice a second."""
        for connection in list(self.open):
            try:
                connection.sweep(now)
            except Exception as error:  # noqa: BLE001 - because the others are swept all the same
                connection.broke(error)

    # -- who goes

    def _longest_waited_for(self) -> Guest | None:
        while True:
            while self._may_go:
                since, connection = self._may_go.pop()
                still = connection.is_waited_for and connection.waited_since == since
                if still and connection in self.open:
                    return connection
            # A look costs as much as there are connections: not for each new one.
            now = monotonic()
            if now - self._looked < _LOOK_EVERY and self._entered * 2 < self._most:
                return None
            self._looked, self._entered = now, 0
            self._may_go = [(c.waited_since, c) for c in self.open if c.is_waited_for]
            self._may_go.sort(key=lambda each: -each[0])
            if not self._may_go:
                return None

    def _heaviest(self) -> Guest | None:
        """Of the client with the most unfinished bytes, the first begun of its large bodies."""
        weights: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for connection in self._gathering:
            weights[connection.peer] += connection.held + connection.ahead
            counts[connection.peer] += 1
        if not weights:
            return None
        peer, weight = weights.most_common(1)[0]
        least = weight / counts[peer]
        return next(c for c in self._gathering if c.peer == peer and c.held + c.ahead >= least)
