"""What is counted of tool calls, once: metrics and statistics both read it.

A call is counted in the slice of half a minute in which it ends. The last ten slices are what statistics
look back at, and a slice that is over is added to the totals since the start, which metrics show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from mcpace_sidecar.contract.histogram import BOUNDS, bucket
from mcpace_sidecar.telemetry.events import CacheUse, Status

WINDOW: Final = 300.0
"""Seconds looked back at."""
SLICES: Final = 10
_SLICE: Final = WINDOW / SLICES

# A list, because the compiled form would make a tuple anew at each use.
_CUTS: Final[list[float]] = [math.inf] * (bucket(BOUNDS[-1]) + 1)
"""Where a bucket is cut by one of the bounds."""
for _bound in BOUNDS:
    _CUTS[bucket(_bound)] = _bound


class Tally:
    """What was counted of one tool in some time."""

    __slots__ = ("_places", "cache", "hits", "received", "saved", "seconds", "sent", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.cache: dict[str, int] = {}
        """Calls that were looked up, by where the result was."""
        self._places: dict[int, int] = {}
        """Answered calls by their duration: twice the bucket's number, one more beyond the bound in it."""
        self.seconds = 0.0
        """Of the answered calls together."""
        self.hits = 0
        """Answered calls whose result was known."""
        self.saved = 0
        """Bytes of their answers."""
        self.received = 0
        self.sent = 0

    def count(self, status: Status, seconds: float, cache: CacheUse, received: int, sent: int) -> None:
        """Take an ended call; only answered calls have a duration."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.received += received
        self.sent += sent
        answered = status == "success" or status == "error"  # noqa: PLR1714 - because it is twice as fast as a tuple here
        if cache:
            self.cache[cache] = self.cache.get(cache, 0) + 1
            if answered and cache != "miss":
                self.hits += 1
                self.saved += sent
        if answered:
            self.seconds += seconds
            number = bucket(seconds)
            place = number * 2
            if number < len(_CUTS) and seconds > _CUTS[number]:
                place += 1
            self._places[place] = self._places.get(place, 0) + 1

    def add(self, other: Tally) -> None:
        """Take all that another has counted."""
        _add(self.statuses, other.statuses)
        _add(self.cache, other.cache)
        _add(self._places, other._places)
        self.seconds += other.seconds
        self.hits += other.hits
        self.saved += other.saved
        self.received += other.received
        self.sent += other.sent

    @property
    def histogram(self) -> dict[int, int]:
        """Answered calls by their duration, in the buckets of `contract.histogram`."""
        counts: dict[int, int] = {}
        for place, count in sorted(self._places.items()):
            counts[place // 2] = counts.get(place // 2, 0) + count
        return counts

    @property
    def within(self) -> list[int]:
        """How many answered calls took no longer than each of `BOUNDS`, and how many there were."""
        counts = [
            sum(count for place, count in self._places.items() if place <= 2 * bucket(bound))
            for bound in BOUNDS
        ]
        return [*counts, sum(self._places.values())]


class Tallies:
    """The tallies of all tools."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._number = int(self._began / _SLICE)
        self._current: dict[str, Tally] = {}
        self._slices = {self._number: self._current}
        self._over: dict[str, Tally] = {}
        """Of all slices that are over."""

    def count(
        self, tool: str, status: Status, seconds: float, cache: CacheUse = "", received: int = 0,
        sent: int = 0,
    ) -> None:  # fmt: skip
        """Take an ended call; `received`, `sent`: bytes of its body, and of its answer's."""
        tally = self._current.get(tool)
        if tally is None:
            tally = self._current[tool] = Tally()
        tally.count(status, seconds, cache, received, sent)

    def rotate(self) -> None:
        """Begin a new slice when its time has come; called about twice a second."""
        number = int(self._clock() / _SLICE)
        if number == self._number:
            return
        _add_all(self._over, self._current)
        self._number = number
        self._current = self._slices[number] = {}
        for old in [n for n in self._slices if n <= number - SLICES]:
            del self._slices[old]

    def totals(self) -> dict[str, Tally]:
        """What was counted of each tool since the start."""
        return _merged(self._over, self._current)

    def lately(self) -> tuple[dict[str, Tally], float]:
        """What was counted of each tool in the last five minutes, and in how many seconds of them."""
        now = self._clock()
        first = int(now / _SLICE) - SLICES + 1
        seconds = max(1.0, now - max(self._began, first * _SLICE))
        return _merged(*(tools for number, tools in self._slices.items() if number >= first)), seconds

    def slices(self) -> list[tuple[float, dict[str, Tally]]]:
        """The same slice by slice, the oldest first: in how many seconds what was counted."""
        now = self._clock()
        first = int(now / _SLICE) - SLICES + 1
        return [
            (max(0.0, min(now, (number + 1) * _SLICE) - max(self._began, number * _SLICE)), tools)
            for number, tools in self._slices.items()
            if number >= first
        ]

    def looked_up(self, tool: str) -> bool:
        """Whether some call of a tool was looked up in the cache."""
        return any(tool in tools and tools[tool].cache for tools in (self._over, self._current))


def _merged(*parts: dict[str, Tally]) -> dict[str, Tally]:
    merged: dict[str, Tally] = {}
    for tools in parts:
        _add_all(merged, tools)
    return merged


def _add_all(into: dict[str, Tally], tools: dict[str, Tally]) -> None:
    for tool, tally in tools.items():
        if tool not in into:
            into[tool] = Tally()
        into[tool].add(tally)


_Key = TypeVar("_Key", str, int)


def _add(into: dict[_Key, int], counts: Mapping[_Key, int]) -> None:
    for key, count in counts.items():
        into[key] = into.get(key, 0) + count
