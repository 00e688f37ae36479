"""What replicas share: the seams `LimitStore` and `ResultStore`, in memory and in Redis.

The in-memory twins are the laptop's stores, and each replica's own while Redis is down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from mcpace_sidecar.limits.bucket import Charge, Verdict


class LimitStore(Protocol):
    """Where levels are kept."""

    def take(self, charges: Sequence[Charge]) -> Verdict | Awaitable[Verdict]:
        """Take all charges or none; at once where nothing must be waited for."""


class ResultStore(Protocol):
    """Where results are kept beyond one replica's memory."""

    def near(self, key: bytes) -> bytes | None:
        """A result at hand, or None."""

    async def far(self, key: bytes) -> bytes | None:
        """A result that another replica kept, or None; never raises."""

    def keep(self, key: bytes, result: bytes, ttl: float) -> None:
        """Keep a result for `ttl` seconds; does not wait, never raises."""

    @property
    def shared(self) -> bool:
        """Whether asking `far` can help now."""
