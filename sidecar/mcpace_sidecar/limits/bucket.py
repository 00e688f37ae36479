"""The arithmetic of token buckets and day quotas; no clock, no I/O.

A bucket of `capacity` tokens refills evenly within a minute; a quota of `capacity`
starts anew at each UTC midnight. All charges of one call are taken, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

MINUTE: Final = 60.0
DAY: Final = 86_400.0

Kind = Literal["minute", "day", "tool"]


class Charge(msgspec.Struct, frozen=True):
    """What one call takes from one bucket or, where the kind is `day`, from one quota."""

    key: str
    kind: Kind
    capacity: int
    amount: int = 1

    @property
    def daily(self) -> bool:
        """Whether it is a quota of the UTC day."""
        return self.kind == "day"


class Verdict(msgspec.Struct, frozen=True):
    """Whether a call may go on, and if not, when."""

    allowed: bool
    retry_after: float = 0.0
    """Seconds until the same call would be allowed, if no other came first."""
    kind: Kind | None = None
    """The limit that refused: the one that takes longest to allow the call again.
    None where no limit could be asked."""


ALLOWED: Final = Verdict(allowed=True)


class Level:
    """What is left in a bucket or quota, at a time in seconds since the epoch."""

    __slots__ = ("at", "capacity", "left", "midnight")

    def __init__(self, capacity: int, at: float) -> None:
        self.capacity = capacity
        self.left = float(capacity)
        self.at = at
        self.midnight = at - at % DAY + DAY

    def advance(self, charge: Charge, now: float) -> None:
        """Refill up to `now`, under the charge's capacity, which may have changed.

        A bucket keeps its tokens, a quota what was used of it. A clock that goes back refills
        nothing.
        """
        capacity = charge.capacity
        if charge.kind == "day":
            if capacity != self.capacity:
                self.left += capacity - self.capacity
            if now >= self.midnight:
                self.left = capacity
                self.midnight = now - now % DAY + DAY
        else:
            left = self.left
            if now > self.at:
                left += (now - self.at) * capacity / MINUTE
            self.left = min(capacity, left)
        self.capacity = capacity
        self.at = max(self.at, now)

    def wait(self, charge: Charge) -> float:
        """Seconds until the charge fits; 0 if it fits now. The level must have been advanced."""
        missing = charge.amount - self.left
        if missing <= 0:
            return 0.0
        return DAY - self.at % DAY if charge.kind == "day" else missing * MINUTE / charge.capacity


def refusal(levels: Sequence[Level], charges: Sequence[Charge]) -> Verdict:
    """The verdict where at least one of the charges does not fit."""
    waits = [level.wait(charge) for level, charge in zip(levels, charges, strict=True)]
    longest = max(waits)
    return Verdict(allowed=False, retry_after=longest, kind=charges[waits.index(longest)].kind)


def share(charges: Sequence[Charge], replicas: int) -> Iterator[Charge]:
    """The charges against one replica's part of each limit; never less than the call itself."""
    for charge in charges:
        capacity = max(charge.amount, charge.capacity // max(1, replicas))
        yield Charge(charge.key, charge.kind, capacity, charge.amount)
