"""What is remembered is bounded: where there is no room, the oldest is forgotten."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final


def make_room(remembered: dict[Any, Any], limit: int) -> None:
    """Forget the oldest sixteenth of what holds `limit` entries or more.

    Not one entry at a time: a dict finds its first by passing all that were deleted before it.
    """
    if len(remembered) >= limit:
        for key in list(islice(remembered, max(1, limit // 16))):
            del remembered[key]


class Round:
    """Goes round the keys of a table, some at a time: so nobody waits until all are looked at.

    What is added meanwhile comes in the next round, and what is gone is passed over.
    """

    __slots__ = ("_keys", "_table")

    def __init__(self, table: dict[Any, Any]) -> None:
        self._table = table
        self._keys: list[Any] = []
        """Those that are still to come in this round, the next one last."""

    def some(self, count: int) -> list[Any]:
        """At most so many keys, oldest first; none at the end of a round, or where there are none."""
        if not self._keys:
            self._keys = list(self._table)
            self._keys.reverse()
        taken: list[Any] = self._keys[-count:]
        del self._keys[-count:]
        taken.reverse()
        return [key for key in taken if key in self._table]


SWEPT: Final = 1000
"""Entries of a table that are looked at in one sweep."""
