"""Tokens taken from Redis ahead of their use, so that a busy client costs few trips. Pure.

A lease is deducted before it is used, so all replicas together never grant more than the
buckets hold. It is small beside every bucket it comes from (50 ms of refill, and a quarter
of the size over all replicas), doubles only while it is used up in time, and what is left
of it at its end is given back. It ends before the UTC day does, so no day pays for another.
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.limits.bucket import MINUTE, Charges

LIFE: Final = 1.0
"""Seconds a lease may be used."""
REFILL_WINDOW: Final = 0.05
"""Seconds of a bucket's refill that a lease may hold."""
REFUSAL_LIFE: Final = 60.0
"""Seconds a refusal is remembered at most, so that a raised or forgotten limit is noticed."""


def largest(charges: Charges, replicas: int) -> int:
    """The most calls that may be leased at once."""
    sizes = [
        min(
            charge.capacity / charge.amount / (4 * max(1, replicas)),
            charge.rate / charge.amount / MINUTE * REFILL_WINDOW if charge.rate else charge.capacity,
        )
        for charge in charges.items
    ]
    return max(1, int(min(sizes)))


class Lease:
    """What is left of the calls taken ahead for one client and kind of call."""

    __slots__ = ("asking", "calls", "charges", "ends", "kind", "left", "refused_until", "retry_at", "size")

    def __init__(self, charges: Charges) -> None:
        self.charges = charges
        self.calls = 0
        """Calls that may still be made."""
        self.ends = 0.0
        self.size = 1
        """Calls to ask for next."""
        self.asking = False
        self.left: list[float] = []
        """What Redis had left of each charge, less what was used here."""
        self.refused_until = 0.0
        """Until then calls are refused without asking."""
        self.retry_at = 0.0
        """When the refused call would be allowed."""
        self.kind: int = 0
        """The index of the charge that refused."""

    def use(self, now: float) -> bool:
        """Take one leased call, if there is one in time."""
        if self.calls and now < self.ends:
            self.calls -= 1
            return True
        return False

    def use_again(self, now: float) -> bool:
        """Take back a call that was not made after all, if it can still be made in time."""
        if now < self.ends:
            self.calls += 1
            return True
        return False

    @property
    def low(self) -> bool:
        """Whether it is time to ask for more: half is used."""
        return self.calls * 2 <= self.size

    def granted(self, calls: int, left: list[float], ends: float) -> None:
        """Redis granted this many calls, to be used until `ends`."""
        self.calls += calls
        self.ends = ends
        self.left = left
        self.refused_until = 0.0

    def grow(self, replicas: int) -> None:
        """It was used up in time: ask for twice as much."""
        self.size = min(self.size * 2, largest(self.charges, replicas))

    def shrink(self) -> int:
        """It ended with calls unused: begin small again, and return what is to be given back."""
        unused, self.calls, self.size = self.calls, 0, 1
        return unused
