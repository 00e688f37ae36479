"""The stores of one process: exact alone, forgotten at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, time

from mcpace_sidecar.cache.entry import Entry, Marks, Miss, Place
from mcpace_sidecar.limits.bucket import DAY, MINUTE, Charges, Level, Verdict, refusal, share
from mcpace_sidecar.remembered import make_room
from mcpace_sidecar.store import nothing

_ACCOUNTS = 10_000
"""Kinds of calls whose levels are held ready; the others' are found by their keys."""
LEVELS = 100_000
"""Buckets and quotas that are held at most."""
_OVERHEAD = 400
"""Bytes that an entry costs beside its result: key, tags, objects, dict slot."""


class MemoryLimits:
    """Levels in a dict. `clock` gives seconds since the epoch; `replicas` share every limit."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self.replicas = 1
        self._clock = clock
        self._levels: dict[str, Level] = {}
        self._accounts: dict[Charges, list[Level]] = {}

    def take(self, charges: Charges, done: Callable[[Verdict], None] | None = None) -> Verdict:
        """Take all charges or none."""
        del done  # known at once
        now = self._clock()
        levels = self._accounts.get(charges)
        if levels is None:
            make_room(self._accounts, _ACCOUNTS)
            self._make_room(len(charges.items), now)
            levels = self._accounts[charges] = self._find(charges, now)
        alone = self.replicas == 1
        fits = True
        for index, charge in enumerate(charges.items):
            level = levels[index]
            level.advance(charge, charge.capacity if alone else share(charge, self.replicas), now)
            if level.left < charge.amount:
                fits = False
        if not fits:
            return refusal(levels, charges)
        left = []
        for index, charge in enumerate(charges.items):
            level = levels[index]
            level.left -= charge.amount
            left.append(level.left)
        return Verdict(True, left, now)

    def give(self, charges: Charges, since: float = 0.0) -> None:
        """Give back what one call took; a bucket holds no more than it can."""
        del since  # it was taken here
        for charge in charges.items:
            level = self._levels.get(charge.key)
            if level is not None:
                level.left = min(float(level.capacity), level.left + charge.amount)

    def _find(self, charges: Charges, now: float) -> list[Level]:
        levels = []
        for charge in charges.items:
            level = self._levels.get(charge.key)
            if level is None:
                level = self._levels[charge.key] = Level(share(charge, self.replicas), now)
            levels.append(level)
        return levels

    def _make_room(self, more: int, now: float) -> None:
        """Forget what is full again; where that is not enough, the sixteenth of which least was used.

        So whoever comes with ever new names takes nothing from those who are near their limit.
        """
        if len(self._levels) + more <= LEVELS:
            return
        self.sweep()
        if len(self._levels) + more <= LEVELS:
            return
        by_use = sorted(self._levels, key=lambda key: _used(key, self._levels[key], now))
        for key in by_use[: LEVELS // 16 + more]:
            del self._levels[key]

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
        self._accounts.clear()  # whoever calls again finds its levels again

    def __len__(self) -> int:
        return len(self._levels)


def _used(key: str, level: Level, now: float) -> float:
    """The part of a bucket or quota that is used now."""
    if key.startswith("day:"):
        return 1 - level.left / level.capacity if now < level.midnight else 0.0
    return 1 - level.left / level.capacity - (now - level.at) / MINUTE


class MemoryResults:
    """Results bounded by bytes and entries; of the oldest, the first not used since is forgotten."""

    def __init__(
        self, max_bytes: int, max_entries: int = 100_000, clock: Callable[[], float] = monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.bytes = 0
        self.marks = Marks(self._tags)
        self._clock = clock
        self._entries: dict[bytes, Entry] = {}  # in the order of their age

    def near(self, key: bytes) -> Entry | None:
        """A result at hand, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock() or not self.marks.holds(entry):
            del self._entries[key]
            self.bytes -= len(entry.result) + _OVERHEAD
            return None
        entry.used = True
        return entry

    def far(self, places: Sequence[Place], life: float, done: Callable[[Entry | Miss], None]) -> None:
        """Nothing is kept elsewhere."""
        del life
        done(Miss([self.marks.of(place.tags) for place in places], leading=True))

    def keep(self, place: Place, marks: tuple[bytes, ...], result: bytes, ttl: float, stale: float) -> None:
        """Keep a result, unless it alone is too large."""
        now = self._clock()
        self.put(Entry(place, result, marks, now + ttl, now + ttl + stale))

    def put(self, entry: Entry) -> None:
        """Keep an entry."""
        key = entry.place.key
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= len(old.result) + _OVERHEAD
        size = len(entry.result) + _OVERHEAD
        if size > self.max_bytes:
            return
        self._make_room(self.max_bytes - size, self.max_entries - 1)
        self._entries[key] = entry
        self.bytes += size

    def release(self, places: Sequence[Place]) -> None:
        """Nobody waits elsewhere."""

    def purge(self, tags: Sequence[bytes], done: Callable[[], None] = nothing) -> None:
        """Make everything with one of these tags old."""
        for tag in tags:
            self.marks.drop(tag)
        done()

    def resize(self, max_bytes: int, max_entries: int) -> None:
        """Change the bounds, and forget what is over them."""
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self._make_room(max_bytes, max_entries)

    def _make_room(self, max_bytes: int, max_entries: int) -> None:
        """Forget down to these bounds, and a sixteenth more so that it is seldom done."""
        if self.bytes <= max_bytes and len(self._entries) <= max_entries:
            return
        more = len(self._entries) // 16
        for _ in (1, 2):  # whoever was used since has a second chance (the CLOCK algorithm)
            for key, entry in list(self._entries.items()):
                if self.bytes <= max_bytes and len(self._entries) <= max_entries:
                    more -= 1
                    if more < 0:
                        return
                del self._entries[key]
                if entry.used:
                    entry.used = False
                    self._entries[key] = entry
                else:
                    self.bytes -= len(entry.result) + _OVERHEAD

    def _tags(self) -> set[bytes]:
        return {tag for entry in self._entries.values() for tag in entry.place.tags}

    def sweep(self) -> None:
        """Forget what has outlived its time; about once a minute."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.until <= now]:
            self.bytes -= len(self._entries.pop(key).result) + _OVERHEAD

    def __len__(self) -> int:
        return len(self._entries)
