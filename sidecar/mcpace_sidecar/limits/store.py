"""The seam behind which levels are kept, in memory and in Redis.

The in-memory twin is the laptop's store, and each replica's own while Redis is down.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpace_sidecar.limits.bucket import Charges, Verdict


class LimitStore:
    """Where levels are kept."""

    def take(self, charges: Charges) -> Verdict | None:
        """Take all charges or none: the verdict, or None: whoever has them must be asked."""
        raise NotImplementedError

    def ask(self, charges: Charges, done: Callable[[Verdict], None]) -> None:
        """The same of whoever has them; `done` is told the verdict, later."""
        raise NotImplementedError

    def give(self, charges: Charges, since: float) -> None:
        """Give back what one call took, as nearly as can be and never more: it has turned out to be none.

        `since`: when the call began, in seconds of the monotonic clock.
        """
        raise NotImplementedError

    def look(self, charges: Charges, done: Callable[[list[float] | None], None]) -> None:
        """Tell `done` what is left of each, taking nothing; None: whoever has them does not answer."""
        raise NotImplementedError

    def reset(self, charges: Charges, done: Callable[[bool], None]) -> None:
        """Make each whole again; `done` is told whether that is so now."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many buckets and quotas are held in memory."""
        raise NotImplementedError
