"""The seam behind which results are kept, in memory and in Redis.

Whatever is not known at once is told later, by a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mcpace_sidecar.cache.entry import Entry, Miss, Place
from mcpace_sidecar.http.compression import Stem


def nothing() -> None:
    """What is called back where nobody waits."""


class ResultStore(Protocol):
    """Where results are kept. Nothing here raises."""

    def near(self, key: bytes) -> Entry | None:
        """A result at hand, or None."""

    def far(self, places: Sequence[Place], life: float, done: Callable[[Entry | Miss], None]) -> None:
        """Look wherever else results are kept, the first place first; now or later `done` is told.

        `life` is how long, in seconds, the result of a miss may be kept.
        """

    def keep(self, place: Place, marks: tuple[bytes, ...], result: bytes, ttl: float, stale: float) -> None:
        """Keep a result, fresh for `ttl` seconds and of use for `stale` more."""

    def compressed(self, entry: Entry, coding: bytes) -> Stem | None:
        """The response with a result at hand, but for its end, compressed; None: it is not worth it."""

    def release(self, places: Sequence[Place]) -> None:
        """No longer lead: the call has ended, kept or not."""

    def purge(self, tags: Sequence[bytes], done: Callable[[], None] = nothing) -> None:
        """Make everything with one of these tags old, in every replica; then `done` is called."""
