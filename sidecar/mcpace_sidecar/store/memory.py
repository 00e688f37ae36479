"""The stores of one process: exact alone, forgotten at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mcpace_sidecar.limits.bucket import ALLOWED, DAY, MINUTE, Charge, Level, Verdict, refusal

_OVERHEAD = 200
"""Bytes that an entry costs beside its result: key, tuple, dict slot."""


class MemoryLimits:
    """Levels in a dict. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._levels: dict[str, Level] = {}

    def take(self, charges: Sequence[Charge]) -> Verdict:
        """Take all charges or none."""
        now = self._clock()
        known = self._levels
        levels = []
        fits = True
        for charge in charges:
            level = known.get(charge.key)
            if level is None:
                level = known[charge.key] = Level(charge.capacity, now)
            else:
                level.advance(charge, now)
            levels.append(level)
            if level.left < charge.amount:
                fits = False
        if not fits:
            return refusal(levels, charges)
        for index, charge in enumerate(charges):
            levels[index].left -= charge.amount
        return ALLOWED

    def sweep(self) -> None:
        """Forget full buckets and the quotas of days past; about once a minute."""
        now = self._clock()
        stale = [
            key
            for key, level in self._levels.items()
            if (level.at // DAY != now // DAY if key.startswith("day:") else now - level.at > MINUTE)
        ]
        for key in stale:
            del self._levels[key]

    def __len__(self) -> int:
        return len(self._levels)


class MemoryResults:
    """Results bounded by bytes, the least recently used forgotten first."""

    shared = False

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._clock = clock
        self._entries: dict[bytes, tuple[float, bytes]] = {}  # the dict's order is that of use

    def near(self, key: bytes) -> bytes | None:
        """A result at hand, or None."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self.bytes -= len(entry[1]) + _OVERHEAD
            return None
        self._entries[key] = entry
        return entry[1]

    async def far(self, key: bytes) -> bytes | None:
        """Nothing is kept elsewhere."""
        del key
        return None

    def keep(self, key: bytes, result: bytes, ttl: float) -> None:
        """Keep a result for `ttl` seconds, unless it alone is too large."""
        size = len(result) + _OVERHEAD
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= len(old[1]) + _OVERHEAD
        if size > self.max_bytes:
            return
        self._entries[key] = (self._clock() + ttl, result)
        self.bytes += size
        self.resize(self.max_bytes)

    def resize(self, max_bytes: int) -> None:
        """Change the bound, and forget what is over it."""
        self.max_bytes = max_bytes
        while self.bytes > max_bytes:
            oldest = next(iter(self._entries))
            self.bytes -= len(self._entries.pop(oldest)[1]) + _OVERHEAD

    def __len__(self) -> int:
        return len(self._entries)
