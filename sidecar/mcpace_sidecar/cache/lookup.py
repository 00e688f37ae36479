"""One call's way through the cache: memory, an identical call in flight, Redis, another replica's call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

from mcpace_sidecar.cache import policy
from mcpace_sidecar.cache.entry import Entry, Miss, Place
from mcpace_sidecar.cache.flight import Flights
from mcpace_sidecar.cache.store import ResultStore
from mcpace_sidecar.telemetry.events import CacheUse, Status
from mcpace_sidecar.telemetry.faults import Site

_FIRST_LOOK: Final = 0.01
_LAST_LOOK: Final = 0.1
"""Seconds between two looks for the result that another replica is fetching: at first, at last."""


class Asker(Protocol):
    """The call whose result is looked for."""

    started: float
    """When it began, in seconds of the monotonic clock."""

    @property
    def patience(self) -> float:
        """Seconds that it may take in all."""

    def found(self, entry: Entry | None, where: CacheUse) -> None:
        """Answer with this result; None: a refresh has nothing to do."""

    def missed(self) -> None:
        """Ask the server."""

    def renew(self) -> None:
        """Let the server be asked for the same, though this call is answered with what was kept."""

    def broke(self, site: Site, error: Exception) -> None:
        """End: something went wrong that nobody expected."""


class Lookup:
    """Looks for the result of one call, and keeps it when the server has given it."""

    # Defaults of the class, not set for each instance: most of them stay so.
    fallback: Entry | None = None
    """A result that may stand in for a server that fails."""
    _marks: Sequence[tuple[bytes, ...]] = ()
    _leading = False
    _kept: Place | None = None
    """Where its own result was kept."""
    _alone = False
    _pause = _FIRST_LOOK
    _following = False
    _resting: asyncio.TimerHandle | None = None

    def __init__(
        self, asker: Asker, results: ResultStore, flights: Flights, rule: policy.CacheRule,
        places: tuple[Place, ...], *, refreshing: bool,
    ) -> None:  # fmt: skip
        self._asker = asker
        self._results = results
        self._flights = flights
        self._rule = rule
        self._places = places
        self._refreshing = refreshing
        self.ended = False

    def start(self) -> None:
        """Look; the call is told `found` or `missed`, now or later."""
        for place in self._places:
            entry = self._results.near(place.key)
            if entry is not None and self._use(entry, "memory"):
                return
        if self._flights.join(self._places[-1].key, self):
            self._following = True
            return
        self._leading = True
        self._look_far()

    def landed(self, entry: Entry | None) -> None:
        """The identical call that this one waited for has its result, or none for us."""
        try:
            self._landed(entry)
        except Exception as error:  # noqa: BLE001 - because whatever it is, the others land too
            self._asker.broke("flight", error)

    def _landed(self, entry: Entry | None) -> None:
        self._following = False
        if entry is not None or self._refreshing:
            self._asker.found(entry, "joined")
        else:
            self._alone = True
            self._asker.missed()

    def abandoned(self) -> None:
        """The identical call leads no more: look again, and lead or follow anew."""
        self._following = False
        try:
            self.start()
        except Exception as error:  # noqa: BLE001 - because of the same
            self._asker.broke("flight", error)

    def keep(self, result: bytes, ttl: float, *, shareable: bool) -> None:
        """Keep the server's result for so many seconds, if it may be kept at all."""
        if ttl <= 0 or not self._marks or self._alone:
            return
        # Of what says itself who may have it, both places were looked at; only one is its own.
        index = 0 if shareable else len(self._places) - 1
        place = self._places[index]
        if shareable or place.private:
            self._results.keep(place, self._marks[index], result, ttl, self._rule.stale)
            self._kept = place

    def end(self, status: Status) -> None:
        """The call has ended: those who wait for it are told its result, or to look again.

        Where the server did not answer, a result that may stand in for it stands in for all of them.
        """
        self.ended = True
        self.cancel()
        results, flights = self._results, self._flights
        key = self._places[-1].key
        if self._following:
            self._following = False
            flights.leave(key, self)
        if status == "cancelled":
            self.step_down()
        if not self._leading:
            return
        self._leading = False
        entry = None
        try:
            if self._kept is not None:
                entry = results.near(self._kept.key)
            elif status in ("failed", "shed"):
                entry = self.fallback
        finally:
            flights.land(key, entry)
            results.release(self._places)

    def step_down(self) -> None:
        """Lead no more: those who wait look again, and one of them leads."""
        if not self._leading:
            return
        self._leading = False
        try:
            self._results.release(self._places)
        finally:
            self._flights.abandon(self._places[-1].key)

    @property
    def is_awaited(self) -> bool:
        """Whether other calls wait for its result."""
        return self._leading and self._flights.awaited(self._places[-1].key)

    def leads_on(self) -> bool:
        """Whether a call in flight or a timer will lead its call on. What stores are asked comes soon."""
        return self._resting is not None or (self._following and self._places[-1].key in self._flights)

    def cancel(self) -> None:
        """Look no further; `end` says what becomes of it."""
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.cancel()

    def pause(self, paused: bool) -> None:
        """Nothing is read."""

    def __repr__(self) -> str:
        if self._following:
            at = "follows an identical call"
        elif self._resting is not None:
            at = "waits for another replica's call"
        else:
            at = "leads" if self._leading else "looks"
        return f"<Lookup {at}>"

    def _use(self, entry: Entry, where: CacheUse) -> bool:
        """Answer with a kept result, if it is fresh or may be answered while a new one is fetched."""
        now = time.monotonic()
        if entry.fresh_until > now:
            self._asker.found(entry, where)
            return True
        if self._refreshing:
            return False
        if entry.fresh_until + self._rule.while_revalidate > now:
            self._asker.found(entry, "stale")
            if self._places[-1].key not in self._flights:  # else somebody is fetching it already
                self._asker.renew()
            return True
        if entry.fresh_until + self._rule.if_error > now:
            self.fallback = entry
        return False

    def _look_far(self) -> None:
        if not self.ended:
            life = self._rule.ttl + self._rule.stale
            self._results.far(self._places, life, self._looked_far)

    def _look_again(self) -> None:
        self._resting = None
        try:
            self._look_far()
        except Exception as error:  # noqa: BLE001 - because of the same
            self._asker.broke("look_up", error)

    def _looked_far(self, found: Entry | Miss) -> None:
        try:
            self._take(found)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._asker.broke("look_up", error)

    def _take(self, found: Entry | Miss) -> None:
        if isinstance(found, Miss) and found.leading and not self._leading:
            self._results.release(self._places)  # it has stepped down, or ended, meanwhile
        if self.ended:
            return
        if isinstance(found, Entry):
            self._asker.found(found, "redis")
            return
        if found.stale is not None and self._use(found.stale, "redis"):
            return
        self._marks = found.marks
        if self._refreshing and not found.leading:
            self._asker.found(None, "joined")
            return
        waited = time.monotonic() - self._asker.started
        if found.leading or waited > self._asker.patience:
            self._asker.missed()
            return
        # Another replica is asking the server now: its result is worth waiting for.
        self._resting = asyncio.get_running_loop().call_later(self._pause, self._look_again)
        self._pause = min(self._pause * 2, _LAST_LOOK)
