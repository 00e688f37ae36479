"""How often the pages of one result are read: no limit counts that, so it has a bound of its own."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from mcpace_sidecar.bounded import make_room

A_MINUTE: Final = 600
"""Pages of one result that may be read in a minute, and at once."""
_REMEMBERED: Final = 10_000
_ROUNDED: Final = 1e-6


class PageRate:
    """A bucket for each result whose pages are read, by where it is kept."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._full_at: dict[bytes, float] = {}
        """When each bucket is full again."""

    def wait(self, key: bytes) -> float:
        """Seconds until a page may be read; 0: now, and it is counted."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + 60 / A_MINUTE
        if full_at > now + 60 + _ROUNDED:
            return full_at - now - 60
        if key not in self._full_at:
            make_room(self._full_at, _REMEMBERED)
        self._full_at[key] = full_at
        return 0.0

    def __len__(self) -> int:
        return len(self._full_at)
