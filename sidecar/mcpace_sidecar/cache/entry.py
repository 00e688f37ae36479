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

ALL: Final = b"all"
_REMEMBERED: Final = 50_000


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
    """The marks as this replica knows them."""

    __slots__ = ("_known", "version")

    def __init__(self) -> None:
        self.version = 0
        """Changes whenever what was true may not be any more."""
        self._known: dict[bytes, bytes] = {}

    def holds(self, entry: Entry) -> bool:
        """Whether everything that the entry depends on is as it was."""
        if entry.checked == self.version:
            return True
        known = self._known
        for tag, mark in zip(entry.place.tags, entry.marks, strict=True):
            if known.get(tag) != mark:
                return False
        entry.checked = self.version
        return True

    def of(self, tags: Sequence[bytes]) -> tuple[bytes, ...]:
        """The marks of these tags, made where there are none."""
        for tag in tags:
            if tag not in self._known:
                self.learn(tag, new_mark())
        return tuple(self._known[tag] for tag in tags)

    def learn(self, tag: bytes, mark: bytes) -> None:
        """Take a mark from Redis."""
        old = self._known.get(tag)
        if old != mark:
            if old is not None:
                self.version += 1
            elif len(self._known) >= _REMEMBERED:
                self.forget()
            self._known[tag] = mark

    def drop(self, tag: bytes) -> None:
        """Everything with this tag is old."""
        if self._known.pop(tag, None) is not None:
            self.version += 1

    def forget(self) -> None:
        """Nothing is known for sure any more: every entry is looked up in Redis, or old."""
        self._known.clear()
        self.version += 1


def new_mark() -> bytes:
    """A mark that was never used before."""
    return os.urandom(6).hex().encode()
