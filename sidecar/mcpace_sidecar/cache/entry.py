"""A kept result, where it is kept, and the marks by which it is known to be still true.

Every result carries the marks of what it depends on: everything, its tool or list, and, if it
is private, its client and the credential that the server accepted. A mark is a random word;
dropping it makes all that carry it old at once, wherever they are kept. A result without all
of its marks is never answered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

ALL: Final = b"all"
REMEMBERED: Final = 50_000
"""Marks of clients and credentials that are held at most; those of tools and lists are as many as these."""


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

    __slots__ = ("checked", "fresh_until", "marks", "place", "result", "until", "used")

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

    __slots__ = ("_carried", "_common", "_known", "version")

    def __init__(self, carried: Callable[[], AbstractSet[bytes]] = frozenset) -> None:
        """`carried`: the tags of everything that is kept now."""
        self.version = 0
        """Changes whenever what was true may not be any more."""
        self._carried = carried
        self._common: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes] = {}

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
        if not personal(tag):
            self._common[tag] = mark
            return
        if old is None and len(self._known) >= REMEMBERED:
            self._make_room()
        self._known[tag] = mark

    def drop(self, tag: bytes) -> None:
        """Everything with this tag is old."""
        marks = self._known if personal(tag) else self._common
        if marks.pop(tag, None) is not None:
            self.version += 1

    def forget(self) -> None:
        """Nothing is known for sure any more: every entry is looked up in Redis, or old."""
        self._known.clear()
        self._common.clear()
        self.version += 1

    def _get(self, tag: bytes) -> bytes | None:
        return self._known.get(tag) if personal(tag) else self._common.get(tag)

    def _make_room(self) -> None:
        """Forget the oldest sixteenth that nothing carries; where all is carried, the oldest."""
        carried = self._carried()
        some = REMEMBERED // 16
        old = list(islice((tag for tag in self._known if tag not in carried), some))
        for tag in old or list(islice(self._known, some)):
            del self._known[tag]
        self.version += 1

    def __len__(self) -> int:
        return len(self._known) + len(self._common)


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
