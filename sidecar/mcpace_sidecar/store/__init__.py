"""What replicas share: `LimitStore`, `ConversationStore`, `ResultStore`, each in memory and in Redis.

The in-memory twins are the laptop's stores, and each replica's own while Redis is down.
Whatever is not known at once is told later, by a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mcpace_sidecar.cache.entry import Entry, Miss, Place
from mcpace_sidecar.compression import Stem
from mcpace_sidecar.limits.bucket import Charges, Verdict


def nothing() -> None:
    """What is called back where nobody waits."""


class LimitStore(Protocol):
    """Where levels are kept."""

    def take(self, charges: Charges, done: Callable[[Verdict], None]) -> Verdict | None:
        """Take all charges or none: the verdict, or None, and `done` is told it later."""

    def give(self, charges: Charges, since: float) -> None:
        """Give back what one call took, as nearly as can be and never more: it has turned out to be none.

        `since`: when the call began, in seconds of the monotonic clock.
        """

    def __len__(self) -> int:
        """How many buckets and quotas are held in memory."""


class ConversationStore(Protocol):
    """Where it is kept which calls may go on uncounted: those of which the server has asked something."""

    def asked(self, key: bytes, rounds: int) -> None:
        """The server wants to know more before it answers; so often it had asked before."""

    def continues(self, key: bytes, done: Callable[[int], None]) -> int | None:
        """How often the server had asked when a call goes on with that; None: `done` is told it later."""

    def __len__(self) -> int:
        """How many are held in memory."""


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
