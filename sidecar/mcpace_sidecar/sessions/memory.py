"""Records in this process: what one replica knows, and each while Redis is down."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Any, Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.sessions.record import ABANDONED, Found, Record, Records
from mcpace_sidecar.sessions.sealing import Owner

MOST: Final = 8 * 1024 * 1024
"""Bytes of records that are held."""
_TOMBSTONES: Final = 50_000


class MemoryRecords(Records):
    """Records in a dict. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kept: dict[bytes, tuple[Record, float, float]] = {}
        """Each with when it is forgotten, and when it was claimed."""
        self._bytes = 0
        self._ended: dict[bytes, float] = {}

    def write(
        self, key: bytes, record: Record, done: Callable[[bool | None], Any], granted: int = 0
    ) -> int:
        """Keep this, unless the session is another's by now."""
        found = self._find(key)
        ours = not found.ended and not (found.record is not None and _is_later(found.record, record))
        if ours:
            if found.record is not None and not record.initialize:
                record = record._replace(initialize=found.record.initialize)
            if record.epoch or record.level or record.subscriptions or record.initialize:
                self._keep(key, record)
            else:
                self._drop(key)  # its id says as much
        done(ours)
        return max(record.size, granted)

    def read(self, key: bytes, done: Callable[[Found], Any]) -> None:
        """Tell `done` what is kept."""
        done(self._find(key))

    def claim(
        self, key: bytes, seen: tuple[Owner, int], mine: Record, done: Callable[[Found], Any]
    ) -> None:
        """Take a session over from the owner and epoch that were seen."""
        found = self._find(key)
        record = found.record
        if found.ended:
            done(found)
            return
        if record is None:
            record = mine._replace(epoch=seen[1] + 1, inner=b"")
        elif _was_seen(record, seen) or self._is_abandoned(key):
            epoch = max(record.epoch, seen[1]) + 1
            record = record._replace(owner=mine.owner, epoch=epoch, inner=b"")
        else:
            done(found)
            return
        self._keep(key, record)
        done(Found(record, asked=False))

    def end(self, key: bytes) -> None:
        """Nobody makes it again."""
        self._drop(key)
        make_room(self._ended, _TOMBSTONES)
        self._ended[key] = self._clock() + self.max_age

    def _find(self, key: bytes) -> Found:
        now = self._clock()
        until = self._ended.get(key)
        if until is not None:
            if until > now:
                return Found(None, ended=True)
            del self._ended[key]
        kept = self._kept.get(key)
        if kept is not None and kept[1] <= now:
            self._drop(key)
            kept = None
        return Found(kept[0] if kept is not None else None, asked=False)

    def _keep(self, key: bytes, record: Record) -> None:
        now = self._clock()
        self._drop(key)  # the oldest are those that were not heard of for the longest
        self._bytes += record.size
        if self._bytes > MOST:
            for old in list(islice(self._kept, max(1, len(self._kept) // 16))):
                self._drop(old)
        self._kept[key] = record, now + self.idle_timeout, now

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept[0].size

    def _is_abandoned(self, key: bytes) -> bool:
        record, _, claimed = self._kept[key]
        return not record.inner and self._clock() - claimed >= ABANDONED

    def __len__(self) -> int:
        return len(self._kept)


def _is_later(kept: Record, record: Record) -> bool:
    """Whether what is kept is of a later owner; who was started anew at the same place is no other."""
    same_place = kept.owner.place == record.owner.place
    return kept.epoch > record.epoch or (kept.epoch == record.epoch and not same_place)


def _was_seen(kept: Record, seen: tuple[Owner, int]) -> bool:
    """Whether who claims has seen this owner's loss, or a later one's."""
    owner, epoch = seen
    return kept.epoch < epoch or (kept.epoch == epoch and kept.owner.place == owner.place)
