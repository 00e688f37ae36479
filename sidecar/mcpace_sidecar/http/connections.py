"""A port's client connections together: how many, what they hold, and who goes when it is too much.

What is waited for goes before what is worked on: an idle connection before a call, an unfinished body
before a finished one, and of those who do not read their answers the one that has not for the longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mcpace_sidecar.http.server import Application, ClientConnection

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks for connections that may go."""


class Connections:
    """The connections of one port, or of several that share their bounds."""

    def __init__(
        self, on_shed: Callable[[str], None], most: int = 0, body_bytes: int = 0, answer_bytes: int = 0
    ) -> None:
        """`on_shed` takes why one was closed or refused: connections, bodies, answers, slow."""
        self.on_shed = on_shed
        self.open: set[ClientConnection] = set()
        self.held = 0
        """Bytes of the requests that are unfinished, or large and being answered."""
        self.owed = 0
        """Bytes of answers that clients have not read yet."""
        self._gathering: dict[ClientConnection, None] = {}  # unfinished requests, as they began
        self._slow: dict[ClientConnection, None] = {}  # who does not read, as they stopped
        self._may_go: list[tuple[float, ClientConnection]] = []  # since when; the longest waited for last
        self._looked = 0.0
        self._entered = 0
        self.bound(most, body_bytes, answer_bytes)

    def bound(self, most: int, body_bytes: int, answer_bytes: int) -> None:
        """Allow so many connections, and so many bytes together, from now on."""
        self._most, self.body_bytes, self._answer_bytes = most, body_bytes, answer_bytes

    def longest(self, wanted: int) -> int:
        """The bytes that one body may have, of so many wanted: no more than there may be together."""
        return min(wanted, self.body_bytes)

    def enter(self, connection: ClientConnection) -> bool:
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

    def leave(self, connection: ClientConnection) -> None:
        """A connection is lost; what it held has been released."""
        self.open.discard(connection)

    def of(self, app: Application) -> list[ClientConnection]:
        """Those that this application answers."""
        return [connection for connection in self.open if connection.app is app]

    # -- bodies

    def gathers(self, connection: ClientConnection) -> None:
        """A body begins to arrive."""
        self._gathering[connection] = None

    def gathered(self, connection: ClientConnection) -> None:
        """It has arrived, or will not."""
        self._gathering.pop(connection, None)

    def hold(self, connection: ClientConnection, size: int) -> bool:
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

    def owe(self, connection: ClientConnection, size: int) -> None:
        """So many bytes more (or fewer) wait for a client that does not read."""
        self._slow[connection] = None
        self.owed += size
        while self.owed > self._answer_bytes and self._slow:
            other = next(iter(self._slow))
            self.on_shed("answers")
            other.shed()

    def paid(self, connection: ClientConnection, size: int) -> None:
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

    def _longest_waited_for(self) -> ClientConnection | None:
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

    def _heaviest(self) -> ClientConnection | None:
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
