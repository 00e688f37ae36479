"""How many calls the server works on at once: slots, a bounded queue, and circuit breakers."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from mcpace_sidecar.contract.config.traffic import CircuitBreaker, Concurrency
from mcpace_sidecar.contract.quantity import seconds

SERVER: Final = ""
"""The name of the breaker that guards the whole server."""


class Queued(Protocol):
    """A call that waits for a slot."""

    deadline: float

    @property
    def ended(self) -> bool:
        """Whether it waits no more."""

    def seated(self, left: float) -> None:
        """A slot is free now, and taken for you; so many seconds are left."""

    def overdue(self) -> None:
        """No slot came free in time."""


class Bulkhead:
    """Slots for calls, and the line of those who wait for one."""

    def __init__(self, settings: Concurrency | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seats: set[Queued] = set()
        """Who holds a slot."""
        self._seating = False
        self.queue: deque[Queued] = deque()
        self.adopt(settings)

    def adopt(self, settings: Concurrency | None) -> None:
        """Use these bounds from the next call on; None: there are none."""
        self.max_in_flight = settings.max_in_flight if settings is not None else sys.maxsize
        self.max_queued = settings.max_queued if settings is not None else 0

    def enter(self, call: Queued) -> bool | None:
        """True: a slot is yours. False: you are in the line. None: the line is full."""
        if len(self.seats) < self.max_in_flight:
            self.seats.add(call)
            return True
        if len(self.queue) >= self.max_queued:
            return None
        self.queue.append(call)
        return False

    def withdraw(self, call: object) -> None:
        """It has left the line: its place is free."""
        self.queue = deque(queued for queued in self.queue if queued is not call)

    def leave(self, call: object) -> None:
        """Give a slot back; the first in the line takes it."""
        self.seats.discard(call)
        if not self.queue or self._seating:
            return  # whoever is seating others goes on
        self._seating = True
        try:
            self._seat()
        finally:
            self._seating = False

    def _seat(self) -> None:
        now = self._clock()
        while self.queue and len(self.seats) < self.max_in_flight:
            call = self.queue.popleft()
            if call.ended:
                continue
            if call.deadline < now:
                call.overdue()
            else:
                self.seats.add(call)
                call.seated(call.deadline - now)

    def __repr__(self) -> str:
        most = str(self.max_in_flight) if self.max_in_flight < sys.maxsize else "any"
        return f"<Bulkhead {len(self.seats)}/{most} slots, {len(self.queue)}/{self.max_queued} queued>"

    @property
    def in_flight(self) -> int:
        """How many slots are taken."""
        return len(self.seats)

    @property
    def full(self) -> bool:
        """Whether every slot is taken and the line is full."""
        return len(self.seats) >= self.max_in_flight and len(self.queue) >= self.max_queued

    def sweep(self, now: float) -> None:
        """Turn away those who have waited too long; about twice a second."""
        late = [call for call in self.queue if call.deadline < now]
        if late:
            self.queue = deque(call for call in self.queue if call.deadline >= now)
        for call in late:
            if not call.ended:
                call.overdue()


class Breaker:
    """Closed while calls succeed; open after failures in a row; then one trial decides."""

    __slots__ = ("failures", "open_until", "trying")

    def __init__(self) -> None:
        self.failures = 0
        self.open_until = 0.0
        self.trying = False


class Breakers:
    """One breaker for the server, and one for each tool that has failed lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rule: CircuitBreaker | None = None
        self._open_for = 0.0
        self.known: dict[str, Breaker] = {}

    def adopt(self, rule: CircuitBreaker | None) -> None:
        """Use this rule from now on; None: never open."""
        if rule != self._rule:
            self._rule = rule
            self._open_for = seconds(rule.open_for) if rule is not None else 0.0
            self.known.clear()

    def wait(self, tool: str) -> float:
        """Seconds until a call of this tool may be tried; 0: now. A trial must be `judged`."""
        if not self.known:
            return 0.0
        now = self._clock()
        waits = []
        trials = []
        for name in (SERVER, tool):
            breaker = self.known.get(name)
            if breaker is not None and breaker.open_until:
                if breaker.trying:
                    waits.append(1.0)
                elif breaker.open_until > now:
                    waits.append(breaker.open_until - now)
                else:
                    trials.append(breaker)
        if waits:
            return max(waits)
        for breaker in trials:
            breaker.trying = True
        return 0.0

    def judged(self, tool: str, failed: bool, *, server: bool) -> None:
        """A call of this tool has ended. `server`: the failure says something of the whole server."""
        if self._rule is None or (not failed and not self.known):
            return
        for name in (SERVER, tool):
            if not failed:
                self.known.pop(name, None)
            elif server or name != SERVER:
                breaker = self.known.setdefault(name, Breaker())
                breaker.failures += 1
                breaker.trying = False
                if breaker.failures >= self._rule.failures:
                    breaker.open_until = self._clock() + self._open_for
            elif name in self.known:
                self.known[name].trying = False

    def forgotten(self, tool: str) -> None:
        """A trial has ended without telling anything: its client left. The next call tries."""
        for name in (SERVER, tool):
            if name in self.known:
                self.known[name].trying = False

    def open(self) -> list[str]:
        """The names of those that are open now; the server's is empty."""
        now = self._clock()
        return [name for name, b in self.known.items() if b.open_until > now or b.trying]
