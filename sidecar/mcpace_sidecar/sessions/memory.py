"""Records in this process: what one replica knows, and each while Redis is down."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.sessions.record import ABANDONED, Found, Record, Records
from mcpace_sidecar.sessions.sealing import Owner

REMEMBERED: Final = 50_000
"""Records that are held at most, and as many ended ones."""


class MemoryRecords(Records):
    """Records in a dict. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kept: dict[bytes, tuple[Record, float, float]] = {}
        """Each with when it is forgotten, and when it was claimed."""
        self._ended: dict[bytes, float] = {}

    def write(self, key: bytes, record: Record) -> None:
        """Keep this, unless the session is another's by now."""
        found = self._find(key)
        later = found.record is not None and _is_later(found.record, record.owner, record.epoch)
        if not found.ended and not later:
            if found.record is not None and not record.initialize:
                record = record._replace(initialize=found.record.initialize)
            self._keep(key, record)

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
        elif record.epoch < seen[1] or (record.owner, record.epoch) == seen or self._is_abandoned(key):
            epoch = max(record.epoch, seen[1]) + 1
            record = record._replace(owner=mine.owner, epoch=epoch, inner=b"")
        else:
            done(found)
            return
        self._keep(key, record)
        done(Found(record))

    def renew(self, key: bytes, owner: Owner, epoch: int, done: Callable[[bool], Any]) -> None:
        """Keep it for longer."""
        found = self._find(key)
        if found.ended:
            done(False)
            return
        if found.record is not None:
            if (found.record.owner, found.record.epoch) != (owner, epoch):
                done(False)
                return
            self._keep(key, found.record)
        done(True)

    def end(self, key: bytes) -> None:
        """Nobody makes it again."""
        self._kept.pop(key, None)
        make_room(self._ended, REMEMBERED)
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
            del self._kept[key]
            kept = None
        return Found(kept[0] if kept is not None else None)

    def _keep(self, key: bytes, record: Record) -> None:
        now = self._clock()
        self._kept.pop(key, None)  # the oldest are those that were not heard of for the longest
        make_room(self._kept, REMEMBERED)
        self._kept[key] = record, now + self.idle_timeout, now

    def _is_abandoned(self, key: bytes) -> bool:
        record, _, claimed = self._kept[key]
        return not record.inner and self._clock() - claimed >= ABANDONED

    def __len__(self) -> int:
        return len(self._kept)


def _is_later(kept: Record, owner: Owner, epoch: int) -> bool:
    """Whether what is kept is of a later owner than this one."""
    return kept.epoch > epoch or (kept.epoch == epoch and kept.owner != owner)
