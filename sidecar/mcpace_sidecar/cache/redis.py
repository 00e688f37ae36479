"""Results that all replicas share: in this replica's memory first, then in Redis.

A result in Redis is one string: a line with its marks and how long of its life it is stale,
then the result. Its marks are strings of their own, read together with it; dropping a mark
deletes its string and tells every replica. A short lease says which replica asks the server
for what is missing, so that the others wait for its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from mcpace_sidecar.cache.entry import Entry, Miss, Place, new_mark
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.store import nothing
from mcpace_sidecar.contract.addresses import heed_cancellation
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.http.compression import Stem
from mcpace_sidecar.redis.link import RECONNECT_INTERVAL, Link
from mcpace_sidecar.redis.wire import unread

log = logging.getLogger(__name__)

LEAD_LIFE: Final = 2.0
"""Seconds after which a leader that says nothing more has lost its lead."""
_MARK_LIFE: Final = 86_400.0
_MAX_RESULT: Final = 9 * 1024 * 1024
"""Bytes: room for the pages of the largest result that is cut into any."""


class _Seen:
    """What one look into Redis has shown."""

    __slots__ = ("fresh", "marks", "stale")

    def __init__(self, marks: dict[bytes, bytes | None]) -> None:
        self.marks = marks
        self.fresh: Entry | None = None
        self.stale: Entry | None = None


class RedisResults:
    """Results in memory and in Redis; in memory alone while Redis is down."""

    def __init__(self, link: Link, memory: MemoryResults) -> None:
        self.link = link
        self.memory = memory
        self._leading: dict[bytes, bytes] = {}  # key -> the word that shows the lead is ours
        self._purges = link.prefix + b"purges"
        link.on_up = memory.marks.forget  # others may have purged meanwhile

    def __repr__(self) -> str:
        return f"<RedisResults {len(self._leading)} led for all replicas, before {self.memory!r}>"

    def near(self, key: bytes) -> Entry | None:
        """A result in this replica's memory."""
        return self.memory.near(key)

    def far(self, places: Sequence[Place], life: float, done: Callable[[Entry | Miss], None]) -> None:
        """Look in Redis; of a miss, make the marks and take the lead where nobody has it."""
        if not self.link.up:
            self.memory.far(places, life, done)
            return

        def looked(seen: _Seen | None) -> None:
            if seen is None:
                self.memory.far(places, life, done)
            elif seen.fresh is not None:
                done(seen.fresh)
            else:
                self._lead(places, seen, life, done)

        self._look(places, looked)

    def _look(self, places: Sequence[Place], done: Callable[[_Seen | None], None]) -> None:
        """Read results and marks; None: Redis did not answer."""
        keys = [self._key(place) for place in places]
        tags = list(dict.fromkeys(tag for place in places for tag in place.tags))
        answers: list[Any] = []

        def answered(answer: Any) -> None:
            answers.append(answer)
            if len(answers) < 1 + len(keys):
                return
            values, *left = answers
            if not _are_values(values, len(keys) + len(tags)) or not all(isinstance(a, int) for a in left):
                done(None)
                return
            seen = _Seen(dict(zip(tags, values[len(keys) :], strict=True)))
            for tag, mark in seen.marks.items():
                if mark is not None:
                    self.memory.marks.learn(tag, mark)
            for place, value, life in zip(places, values, left, strict=False):
                entry = _read(place, value, life, seen.marks)
                if entry is not None and seen.fresh is None:
                    self.memory.put(entry)
                    if entry.fresh_until > time.monotonic():
                        seen.fresh = entry
                    else:
                        seen.stale = entry
            done(seen)

        self.link.send(answered, b"MGET", *keys, *(self._mark(tag) for tag in tags))
        for key in keys:
            self.link.send(answered, b"PTTL", key)

    def _lead(
        self, places: Sequence[Place], seen: _Seen, life: float, done: Callable[[Entry | Miss], None]
    ) -> None:
        lead, word = self._lead_key(places), new_mark()
        answers: list[Any] = []

        def looked(again: _Seen | None) -> None:
            if again is None or isinstance(answers[0], StoreError):
                self.memory.far(places, life, done)
                return
            leading = answers[0] is not None
            if leading:
                self._leading[lead] = word
            if again.fresh is not None:
                # The leader before us kept it between our look and our lead.
                self.release(places)
                done(again.fresh)
                return
            marks = [tuple(again.marks[tag] or b"" for tag in place.tags) for place in places]
            done(Miss(marks, leading=leading, stale=again.stale))

        self.link.send(answers.append, b"SET", lead, word, b"NX", b"PX", b"%d" % int(LEAD_LIFE * 1000))
        lasting = b"%d" % int(max(_MARK_LIFE, 2 * life) * 1000)
        for tag, mark in seen.marks.items():
            if mark is None:
                # The mark stays until everything that carries it has ended.
                self.link.send(unread, b"SET", self._mark(tag), new_mark(), b"NX", b"PX", lasting)
        self._look(places, looked)

    def keep(self, place: Place, marks: tuple[bytes, ...], result: bytes, ttl: float, stale: float) -> None:
        """Keep a result here, and in Redis without waiting for it."""
        self.memory.keep(place, marks, result, ttl, stale)
        if self.link.up and len(result) <= _MAX_RESULT:
            value = b"%d %b\n%b" % (int(stale * 1000), b" ".join(marks), result)
            life = b"%d" % max(1, int((ttl + stale) * 1000))
            self.link.send(unread, b"SET", self._key(place), value, b"PX", life)

    def compressed(self, entry: Entry, coding: bytes) -> Stem | None:
        """The response with a result in memory, but for its end, compressed."""
        return self.memory.compressed(entry, coding)

    def release(self, places: Sequence[Place]) -> None:
        """Let another replica lead; whoever waits finds the result, or asks."""
        lead = self._lead_key(places)
        if self._leading.pop(lead, None) is not None and self.link.up:
            self.link.send(unread, b"DEL", lead)

    def purge(self, tags: Sequence[bytes], done: Callable[[], None] = nothing) -> None:
        """Make everything with one of these tags old: here, in Redis, in every replica."""
        self.memory.purge(tags)
        if not self.link.up:
            done()
            return
        self.link.send(unread, b"DEL", *(self._mark(tag) for tag in tags))
        self.link.send(lambda _: done(), b"PUBLISH", self._purges, b"\n".join(tags))

    def sweep(self) -> None:
        """Keep the leads of calls that are still in flight; twice a second."""
        for lead in self._leading:
            self.link.send(unread, b"PEXPIRE", lead, b"%d" % int(LEAD_LIFE * 1000))

    async def hear_purges(self) -> None:
        """Drop what other replicas purge, for as long as the sidecar runs."""
        while True:
            with contextlib.suppress(Exception):  # because what answers may be no Redis
                await self._hear()
            heed_cancellation()
            await asyncio.sleep(RECONNECT_INTERVAL)

    async def _hear(self) -> None:
        """Drop what other replicas purge, for as long as the connection lasts."""
        address = self.link.address
        where: dict[str, Any] = {}
        if address.seeds:  # in a cluster every node passes on what is published at any
            where["host"], where["port"] = self.link.place or await address.find()
        client = address.client(socket_connect_timeout=1.0, **where)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(self._purges)
                self.memory.marks.forget()  # what was purged before is known to Redis alone
                async for message in channel.listen():
                    self.memory.purge(message["data"].split(b"\n"))
        finally:
            with contextlib.suppress(Exception):
                await client.aclose()

    def _key(self, place: Place) -> bytes:
        return self.link.prefix + b"result:" + place.key.hex().encode()

    def _mark(self, tag: bytes) -> bytes:
        return self.link.prefix + b"mark:" + tag

    def _lead_key(self, places: Sequence[Place]) -> bytes:
        return self.link.prefix + b"lead:" + places[-1].key.hex().encode()


def _read(place: Place, value: bytes | None, left: int, found: dict[bytes, bytes | None]) -> Entry | None:
    """The entry in a string of Redis, if it is whole and all its marks are as they were."""
    if value is None or left <= 0:
        return None
    head, _, result = value.partition(b"\n")
    stale, _, written = head.partition(b" ")
    marks = written.split()
    if not stale.isdigit() or [found.get(tag) for tag in place.tags] != marks:
        return None
    now = time.monotonic()
    until = now + left / 1000
    return Entry(place, result, tuple(marks), until - int(stale) / 1000, until)


def _are_values(answer: Any, count: int) -> bool:
    """Whether Redis has answered with so many strings, or nothing in place of some."""
    return (
        isinstance(answer, list)
        and len(answer) == count
        and all(value is None or isinstance(value, bytes) for value in answer)
    )
