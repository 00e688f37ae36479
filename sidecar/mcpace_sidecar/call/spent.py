"""The ids of requests that have ended: what comes late with one of them is theirs, and nobody else's."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.mcp import ids

REMEMBERED: Final = 8192
"""Ids that are remembered at least; at most twice as many."""


class Spent:
    """The ids with which requests have lately ended, as hashes: an id may be long."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()

    def add(self, message_id: bytes, value: int | str | None = None) -> None:
        """A request with this id has ended. `value`: the id decoded, where it has been."""
        if len(self._now) >= REMEMBERED:
            self._before, self._now = self._now, set()
        self._now.add(_key(message_id) if value is None else hash(ids.value_of(value)))

    def __contains__(self, message_id: bytes) -> bool:
        key = _key(message_id)
        return key in self._now or key in self._before

    def __len__(self) -> int:
        return len(self._now) + len(self._before)


def _key(message_id: bytes) -> int:
    """The same for all spellings of a value."""
    return hash(ids.id_value(message_id))
