"""Results in this process: forgotten at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from mcpace_sidecar.bounded import SWEPT, Round
from mcpace_sidecar.cache.entry import ALL, Entry, Marks, Miss, Place
from mcpace_sidecar.cache.store import nothing
from mcpace_sidecar.http.compression import Stem, begin
from mcpace_sidecar.mcp.responses import RESULT

_CHANCES = 256
"""Second chances that are given for one new result."""
_AT_ONCE = 64 * 1024
"""Bytes too many for which one more entry is looked at without looking again whether there is room."""


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
        if ALL in tags:  # nothing can be found any more, so its memory is given back at once
            self._entries.clear()
            self.bytes = 0
            self.marks.let_all_go()
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

    def __repr__(self) -> str:
        return (
            f"<MemoryResults {len(self._entries)}/{self.max_entries} results,"
            f" {self.bytes}/{self.max_bytes} bytes>"
        )
