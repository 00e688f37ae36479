"""A kept result, where it is kept, and the marks by which it is known to be still true.

Every result carries the marks of what it depends on: everything, its tool or list, and, if it
is private, its client and the credential that the server accepted. A mark is a random word;
dropping it makes all that carry it old at once, wherever they are kept. A result without all
of its marks is never answered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.http.compression import Stem

ALL: Final = b"all"
REMEMBERED: Final = 50_000
"""Marks of clients and credentials that are held at most; those of tools and lists are as many as these."""

_NEWEST: Final = 16
"""Marks that were made just now, and will be carried soon."""
OVERHEAD: Final = 600
"""Bytes that an entry costs beside its result: key, tags, objects, dict slots."""
PRIVATE: Final = 550
"""Bytes more of one that only one client may have: the tags and marks of client and credential."""


class Place:
    """Where the result of a call would be kept: its key, and the tags whose marks it carries."""

    __slots__ = ("key", "tags")

    def __init__(self, key: bytes, tags: tuple[bytes, ...]) -> None:
        self.key = key
        self.tags = tags

    @property
    def private(self) -> bool:
        """Whether only one client may have what is kept here."""
        return len(self.tags) > 2

    def __repr__(self) -> str:
        return f"<Place {self.key.hex()} {self.tags}>"


class Entry:
    """A kept result. Times are of the monotonic clock, in seconds."""

    __slots__ = (
        "checked",
        "compressed",
        "fresh_until",
        "marks",
        "place",
        "result",
        "size",
        "until",
        "used",
    )

    def __init__(
        self, place: Place, result: bytes, marks: tuple[bytes, ...], fresh_until: float, until: float
    ) -> None:
        self.place = place
        self.result = result
        self.marks = marks
        self.fresh_until = fresh_until
        """Until then it is as good as a new one."""
        self.until = until
        """Until then it may stand in, as its tool's rule says."""
        self.used = False
        """Whether it was answered since it was last considered for forgetting."""
        self.checked = -1
        """The version of the marks under which it was last found true."""
        self.compressed: dict[bytes, Stem | None] | None = None
        """The result in the codings that it was asked for in; None in one that is not worth it."""
        self.size = len(result) + OVERHEAD + (PRIVATE if place.private else 0)
        """Bytes that it costs in all."""


class Miss:
    """Nothing fresh is kept. `marks` are those of each place, to be stored with the new result."""

    __slots__ = ("leading", "marks", "stale")

    def __init__(
        self, marks: Sequence[tuple[bytes, ...]], *, leading: bool, stale: Entry | None = None
    ) -> None:
        self.marks = tuple(marks)
        self.leading = leading
        """Whether this replica is the one to ask the server; if not, another is asking now."""
        self.stale = stale
        """A result that is not fresh any more."""


class Marks:
    """The marks as this replica knows them.

    Anybody can make a new client or credential, so of theirs the oldest are forgotten: those first that
    nothing carries. What everything of a tool or list depends on is never forgotten for them.
    """

    __slots__ = ("_carried", "_carriers", "_common", "_known", "version")

    def __init__(self) -> None:
        self.version = 0
        """Changes whenever what was true may not be any more."""
        self._common: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes] = {}
        """Those of clients and credentials that nothing carries."""
        self._carried: dict[bytes, bytes] = {}
        self._carriers: dict[bytes, int] = {}
        """How many of what is kept carry a tag of a client or credential."""

    def carry(self, tags: Sequence[bytes]) -> None:
        """Something with these tags is kept now."""
        for tag in tags:
            if personal(tag):
                carriers = self._carriers.get(tag, 0)
                self._carriers[tag] = carriers + 1
                if not carriers and tag in self._known:
                    self._carried[tag] = self._known.pop(tag)

    def let_go(self, tags: Sequence[bytes]) -> None:
        """Something with these tags is kept no more."""
        for tag in tags:
            if personal(tag):
                carriers = self._carriers[tag] - 1
                if carriers:
                    self._carriers[tag] = carriers
                    continue
                del self._carriers[tag]
                if tag in self._carried:
                    self._known[tag] = self._carried.pop(tag)

    def let_all_go(self) -> None:
        """Nothing is kept any more."""
        self._carriers.clear()
        self._known |= self._carried
        self._carried.clear()

    def holds(self, entry: Entry) -> bool:
        """Whether everything that the entry depends on is as it was."""
        if entry.checked == self.version:
            return True
        for tag, mark in zip(entry.place.tags, entry.marks, strict=True):
            if self._get(tag) != mark:
                return False
        entry.checked = self.version
        return True

    def of(self, tags: Sequence[bytes]) -> tuple[bytes, ...]:
        """The marks of these tags, made where there are none."""
        marks = []
        for tag in tags:
            mark = self._get(tag)
            if mark is None:
                mark = new_mark()
                self.learn(tag, mark)
            marks.append(mark)
        return tuple(marks)

    def learn(self, tag: bytes, mark: bytes) -> None:
        """Take a mark from Redis."""
        old = self._get(tag)
        if old == mark:
            return
        if old is not None:
            self.version += 1
        if old is None and personal(tag) and len(self._known) + len(self._carried) >= REMEMBERED:
            oldest = self._known if len(self._known) > _NEWEST else self._carried
            make_room(oldest, len(oldest))
            self.version += 1
        self._table(tag)[tag] = mark

    def drop(self, tag: bytes) -> None:
        """Everything with this tag is old."""
        if self._table(tag).pop(tag, None) is not None:
            self.version += 1

    def forget(self) -> None:
        """Nothing is known for sure any more: every entry is looked up in Redis, or old."""
        self._known.clear()
        self._carried.clear()
        self._common.clear()
        self.version += 1

    def _get(self, tag: bytes) -> bytes | None:
        return self._table(tag).get(tag)

    def _table(self, tag: bytes) -> dict[bytes, bytes]:
        """Where the mark of a tag is, if there is one."""
        if not personal(tag):
            return self._common
        return self._carried if tag in self._carriers else self._known

    def __len__(self) -> int:
        return len(self._known) + len(self._carried) + len(self._common)


def client_tag(client: str) -> bytes:
    """The tag of everything that is private to one client."""
    return b"client:" + client.encode()


def credential_tag(digest: bytes) -> bytes:
    """The tag of everything that one credential may see."""
    return b"credential:" + digest.hex().encode()


def personal(tag: bytes) -> bool:
    """Whether a tag is of one client or credential."""
    return tag.startswith((b"client:", b"credential:"))


def new_mark() -> bytes:
    """A mark that was never used before."""
    return os.urandom(6).hex().encode()
