"""Records that all replicas share, in the Redis of the limits: nothing is evicted there.

While it is down, this replica's own memory says what there is; what it cannot know, the sealed ids do.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec

from mcpace_sidecar.contract.scripts import CLAIM, RECORD
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.redis.wire import unread
from mcpace_sidecar.sessions.memory import MemoryRecords
from mcpace_sidecar.sessions.record import ABANDONED, FIELDS, Found, Record, Records
from mcpace_sidecar.sessions.sealing import Owner

MOST: Final = 8 * 1024 * 1024
"""Bytes that one sidecar records of new sessions in the time for which a record is kept: nothing counts who
begins sessions, and the store is others' too. The sealed ids carry those beyond."""


_TOMBSTONE: Final = 160
"""Bytes that say that a session has ended."""


class RedisRecords(Records):
    """Records in Redis, a hash each."""

    def __init__(self, link: Link, clock: Callable[[], float] = monotonic, most: int = MOST) -> None:
        super().__init__()
        self._most = most
        self.link = link
        self.local = MemoryRecords(clock)
        self._clock = clock
        self._since = 0.0
        self._granted = 0
        """Bytes that sessions were given since then."""

    def write(
        self, key: bytes, record: Record, done: Callable[[bool | None], Any], granted: int = 0
    ) -> int:
        """Keep this, unless the session is another's by now."""
        if record.initialize or not self.link.up:  # the table, or its id, says what else there is
            self._follow()
            self.local.write(key, record, unread)
        size = max(record.size, granted)
        if not self.link.up:
            done(None)
            return granted
        if not record.epoch and not self._grants(size - granted):
            done(True)
            return granted
        fields = [part for pair in record.fields().items() for part in pair]
        self.link.run(
            lambda answer: done(answer != 0 if isinstance(answer, int) else None), RECORD, [self._key(key)],
            str(record.owner).encode(), b"%d" % record.epoch, b"%d" % self.idle_timeout, *fields,
        )  # fmt: skip
        return size

    def read(self, key: bytes, done: Callable[[Found], Any]) -> None:
        """Tell `done` what is kept."""
        if not self.link.up:
            self.local.read(key, done)
            return

        def told(answer: Any) -> None:
            if isinstance(answer, list) and len(answer) == 1 + len(FIELDS):
                done(_found(bool(answer[0]), answer[1:]))
            else:
                done(Found(None, asked=False))

        self.link.send(told, b"HMGET", self._key(key), b"ended", *FIELDS)

    def claim(
        self, key: bytes, seen: tuple[Owner, int], mine: Record, done: Callable[[Found], Any]
    ) -> None:
        """Take a session over from the owner and epoch that were seen."""
        self._follow()

        def told(answer: Any) -> None:
            if not isinstance(answer, list) or not answer:
                self.local.claim(key, seen, mine, done)
                return
            found = _found(answer[0] == 1, answer[1:])
            if found.record is not None:
                self.local.write(key, found.record, unread)
            done(found)

        values = mine._replace(inner=b"").fields()
        self.link.run(
            told, CLAIM, [self._key(key)], str(seen[0]).encode(), b"%d" % seen[1],
            b"%d" % self.idle_timeout, b"%d" % ABANDONED, b"%d" % len(FIELDS),
            *FIELDS, *(values.get(name, b"") for name in FIELDS),
        )  # fmt: skip

    def end(self, key: bytes) -> None:
        """Nobody makes it again."""
        self._follow()
        self.local.end(key)
        if self._grants(_TOMBSTONE):
            self.link.send(unread, b"DEL", self._key(key))
            self.link.send(unread, b"HSET", self._key(key), b"ended", b"1")
            self.link.send(unread, b"EXPIRE", self._key(key), b"%d" % self.max_age)

    def _grants(self, size: int) -> bool:
        now = self._clock()
        if now > self._since + self.idle_timeout:
            self._since, self._granted = now, 0
        if self._granted + size > self._most:
            return False
        self._granted += size
        return True

    def _follow(self) -> None:
        self.local.idle_timeout, self.local.max_age = self.idle_timeout, self.max_age

    def _key(self, key: bytes) -> bytes:
        return self.link.prefix + b"session:" + key


def _found(ended: bool, values: list[Any]) -> Found:
    """What Redis has said; what is no record is none."""
    if ended or len(values) != len(FIELDS) or not values[0]:
        return Found(None, ended=ended)
    try:
        return Found(Record.of(dict(zip(FIELDS, (value or b"" for value in values), strict=True))))
    except (ValueError, msgspec.DecodeError):
        return Found(None)
