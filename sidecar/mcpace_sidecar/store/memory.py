"""The stores of one process: exact alone, forgotten at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, time

from mcpace_sidecar.cache.entry import Entry, Marks, Miss, Place
from mcpace_sidecar.compression import Stem, begin
from mcpace_sidecar.limits.bucket import DAY, MINUTE, Charges, Level, Verdict, refusal, share
from mcpace_sidecar.messages import RESULT
from mcpace_sidecar.remembered import Round, make_room
from mcpace_sidecar.store import nothing

_ACCOUNTS = 10_000
"""Kinds of calls whose levels are held ready; the others' are found by their keys."""
LEVELS = 100_000
"""Buckets and quotas that are held at most."""
_LOOKED_AT = 256
"""Levels of which the least used are forgotten where there is no room."""
_FORGOTTEN = 32
_CHANCES = 256
"""Second chances that are given for one new result."""
_AT_ONCE = 64 * 1024
"""Bytes too many for which one more entry is looked at without looking again whether there is room."""
SWEPT = 1000
"""Entries of a table that are looked at in one sweep."""


class MemoryLimits:
    """Levels in a dict. `clock` gives seconds since the epoch; `replicas` share every limit."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self.replicas = 1
        self._clock = clock
        self._levels: dict[str, Level] = {}
        self._accounts: dict[Charges, list[Level]] = {}
        self._round = Round(self._levels)

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
        """Of the next levels of the round, forget what is full again and some of which least was used.

        So whoever comes with ever new names takes nothing from those who are near their limit.
        """
        while len(self._levels) + more > LEVELS:
            by_use = sorted(
                (_used(key, self._levels[key], now), key) for key in self._round.some(_LOOKED_AT)
            )
            self._forget([key for at, (used, key) in enumerate(by_use) if used <= 0 or at < _FORGOTTEN])

    def sweep(self) -> None:
        """Forget full buckets and the quotas of days past, of the next levels of the round."""
        now = self._clock()
        stale = []
        for key in self._round.some(SWEPT):
            at = self._levels[key].at
            if at // DAY != now // DAY if key.startswith("day:") else now - at > MINUTE:
                stale.append(key)
        if stale:
            self._forget(stale)

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
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
        self.marks = Marks()
        self._clock = clock
        self._entries: dict[bytes, Entry] = {}
        self._hand = Round(self._entries)
        self._swept = Round(self._entries)

    def near(self, key: bytes) -> Entry | None:
        """A result at hand, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock() or not self.marks.holds(entry):
            self._forget(key)
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
        if key in self._entries:
            self._forget(key)
        if entry.size > self.max_bytes:
            return
        self._make_room(self.max_bytes - entry.size, self.max_entries - 1)
        self._entries[key] = entry
        self.bytes += entry.size
        self.marks.carry(entry.place.tags)

    def compressed(self, entry: Entry, coding: bytes) -> Stem | None:
        """The response with a kept result, compressed once but for its end; None: it is not worth it."""
        known = entry.compressed
        if known is not None and coding in known:
            return known[coding]
        stem = begin(coding, RESULT + entry.result)
        size = len(stem.body) if stem is not None else 0
        # Whatever is not kept here is not counted here.
        if self._entries.get(entry.place.key) is entry and entry.size + size <= self.max_bytes:
            if known is None:
                known = entry.compressed = {}
            known[coding] = stem
            entry.size += size
            self.bytes += size
            self._make_room(self.max_bytes, self.max_entries)
        return stem

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
        """Forget down to these bounds; whoever was used since has a second chance (the CLOCK algorithm)."""
        chances = _CHANCES
        while self.bytes > max_bytes or len(self._entries) > max_entries:
            for key in self._hand.some(1 + max(0, self.bytes - max_bytes) // _AT_ONCE):
                if self.bytes <= max_bytes and len(self._entries) <= max_entries:
                    break
                entry = self._entries[key]
                if entry.used and chances:
                    entry.used = False
                    chances -= 1
                else:
                    self._forget(key)

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.bytes -= entry.size
        self.marks.let_go(entry.place.tags)

    def sweep(self) -> None:
        """Forget what has outlived its time, of the next entries of a round."""
        now = self._clock()
        for key in self._swept.some(SWEPT):
            if self._entries[key].until <= now:
                self._forget(key)

    def __len__(self) -> int:
        return len(self._entries)
